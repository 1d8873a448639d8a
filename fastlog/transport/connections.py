"""The TCP connections below a ROUTER socket, watched from outside.

libzmq bounds a frame (MAXMSGSIZE) and counts whole messages (RCVHWM, SNDHWM), but not the frames of a message nor the
bytes of a queue: one peer that never ends its message, or never reads its answers, could take all memory (2 bytes on
the wire become 64 in memory; measured: 38 MB of empty frames, 1.1 GB). What the kernel tells of a connection gives the
missing numbers: what came in and was not delivered to us, and what we gave to libzmq and was not acknowledged. From
them a connection is ended when its message does not become whole in time, and the one that holds most when too much
memory is held. The socket's monitor tells which descriptors are connections; they stay libzmq's, so each use makes a
duplicate and first looks whether it still is the same peer's.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import termios
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import zmq

from fastlog.transport.dealer import MONITOR_EVENT, NO_WAIT, readable
from fastlog.transport.descriptors import connections_max

if TYPE_CHECKING:
    from fastlog.events import EventLog

MONITOR_ADDRESS = "inproc://connections"
# struct tcp_info of linux/tcp.h: tcpi_bytes_acked, tcpi_bytes_received (Linux 4.1)
BYTES_ACKED_AND_RECEIVED = struct.Struct("=120xQQ")
# so much may be undelivered without being part of a message: greeting and READY
HANDSHAKE_BYTES = 512
# and for each byte that libzmq itself sent: it answers a PING of 9 bytes and more with a PONG of 7 and more
HEARTBEAT_RATIO = 2
# the slowest sender that a large message's deadline is stretched for, as on TCP
MESSAGE_BYTES_PER_SECOND_MIN = 64 * 1024
# as little as this, over all connections, is nobody's fault, whatever the process's memory does
HELD_BYTES_MIN = 1024 * 1024
# struct linger: on, for no time
LINGER_NOT = struct.pack("ii", 1, 0)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds; see the settings of the same names."""

    connections_max: int
    connections_per_ip_max: int
    frame_timeout_ms: int


class Connection:
    """One connection and what is known of its bytes."""

    __slots__ = (
        "delivered",
        "descriptor",
        "heartbeats",
        "identity",
        "inbound",
        "outbound",
        "peer",
        "seen",
        "sent",
        "since",
    )

    def __init__(self, descriptor: int, peer: Any) -> None:
        self.descriptor = descriptor
        self.identity = b""
        self.peer = peer
        #: bytes of requests delivered, and of answers given to libzmq, since it opened
        self.delivered = self.sent = 0
        #: bytes that libzmq sent of its own
        self.heartbeats = 0
        #: bytes that libzmq holds, as of the last check
        self.inbound = self.outbound = 0
        #: `delivered` at the last check, and since when a message is not whole
        self.seen = 0
        self.since: float | None = None

    @property
    def held(self) -> int:
        """Bytes that libzmq holds for it, both ways."""
        return self.inbound + self.outbound


