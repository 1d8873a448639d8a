"""Somebody else's requests while a broker is under attack, and the memory that it takes meanwhile."""

from __future__ import annotations

import re
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from tests.support.wire import API_VERSIONS, RawConnection, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.broker import BrokerProcess

#: an answer that takes longer counts as none
ANSWER_SECONDS = 20.0
PAUSE_SECONDS = 0.01
MIB = 1 << 20


class Onlooker:
    """Asks by TCP and by ZeroMQ from entry to exit; then every question has its answer, and at least one was asked
    while the attack was under way.
    """

    def __init__(self, broker: BrokerProcess) -> None:
        self._broker = broker
        self._over = threading.Event()
        self._answered: list[object] = []
        self._failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._watch, args=(it,)) for it in (self._tcp, self._zmq)]
        self._before_bytes = 0
        #: how much the process grew at its largest
        self.grown_bytes = 0

    def __enter__(self) -> Onlooker:
        # the high-water mark of resident memory begins anew (proc(5), clear_refs)
        Path(f"/proc/{self._broker.pid}/clear_refs").write_text("5")
        self._before_bytes = self._high_water_bytes()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        assert self._broker.is_running(), self._broker.log()
        self.grown_bytes = self._high_water_bytes() - self._before_bytes
        print(f"grown by {self.grown_bytes / MIB:.0f} MiB")
        assert not self._failed, self._failed
        assert len(self._answered) == len(self._threads)

    def _watch(self, asks: Callable[[], None]) -> None:
        try:
            asks()
            self._answered.append(asks)
        except BaseException as error:
            self._failed.append(error)

    def _tcp(self) -> None:
        count = 0
        with RawConnection(self._broker.tcp_port) as connection:
            connection.socket.settimeout(ANSWER_SECONDS)
            while not self._over.wait(PAUSE_SECONDS) or not count:
                answer = connection.ask(request(API_VERSIONS, 0, b"", correlation_id=count))
                assert answer is not None, "the onlooker's connection was closed"
                assert struct.unpack_from(">ih", answer) == (count, 0)
                count += 1

    def _zmq(self) -> None:
        count = 0
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.linger = 0
            dealer.connect(self._broker.zmq_endpoint)
            while not self._over.wait(PAUSE_SECONDS) or not count:
                dealer.send(request(API_VERSIONS, 0, b"", correlation_id=count))
                assert dealer.poll(ANSWER_SECONDS * 1000), "no answer on ZeroMQ"
                assert struct.unpack_from(">ih", dealer.recv()) == (count, 0)
                count += 1

    def _high_water_bytes(self) -> int:
        status = Path(f"/proc/{self._broker.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found, status
        return int(found[1]) * 1024
