"""A ZeroMQ SUB socket that listens to many publishers, whichever of them speaks.

Connections come back by themselves: a publisher that was started again at its address is heard again. What was said
meanwhile is lost, and so is whatever comes faster than it is taken.
"""

from __future__ import annotations

import os
import select
import threading
import time
from typing import TYPE_CHECKING

import zmq

from fastlog.events import EventLog
from fastlog.transport.binding import resolved
from fastlog.transport.dealer import MESSAGE_BYTES_MAX, NO_WAIT, readable

if TYPE_CHECKING:
    from collections.abc import Iterable

Address = tuple[str, int]

QUEUE_MESSAGES = 1000
RECONNECT_MS, RECONNECT_MS_MAX = 100, 1_000
CONNECT_MS = 2_000
# a publisher that says nothing may have lost its host, or the way to it: its connection is made anew after that
HEARTBEAT_INTERVAL_MS, HEARTBEAT_TIMEOUT_MS = 2_000, 4_000
# a name that does not resolve is tried again so often
RESOLVE_SECONDS = 1.0


class Subscriber:
    """Listens from `listen_to` to `close`. One thread receives; `listen_to` and `wake` may be called from any."""

    def __init__(self, prefix: bytes = b"") -> None:
        """Hears the messages that begin with `prefix`, which publishers do not even send to those who want others."""
        self._log = EventLog("metadata")
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._configure(prefix)
        self._descriptor = int(self._socket.getsockopt(zmq.FD))
        self._lock = threading.Lock()
        self._wanted: frozenset[Address] | None = None
        #: endpoints by address; None for one that did not resolve
        self._connected: dict[Address, str | None] = {}
        self._resolve_at = float("inf")
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def _configure(self, prefix: bytes) -> None:
        for option, value in (
            (zmq.RCVHWM, QUEUE_MESSAGES),
            (zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX),
            (zmq.LINGER, 0),
            (zmq.IPV6, 1),
            (zmq.RECONNECT_IVL, RECONNECT_MS),
            (zmq.RECONNECT_IVL_MAX, RECONNECT_MS_MAX),
            (zmq.CONNECT_TIMEOUT, CONNECT_MS),
            (zmq.HANDSHAKE_IVL, CONNECT_MS),
            (zmq.HEARTBEAT_IVL, HEARTBEAT_INTERVAL_MS),
            (zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS),
        ):
            self._socket.set(option, value)
        self._socket.set(zmq.SUBSCRIBE, prefix)

    def listen_to(self, publishers: Iterable[Address]) -> None:
        """Says where all publishers are; others are not listened to any more. Takes effect in `receive`."""
        with self._lock:
            self._wanted = frozenset(publishers)
        self.wake()

    def wake(self) -> None:
        """Ends a `receive` that waits, or the next one; not one for each call."""
        try:
            os.write(self._wake_write, b"x")
        except BlockingIOError:
            # it is full of calls that were not noticed yet
            return

    def receive(self, timeout_ms: float) -> bytes | None:
        """The next message; None after `timeout_ms` or a `wake`. Messages that wait go first."""
        self._reconnect()
        deadline = time.monotonic() + timeout_ms / 1000
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        poller.register(self._wake_read, select.POLLIN)
        while True:
            # libzmq's descriptor tells only of what came after this look
            if readable(self._socket):
                return self._take()
            left = min(deadline, self._resolve_at) - time.monotonic()
            ready = [descriptor for descriptor, _ in poller.poll(max(0.0, left) * 1000)]
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                self._reconnect()
                return None
            if self._resolve_at <= time.monotonic():
                self._reconnect()
            if not ready and time.monotonic() >= deadline:
                return None

    def close(self) -> None:
        """Ends all connections; the thread that receives has ended. Again is harmless."""
        if not self._socket.closed:
            self._socket.close(linger=0)
            self._context.term()
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _take(self) -> bytes:
        frames = self._socket.recv_multipart(NO_WAIT)
        return b"".join(frames)

    def _reconnect(self) -> None:
        """Brings the connections in line with what is wanted."""
        with self._lock:
            wanted, self._wanted = self._wanted, None
        if wanted is not None:
            for address in sorted(self._connected.keys() - wanted):
                endpoint = self._connected.pop(address)
                # two names may stand for one endpoint
                if endpoint is not None and endpoint not in self._connected.values():
                    self._socket.disconnect(endpoint)
            self._connected.update(dict.fromkeys(wanted - self._connected.keys()))
        elif self._resolve_at > time.monotonic():
            return
        self._connect_missing()

    def _connect_missing(self) -> None:
        self._resolve_at = float("inf")
        for address, endpoint in sorted(self._connected.items()):
            if endpoint is not None:
                continue
            try:
                found = resolved(*address)
                if found not in self._connected.values():
                    self._socket.connect(found)
                self._connected[address] = found
            except (OSError, zmq.ZMQError) as error:
                self._resolve_at = time.monotonic() + RESOLVE_SECONDS
                self._log.warning(
                    "a publisher cannot be listened to",
                    address=f"{address[0]}:{address[1]}",
                    reason=error.strerror or error,
                )
