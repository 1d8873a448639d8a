"""Connections of a ROUTER that are over before anybody looks at them."""

from __future__ import annotations

import socket
import struct

import pytest

from fastlog.broker.peers.client import PeerClient
from fastlog.broker.peers.messages import Answer, AskSnapshot
from fastlog.broker.peers.ports import ADMIN
from fastlog.broker.peers.server import CommandTable
from fastlog.events import EventLog
from fastlog.transport import connections as module
from fastlog.transport.connections import Connections
from tests.support.peers import CLUSTER, LIMITS, Answers, PeerServer

LINGER_NOT = struct.pack("ii", 1, 0)


class Accepted:
    """A monitor that tells of one connection."""

    def __init__(self) -> None:
        self._frames = [[struct.pack("=HI", 0x0020, 5), b""]]

    def recv_multipart(self, flags: int) -> list[bytes]:
        return self._frames.pop(0)

    def __bool__(self) -> bool:
        return bool(self._frames)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Connections:
    made = Connections.__new__(Connections)
    made._open, made._known = {}, {}
    made._limits = LIMITS.connections
    made._monitor = Accepted()  # type: ignore[assignment]
    monkeypatch.setattr(module, "readable", bool)
    return made


@pytest.mark.parametrize("kind", [socket.AF_INET, socket.AF_UNIX])
def test_a_connection_that_ended_between_two_looks(
    watch: Connections, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    if kind == socket.AF_INET:
        monkeypatch.setattr(module, "_duplicate", lambda descriptor: socket.socket())
    else:
        # the number is another socket's by now
        monkeypatch.setattr(module, "_duplicate", lambda descriptor: socket.socketpair()[0])
    watch.update(EventLog("test"))
    assert len(watch) == 0


def test_a_listener_outlives_peers_that_only_look() -> None:
    with PeerServer(2) as server:
        server.commands.on(AskSnapshot, lambda command, answered: answered(Answer()))
        for number in range(300):
            with socket.create_connection(("127.0.0.1", server.port)) as probe:
                if number % 2:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        client = PeerClient(1, CLUSTER, CommandTable().take)
        client.start()
        client.know([server.registration])
        answers = Answers()
        client.ask(2, AskSnapshot(), answers.of(""), timeout_ms=10_000, lane=ADMIN)
        assert answers.next()[1].code == 0
        client.stop()
