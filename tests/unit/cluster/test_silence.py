"""What a broker that finds no ZooKeeper says of each server."""

from __future__ import annotations

import errno
import socket

import pytest

from fastlog.cluster.zookeeper import silence
from fastlog.cluster.zookeeper.silence import why_silent
from fastlog.testing.ports import free_ports


def test_what_listens_and_is_no_zookeeper_is_told_from_what_does_not_listen() -> None:
    (free,) = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        assert why_silent(f"127.0.0.1:{free},127.0.0.1:{taken}") == (
            f"127.0.0.1:{free} refuses connections, so nothing listens there, "
            f"127.0.0.1:{taken} takes connections, but is no ZooKeeper, or one that serves nobody now"
        )


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (socket.gaierror(-2, "Name or service not known"), "zk:2181 has a name that does not resolve"),
        (
            TimeoutError("timed out"),
            "zk:2181 is silent, as behind a firewall or where there is no such machine",
        ),
        (
            OSError(errno.ENETUNREACH, "Network is unreachable"),
            "zk:2181 is not reached (Network is unreachable)",
        ),
        (OSError("no address"), "zk:2181 is not reached (no address)"),
    ],
)
def test_what_is_in_the_way(monkeypatch: pytest.MonkeyPatch, error: OSError, says: str) -> None:
    def fails(address: tuple[str, int], _timeout: float) -> socket.socket:
        assert address == ("zk", 2181)
        raise error

    monkeypatch.setattr(silence.socket, "create_connection", fails)
    assert why_silent("zk:2181") == says


def test_an_address_of_version_6_has_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fails(address: tuple[str, int], _timeout: float) -> socket.socket:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(silence.socket, "create_connection", fails)
    assert why_silent("[::1]:2181") == "[::1]:2181 refuses connections, so nothing listens there"
    assert asked == [("::1", 2181)]
