"""Whether somebody listens at an address."""

from __future__ import annotations

import socket
import time

from fastlog.transport.probe import refuses


def test_a_port_that_is_listened_at() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        assert refuses("127.0.0.1", listening.getsockname()[1], 1.0) is False
        assert refuses("localhost", listening.getsockname()[1], 1.0) is False


def test_a_port_where_nobody_listens() -> None:
    # bound, so that nobody else takes it meanwhile
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert refuses("127.0.0.1", unused.getsockname()[1], 1.0) is True


def test_silence_is_no_refusal() -> None:
    # a full queue of connections: the kernel says nothing to one more
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        began = time.monotonic()
        assert refuses("127.0.0.1", port, 0.1) is None
        assert time.monotonic() - began < 5
        for client in waiting:
            client.close()


def test_a_name_that_does_not_resolve_is_no_refusal() -> None:
    assert refuses("no-such-host.invalid", 9, 1.0) is None


def test_a_name_that_cannot_be_one_is_silent() -> None:
    assert refuses("no..name", 9092, 0.1) is None
