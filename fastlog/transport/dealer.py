"""A ZeroMQ connection to a broker's ROUTER: one DEALER socket is one connection.

A DEALER that reconnects by itself would hide a lost peer: requests in flight vanish, queued ones reach the broker's
next incarnation later. Hence RECONNECT_IVL = -1 and IMMEDIATE = 1, and the socket monitor tells when the connection
has ended; the owner then closes the channel (LINGER 0) and opens a new one.
"""

from __future__ import annotations

import select
import struct
from typing import TYPE_CHECKING

import zmq

from fastlog.transport.binding import resolved
from fastlog.transport.channel import Bytes, ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: messages queued inside libzmq, each way; the owner bounds its unanswered requests far below
HIGH_WATER_MARK = 1000
#: an answer is no larger than this: Kafka's default for what one request may carry
MESSAGE_BYTES_MAX = 104_857_600
HEARTBEAT_INTERVAL_MS = 10_000
HEARTBEAT_TIMEOUT_MS = 30_000

MONITOR_EVENT = struct.Struct("=HI")
ENDED = {
    zmq.EVENT_DISCONNECTED: "was closed by the broker",
    zmq.EVENT_CLOSED: "could not be made: refused",
    zmq.EVENT_CONNECT_RETRIED: "could not be made: refused",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "failed in the ZeroMQ handshake; is it a ZMQ:// listener?",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "failed in the ZeroMQ handshake; is it a ZMQ:// listener?",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "was refused by the broker's authentication",
}


# plain numbers: the enums' operators take longer than the calls
NO_WAIT = int(zmq.NOBLOCK)
READABLE = int(zmq.POLLIN)


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message can be received at once. Where not, the socket's descriptor tells of the next one."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & READABLE)


class DealerContext:
    """The libzmq context of one client: owns the I/O thread."""

    def __init__(self) -> None:
        self._context = zmq.Context(io_threads=1)

    def open(self, host: str, port: int, handshake_timeout_ms: int) -> DealerChannel:
        """Starts a connection to the ROUTER at `host:port`."""
        return DealerChannel(self._context, host, port, handshake_timeout_ms)

    def close(self) -> None:
        """Ends the context; all its channels must be closed. Does not block, since no socket lingers."""
        self._context.term()


class DealerChannel:
    """A Channel over a DEALER socket. Use one DealerContext per client."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], host: str, port: int, handshake_timeout_ms: int
    ) -> None:
        self.address = f"zmq://{host}:{port}"
        self.connected = False
        self._unsent: list[tuple[Bytes, ...]] = []
        #: where parts become one message, again and again
        self._joined = bytearray()
        self._socket = context.socket(zmq.DEALER)
        self._configure(handshake_timeout_ms)
        events = zmq.EVENT_HANDSHAKE_SUCCEEDED
        for event in ENDED:
            events |= event
        self._monitor = self._socket.get_monitor_socket(events)
        self._monitor.linger = 0
        self._message_descriptor = int(self._socket.getsockopt(zmq.FD))
        self._monitor_descriptor = int(self._monitor.getsockopt(zmq.FD))
        # whether something may have come that no descriptor will tell of (again)
        self._unread = self._unseen = True
        try:
            self._socket.connect(resolved(host, port))
        except (zmq.ZMQError, OSError) as error:
            self.close()
            raise ConnectionLostError(
                f"the connection to {self.address} could not be made: {error.strerror}"
            ) from error

    def __repr__(self) -> str:
        return f"<DealerChannel {self.address}{'' if self.connected else ' connecting'}>"

    def descriptors(self) -> Sequence[tuple[int, int]]:
        """See Channel. They tell only of what came after the last look: say to `noticed` what they told, and look at
        `pending` before waiting for them.
        """
        return [(self._message_descriptor, select.POLLIN), (self._monitor_descriptor, select.POLLIN)]

    def noticed(self, ready: Sequence[int]) -> None:
        """See Channel."""
        if self._message_descriptor in ready:
            self._unread = True
        if self._monitor_descriptor in ready:
            self._unseen = True

    def advance(self) -> None:
        """See Channel."""
        while self._unseen:
            if not readable(self._monitor):
                self._unseen = False
                break
            frames = self._monitor.recv_multipart(zmq.NOBLOCK)
            event, _ = MONITOR_EVENT.unpack(frames[0])
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.connected = True
            elif event in ENDED:
                raise ConnectionLostError(f"the connection to {self.address} {ENDED[event]}")
        if self.connected and self._unsent:
            unsent, self._unsent = self._unsent, []
            for parts in unsent:
                self.send(*parts)

    def send(self, *parts: Bytes) -> None:
        """See Channel."""
        if not self.connected or self._unsent:
            self._unsent.append(parts)
            return
        # sending may take note of what came, and the descriptor then tells of it no more
        self._unread = True
        try:
            # always a copy: pyzmq tells the end of a message it did not copy on a thread that needs the GIL, and beside
            # a busy application that costs more (256 KiB batches: 2.1 M records a second copied, 1.7 M not)
            self._socket.send(parts[0] if len(parts) == 1 else self._join(parts), NO_WAIT)
        except zmq.Again:
            # the connection has just ended (the monitor will say so) or libzmq's queue is full
            self._unsent.append(parts)
        except zmq.ZMQError as error:
            raise ConnectionLostError(f"the connection to {self.address} broke: {error.strerror}") from error

    def _join(self, parts: Sequence[Bytes]) -> memoryview:
        """The message of `parts`, until the next call."""
        views = [memoryview(part).cast("B") for part in parts]
        size = sum(map(len, views))
        if size > len(self._joined):
            self._joined = bytearray(size)
        whole = memoryview(self._joined)[:size]
        at = 0
        for view in views:
            whole[at : at + len(view)] = view
            at += len(view)
        return whole

    def receive(self) -> list[Bytes]:
        """See Channel."""
        messages: list[Bytes] = []
        while self._unread:
            if not readable(self._socket):
                self._unread = False
                break
            try:
                frame = self._socket.recv(NO_WAIT, copy=False)
            except zmq.Again:
                continue
            message = frame.bytes
            if frame.more:
                message = b"".join([message, *self._socket.recv_multipart(NO_WAIT)])
            messages.append(message)
        if messages and not self.connected:
            self.advance()
            if not self.connected:
                # libzmq takes any first bytes for an old peer's that needs no handshake
                raise ConnectionLostError(
                    f"what answers at {self.address} does not speak ZeroMQ's protocol 3"
                )
        return messages

    def pending(self) -> bool:
        """See Channel."""
        if self._unread:
            self._unread = readable(self._socket)
        if self._unseen:
            self._unseen = readable(self._monitor)
        return self._unread or self._unseen

    def backlog(self) -> int:
        """See Channel."""
        return len(self._unsent)

    def close(self) -> None:
        """See Channel."""
        self.connected = False
        self._unsent.clear()
        if not self._socket.closed:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
            self._socket.close(linger=0)

    def _configure(self, handshake_timeout_ms: int) -> None:
        dealer = self._socket
        dealer.linger = 0
        dealer.reconnect_ivl = -1
        dealer.immediate = 1
        dealer.ipv6 = True
        dealer.sndhwm = HIGH_WATER_MARK
        dealer.rcvhwm = HIGH_WATER_MARK
        dealer.maxmsgsize = MESSAGE_BYTES_MAX
        dealer.connect_timeout = handshake_timeout_ms
        dealer.handshake_ivl = handshake_timeout_ms
        dealer.heartbeat_ivl = HEARTBEAT_INTERVAL_MS
        dealer.heartbeat_timeout = HEARTBEAT_TIMEOUT_MS
