"""The ZeroMQ listener: a ROUTER socket on a thread of its own that gives requests to the engine and takes its answers.

One message is one request without a length prefix; more than one frame is their concatenation. What arrives is handed
to the engine in the order of arrival, straight from ZeroMQ's memory. Every queue has a bound: frames (MAXMSGSIZE),
messages of more than one frame, queues of a peer (high-water marks), unanswered requests of a peer, answers that wait
for a peer whose queue is full; a peer that breaks one of these or sends garbage loses its request, which is logged, and
nothing else. Connections, their time and their memory are bounded by `Connections`, which ends what goes beyond.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

import msgspec
import zmq

from fastlog.events import EventLog
from fastlog.transport.binding import BindError, bind
from fastlog.transport.connections import Connection, ConnectionLimits, Connections
from fastlog.transport.dealer import NO_WAIT, readable

if TYPE_CHECKING:
    from collections.abc import Sequence

# flags as plain numbers: the enum's operators take longer than the call
SEND_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
# a copy of so little costs less than to be told when libzmq is done with it
COPIED_BYTES = 64 * 1024
# answers that wait for room in their peer's queue are tried again so often
RETRY_MS = 10
# requests taken before answers get their turn, so that neither starves the other
BURST = 64
# one log line about refused requests in so many milliseconds
COMPLAIN_INTERVAL_MS = 1_000
# connections are looked at so often, and where that takes long, for this part of the time at most
CHECK_SECONDS = 0.1
CHECK_SHARE = 0.05
# or when so many bytes of answers were given to libzmq since the last look
CHECK_BYTES = 32 * 1024 * 1024
# what one look at the engine's completions brings into memory
COMPLETIONS_BYTES = 16 * 1024 * 1024
# a frame's header in ZMTP, for frames up to this size and for larger ones
SHORT_FRAME_BYTES_MAX = 255
SHORT_HEADER_BYTES, LONG_HEADER_BYTES = 2, 9
# a peer whose host is gone is noticed after 10 + 3 * 5 seconds of silence
KEEPALIVE_IDLE_SECONDS = 10
KEEPALIVE_INTERVAL_SECONDS = 5
KEEPALIVE_COUNT = 3


class Intake(Protocol):
    """The engine's side; its calls release the GIL and keep nothing of what they are given."""

    def submit(self, peer: int, frames: Sequence[memoryview]) -> bytes | None:
        """Handles one request; the answer, or None where it comes later or never.

        Raises ValueError with the reason for a request that a TCP connection would be closed for.
        """
        ...

    def completions_fd(self) -> int:
        """Readable when there is something to drain."""
        ...

    def drain_completions(self, bytes_max: int) -> list[tuple[int, bytes | None]]:
        """(peer, answer) of requests that have their answer by now; None is that there will be none.

        It stops at the answer that makes them `bytes_max` or more; the descriptor then stays readable.
        """
        ...

    def memory_bytes_max(self) -> int:
        """The memory for requests (`queued.max.request.bytes`)."""
        ...


class RouterLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of the listener; see the settings of the same names."""

    message_bytes_max: int
    queue_messages: int
    peer_requests_max: int
    parked_answers_max: int
    handshake_ms: int
    connections: ConnectionLimits


class _Peer:
    """A peer with requests that are not answered yet."""

    __slots__ = ("connection", "identity", "number", "outstanding", "parked")

    def __init__(self, identity: bytes, number: int, connection: Connection) -> None:
        self.connection = connection
        self.identity = identity
        self.number = number
        self.outstanding = 0
        self.parked = 0


class RouterListener:
    """Listens from `bind`, serves from `start`, ends with `stop`."""

    def __init__(self, limits: RouterLimits, name: str = "ZMQ") -> None:
        """Makes the listener `name`, which is what its log lines and errors call it."""
        self._intake: Intake
        self._limits = limits
        self._name = name
        #: where it listens
        self.port = 0
        self._log = EventLog("zmq" if name == "ZMQ" else f"zmq.{name.lower()}")
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._connections = Connections(self._context, self._socket, limits.connections)
        self._check_at = 0.0
        self._unchecked_bytes = 0
        self._endpoint = ""
        # peers by identity and number; only those with requests in flight, so neither grows with time
        self._peers: dict[bytes, _Peer] = {}
        self._numbers: dict[int, _Peer] = {}
        self._next_number = 1
        self._parked: deque[tuple[_Peer, bytes]] = deque()
        self._refused = 0
        self._complained_at = -float("inf")
        self._stop_read, self._stop_write = os.pipe()
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"fastlog-{name.lower()}", daemon=True)

    def limit_connections(self, connections_max: int, connections_per_ip_max: int) -> None:
        """Other bounds for connections that come from now on; called from any thread."""
        self._connections.limit(connections_max, connections_per_ip_max)

    def bind(self, host: str, port: int) -> int:
        """Takes the address and answers the port; raises BindError."""
        self._set_options()
        try:
            self._endpoint, self.port = bind(self._socket, self._name, host, port)
        except BindError:
            self.stop()
            raise
        return self.port

    def _set_options(self) -> None:
        limits, options = self._limits, self._socket
        # without it an answer to a peer whose queue is full vanishes silently
        options.set(zmq.ROUTER_MANDATORY, 1)
        options.set(zmq.MAXMSGSIZE, limits.message_bytes_max)
        options.set(zmq.RCVHWM, limits.queue_messages)
        options.set(zmq.SNDHWM, limits.queue_messages)
        options.set(zmq.HANDSHAKE_IVL, limits.handshake_ms)
        options.set(zmq.LINGER, 0)
        # heartbeats are the peers' to send, with a time to live that libzmq keeps to here. Ours would let a peer abort
        # the process (libzmq 4.3.5: flood, disconnect, and the next ping asserts while the queue is full), so a silent
        # host is found by TCP instead
        options.set(zmq.HEARTBEAT_IVL, 0)
        options.set(zmq.TCP_KEEPALIVE, 1)
        options.set(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_SECONDS)
        options.set(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_SECONDS)
        options.set(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT)

    def start(self, intake: Intake) -> None:
        """Begins to serve: requests go to `intake`."""
        self._intake = intake
        self._thread.start()

    def begin_stop(self, grace_ms: int) -> None:
        """Takes no more requests; what is in flight is answered for at most `grace_ms`, see `stop`."""
        if self._thread.ident is not None and self._deadline is None:
            self._deadline = time.monotonic() + grace_ms / 1000
            os.write(self._stop_write, b"x")

    def stop(self) -> None:
        """Waits for the end that `begin_stop` began, or begins one without grace; again is harmless."""
        self.begin_stop(0)
        if self._thread.ident is not None:
            self._thread.join()
        self._close_socket()
        if self._stop_read >= 0:
            os.close(self._stop_read)
            os.close(self._stop_write)
            self._stop_read = self._stop_write = -1

    def _close_socket(self) -> None:
        if not self._socket.closed:
            self._connections.close()
            # what the peers' queues still hold is sent, but not waited for longer than a moment
            self._socket.close(linger=500)
            self._context.term()

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            # an error of ours is for who watches the broker's threads: without its listeners it is deaf
            self._close_socket()

    def _serve(self) -> None:
        # libzmq's descriptor tells only of what came after the socket was last read to its end, hence `_take_requests`
        # is the last to touch the socket before each wait; zmq_poll would look at it three times more often
        requests, completions = int(self._socket.getsockopt(zmq.FD)), self._intake.completions_fd()
        poller = select.poll()
        for descriptor in (requests, completions, self._connections.descriptor(), self._stop_read):
            poller.register(descriptor, select.POLLIN)
        timeout: int | None = 0
        while not self._is_over():
            ready = [descriptor for descriptor, _ in poller.poll(timeout)]
            if self._stop_read in ready:
                poller.unregister(self._stop_read)
                self._socket.unbind(self._endpoint)
            if self._parked:
                self._retry_parked()
            if completions in ready:
                self._take_completions()
            self._check_connections()
            if self._deadline is None:
                more = self._take_requests()
                timeout = 0 if more else RETRY_MS if self._parked else self._time_to_check_ms()
            else:
                poller.modify(requests, 0)
                if self._parked:
                    self._drop_requests()
                timeout = RETRY_MS

    def _time_to_check_ms(self) -> int | None:
        return int(CHECK_SECONDS * 1000) if self._connections else None

    def _check_connections(self) -> None:
        now = time.monotonic()
        self._connections.update(self._log)
        if now < self._check_at and self._unchecked_bytes < CHECK_BYTES:
            return
        self._unchecked_bytes = 0
        self._connections.check(
            now=now,
            memory_bytes_max=self._intake.memory_bytes_max(),
            delivering=self._deadline is None,
            log=self._log,
        )
        ended = time.monotonic()
        self._check_at = ended + max(CHECK_SECONDS, (ended - now) / CHECK_SHARE)

    def _is_over(self) -> bool:
        if self._deadline is None:
            return False
        return time.monotonic() >= self._deadline or not (self._peers or self._parked)

    def _take_requests(self) -> bool:
        """Handles what has come; whether there may be more."""
        for _ in range(BURST):
            if self._unchecked_bytes >= CHECK_BYTES:
                return True
            if not readable(self._socket):
                return False
            # a message is there as a whole or not at all
            identity = self._socket.recv(NO_WAIT)
            frame = self._socket.recv(NO_WAIT, copy=False)
            connection = self._connections.of(identity, frame, self._log)
            frames = [frame.buffer]
            size = len(frames[0])
            wire_bytes = _wire_bytes(size)
            while frame.more:
                frame = self._socket.recv(NO_WAIT, copy=False)
                frames.append(frame.buffer)
                size += len(frames[-1])
                wire_bytes += _wire_bytes(len(frames[-1]))
            if connection is None:
                self._complain(identity, "it speaks an older ZeroMQ protocol than 3")
            elif size > self._limits.message_bytes_max:
                self._complain(identity, f"its message has {size} bytes, more than socket.request.max.bytes")
            else:
                self._take(self._peer(identity, connection), frames)
            if connection is not None:
                connection.delivered += wire_bytes
        return True

    def _drop_requests(self) -> None:
        # until the last of what a peer sent is read, libzmq does not tell that it is gone, and to give it its answers
        # would be tried until the grace is over
        for _ in range(BURST):
            if not readable(self._socket):
                return
            self._socket.recv_multipart(NO_WAIT)

    def _take(self, peer: _Peer, frames: list[memoryview]) -> None:
        if peer.outstanding >= self._limits.peer_requests_max:
            self._complain(peer.identity, f"it has {peer.outstanding} unanswered requests")
            return
        peer.outstanding += 1
        try:
            answer = self._intake.submit(peer.number, frames)
        except ValueError as error:
            self._complain(peer.identity, str(error))
            self._answered(peer)
            return
        if answer is not None:
            self._send(peer, answer)
            self._answered(peer)

    def _peer(self, identity: bytes, connection: Connection) -> _Peer:
        peer = self._peers.get(identity)
        if peer is None:
            peer = _Peer(identity, self._next_number, connection)
            self._next_number += 1
            self._peers[identity] = self._numbers[peer.number] = peer
        # who connects again may keep its identity
        peer.connection = connection
        return peer

    def _answered(self, peer: _Peer) -> None:
        peer.outstanding -= 1
        self._forget_idle(peer)

    def _forget_idle(self, peer: _Peer) -> None:
        if not peer.outstanding and not peer.parked:
            self._peers.pop(peer.identity, None)
            self._numbers.pop(peer.number, None)

    def _take_completions(self) -> None:
        for number, answer in self._intake.drain_completions(COMPLETIONS_BYTES):
            peer = self._numbers.get(number)
            if peer is None:
                continue
            if answer is not None:
                self._send(peer, answer)
            self._answered(peer)

    def _send(self, peer: _Peer, answer: bytes) -> None:
        peer.connection.sent += _wire_bytes(len(answer))
        self._unchecked_bytes += len(answer)
        # behind those that wait already, so that a peer's answers keep their order
        if peer.parked or not self._try_send(peer, answer):
            if len(self._parked) >= self._limits.parked_answers_max:
                oldest, dropped = self._parked.popleft()
                oldest.parked -= 1
                oldest.connection.sent -= _wire_bytes(len(dropped))
                self._complain(oldest.identity, "its queue stayed full, so its oldest answer is dropped")
                self._forget_idle(oldest)
            peer.parked += 1
            self._parked.append((peer, answer))

    def _retry_parked(self) -> None:
        full: set[int] = set()
        for _ in range(len(self._parked)):
            peer, answer = self._parked.popleft()
            if peer.number in full or not self._try_send(peer, answer):
                full.add(peer.number)
                self._parked.append((peer, answer))
            else:
                peer.parked -= 1
                self._forget_idle(peer)

    def _try_send(self, peer: _Peer, answer: bytes) -> bool:
        """Whether the answer needs no more care: it is sent, or its peer is gone."""
        try:
            # only the first part can fail
            self._socket.send(peer.identity, SEND_MORE)
            self._socket.send(answer, NO_WAIT, copy=len(answer) < COPIED_BYTES)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
        return True

    def _complain(self, identity: bytes, reason: str) -> None:
        self._refused += 1
        now = time.monotonic() * 1000
        if now - self._complained_at >= COMPLAIN_INTERVAL_MS:
            self._complained_at = now
            self._log.warning("request refused", peer=identity.hex(), reason=reason, refused=self._refused)
            self._refused = 0


def _wire_bytes(size: int) -> int:
    """Bytes on the wire of a frame of `size` bytes."""
    return size + (SHORT_HEADER_BYTES if size <= SHORT_FRAME_BYTES_MAX else LONG_HEADER_BYTES)