class Connections:
    """All connections of one ROUTER; made before its bind, used on the thread that owns it."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes], limits: ConnectionLimits
    ) -> None:
        self._router = router
        self._limits = limits
        self._open: dict[int, Connection] = {}
        # those that a message came by
        self._known: dict[bytes, Connection] = {}
        self._per_ip: Counter[str] = Counter()
        self._calm_bytes = resident_bytes()
        router.monitor(MONITOR_ADDRESS, int(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED))
        self._monitor = context.socket(zmq.PAIR)
        # libzmq's I/O thread would wait for us to read when this were full, holding what a close waits for
        self._monitor.rcvhwm = 0
        self._monitor.connect(MONITOR_ADDRESS)

    def __len__(self) -> int:
        """Number of open connections."""
        return len(self._open)

    def limit(self, connections_max: int, connections_per_ip_max: int) -> None:
        """Other bounds for connections that come from now on; called from any thread."""
        self._limits = msgspec.structs.replace(
            self._limits, connections_max=connections_max, connections_per_ip_max=connections_per_ip_max
        )

    def descriptor(self) -> int:
        """Readable when `update` has something to do that it did not see."""
        return int(self._monitor.getsockopt(zmq.FD))

    def update(self, log: EventLog) -> None:
        """Takes note of connections that came and went; ends those beyond the limits."""
        while readable(self._monitor):
            event, descriptor = MONITOR_EVENT.unpack(self._monitor.recv_multipart(NO_WAIT)[0])
            self._forget(descriptor)
            if event == zmq.EVENT_ACCEPTED:
                self._accepted(descriptor, log)

    def of(self, identity: bytes, frame: zmq.Frame, log: EventLog) -> Connection | None:
        """The connection that a message of `identity` came by; None where it made no handshake (ZMTP 1 and 2)."""
        connection = self._known.get(identity)
        if connection is not None:
            return connection
        # its begin was told before its first message came
        self.update(log)
        try:
            descriptor = int(frame.get(zmq.SRCFD))
        except zmq.ZMQError:
            return None
        connection = self._open.get(descriptor)
        if connection is None:
            # it has ended meanwhile, and takes its counts with it
            return Connection(-1, None)
        connection.identity = identity
        self._known[identity] = connection
        return connection

    def check(self, *, now: float, memory_bytes_max: int, delivering: bool, log: EventLog) -> None:
        """Ends connections whose message is late and, while too much memory is held, those that hold most.

        `delivering` is false while the caller takes no messages: what then waits is not the peers' fault.
        """
        for connection in list(self._open.values()):
            if not self._look(connection):
                continue
            if reason := self._why_late(connection, now, delivering=delivering):
                self._end(connection, reason, log)
        self._shed(memory_bytes_max, log)

    def close(self) -> None:
        """Ends the watch, before the ROUTER is closed."""
        self._router.disable_monitor()
        self._monitor.close(linger=0)

    def _accepted(self, descriptor: int, log: EventLog) -> None:
        duplicate = _duplicate(descriptor)
        if duplicate is None:
            return
        with duplicate:
            try:
                peer = duplicate.getpeername()
            except OSError:
                # it came and went: who only looks whether somebody listens does that
                return
        if not isinstance(peer, tuple):
            # the descriptor is another kind of socket's by now
            return
        connection = Connection(descriptor, peer)
        self._open[descriptor] = connection
        ip = connection.peer[0]
        self._per_ip[ip] += 1
        if len(self._open) > self._limits.connections_max:
            self._end(connection, "max.connections", log)
        elif len(self._open) > connections_max():
            self._end(
                connection, "the descriptors of this process (ulimit -n), of which logs have a half", log
            )
        elif self._per_ip[ip] > self._limits.connections_per_ip_max:
            self._end(connection, "max.connections.per.ip", log)

    def _forget(self, descriptor: int) -> None:
        connection = self._open.pop(descriptor, None)
        if connection is not None:
            self._known.pop(connection.identity, None)
            ip = connection.peer[0]
            self._per_ip[ip] -= 1
            if not self._per_ip[ip]:
                del self._per_ip[ip]

    @staticmethod
    def _look(connection: Connection) -> bool:
        """Brings the connection's numbers up to date; false when it is gone."""
        duplicate = _duplicate(connection.descriptor, connection.peer)
        if duplicate is None:
            return False
        with duplicate:
            info = duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED_AND_RECEIVED.size)
            unread = array.array("i", [0])
            fcntl.ioctl(duplicate.fileno(), termios.FIONREAD, unread)
        acked, received = BYTES_ACKED_AND_RECEIVED.unpack(info)
        undelivered = received - unread[0] - connection.delivered
        connection.heartbeats = max(connection.heartbeats, acked - connection.sent)
        allowed = HANDSHAKE_BYTES + HEARTBEAT_RATIO * connection.heartbeats
        connection.inbound = undelivered if undelivered > allowed else 0
        connection.outbound = max(0, connection.sent - acked)
        return True

    def _why_late(self, connection: Connection, now: float, *, delivering: bool) -> str | None:
        progress = connection.seen != connection.delivered
        connection.seen = connection.delivered
        if not connection.inbound:
            connection.since = None
        elif connection.since is None or progress or not delivering:
            connection.since = now
        else:
            stretch = connection.inbound / MESSAGE_BYTES_PER_SECOND_MIN
            waited = now - connection.since
            if waited > self._limits.frame_timeout_ms / 1000 + stretch:
                return f"a message was not whole after {waited:.1f} s"
        return None

    def _shed(self, memory_bytes_max: int, log: EventLog) -> None:
        held = sum(connection.held for connection in self._open.values())
        try:
            resident = resident_bytes()
        except OSError:
            # no descriptor is left: the next look is soon
            return
        if held <= HELD_BYTES_MIN:
            self._calm_bytes = resident
            return
        # small frames take many times their bytes, which only the process's memory shows
        used = max(held, resident - self._calm_bytes)
        if used <= memory_bytes_max:
            return
        kept_bytes_max = held * memory_bytes_max // used // 2
        for connection in sorted(self._open.values(), key=lambda it: it.held, reverse=True):
            if held <= kept_bytes_max:
                break
            held -= connection.held
            self._end(connection, f"{used} bytes are held for ZeroMQ's peers, most of them for this one", log)
        # what was freed need not go back to the system at once
        self._calm_bytes = resident

    @staticmethod
    def _end(connection: Connection, reason: str, log: EventLog) -> None:
        duplicate = _duplicate(connection.descriptor, connection.peer)
        if duplicate is None:
            return
        log.warning("connection closed", client=_shown(connection.peer), reason=reason)
        with duplicate, suppress(OSError):
            # libzmq, which finds the end, closes: the peer then learns of it at once, and the kernel keeps nothing
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            duplicate.shutdown(socket.SHUT_RDWR)


def _duplicate(descriptor: int, peer: Any = None) -> socket.socket | None:
    """A duplicate of a connection's descriptor; None when it is closed, or another's than `peer`'s by now."""
    try:
        duplicate = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return None
    with suppress(OSError):
        if duplicate.getpeername() == peer or peer is None:
            return duplicate
    duplicate.close()
    return None


def _shown(peer: Any) -> str:
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def resident_bytes() -> int:
    """Memory of this process that is not a file's."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - shared) * PAGE_BYTES
