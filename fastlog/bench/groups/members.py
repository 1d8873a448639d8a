"""Members of groups as a broker sees them: a socket and requests made ready, thousands of them on one thread."""

from __future__ import annotations

import heapq
import selectors
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Self

from fastlog.bench.harness.wire import CLIENT_ID, framed
from fastlog.errors import FastlogError, NotReachableError, error_for
from fastlog.protocol.codec import decode_response_frame, encode_request_frame
from fastlog.protocol.messages.heartbeat import HeartbeatRequest
from fastlog.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from fastlog.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

JOIN_VERSION, SYNC_VERSION, HEARTBEAT_VERSION = 9, 5, 4
SESSION_MS, REBALANCE_MS = 30_000, 60_000
MEMBER_ID_REQUIRED, REBALANCE_IN_PROGRESS = 79, 27
SILENCE_SECONDS = 30.0
TOPIC = b"topic"
SUBSCRIPTION = struct.pack(">hih", 0, 1, len(TOPIC)) + TOPIC + struct.pack(">i", -1)
ASSIGNMENT = bytes(64)


class Loop:
    """Sockets and times on one thread. A context manager: the connections end with it."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._times: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for key in list(self._selector.get_map().values()):
            key.data.socket.close()
        self._selector.close()

    def add(self, connection: Connection) -> None:
        """Reads a connection from now on."""
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Has a call made at a time of perf_counter."""
        self._count += 1
        heapq.heappush(self._times, (when, self._count, call))

    def forget_times(self) -> None:
        """Drops all calls that are due later."""
        self._times.clear()

    def run_until(self, is_over: Callable[[], bool]) -> None:
        """Serves until the condition holds; FastlogError where nothing comes for long."""
        heard = time.perf_counter()
        while not is_over():
            now = time.perf_counter()
            while self._times and self._times[0][0] <= now:
                heapq.heappop(self._times)[2]()
            wait = max(0.0, self._times[0][0] - now) if self._times else 0.1
            ready = self._selector.select(min(wait, 0.1))
            for key, _ in ready:
                key.data.receive()
            if ready or self._times:
                heard = now
            elif now - heard > SILENCE_SECONDS:
                raise FastlogError(f"groups: no answer for {SILENCE_SECONDS:.0f} s; look at the broker's log")

    def run_for(self, seconds: float) -> None:
        """Serves for so long."""
        end = time.perf_counter() + seconds
        self.at(end, lambda: None)
        self.run_until(lambda: time.perf_counter() >= end)


class Connection:
    """One connection with at most one request under way."""

    def __init__(self, loop: Loop, address: tuple[str, int]) -> None:
        """Connects; raises NotReachableError."""
        self._received = bytearray()
        self._asked: tuple[int, int, Callable[[Any], None]]
        try:
            self.socket = socket.create_connection(address, timeout=SILENCE_SECONDS)
        except OSError as error:
            reason = f"connecting to {address[0]}:{address[1]}: {error.strerror or error}"
            raise NotReachableError(reason) from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.add(self)

    def ask(self, request: Any, version: int, told: Callable[[Any], None]) -> None:
        """Sends a request; `told` gets the answer."""
        frame = framed(encode_request_frame(request, version, 0, CLIENT_ID))
        self.send(frame, request.API_KEY, version, told)

    def send(self, frame: bytes, key: int, version: int, told: Callable[[Any], None]) -> None:
        """Sends a request that was made ready."""
        self._asked = key, version, told
        self.socket.sendall(frame)

    def receive(self) -> None:
        """Reads what there is; raises FastlogError where the broker has ended the connection."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise FastlogError("groups: the broker closed a connection; look at its log")
        self._received += data
        if len(self._received) < 4 or len(self._received) < 4 + struct.unpack_from(">i", self._received)[0]:
            return
        answer = bytes(self._received[4:])
        self._received.clear()
        key, version, told = self._asked
        told(decode_response_frame(key, version, answer)[1])


class Member:
    """A member of a group: joins, leads if it must, and heartbeats every `interval` seconds."""

    def __init__(self, loop: Loop, connection: Connection, group_id: str, interval: float) -> None:
        self._loop = loop
        self._connection = connection
        self._group_id = group_id
        self._interval = interval
        self._member_id = ""
        self._heartbeat = b""
        self._sent = 0.0
        self.is_settled = False
        self.heartbeat_seconds: list[float] = []

    def join(self) -> None:
        """Joins, or joins again."""
        self.is_settled = False
        request = JoinGroupRequest(
            group_id=self._group_id,
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=REBALANCE_MS,
            member_id=self._member_id,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol("range", SUBSCRIPTION)],
        )
        self._connection.ask(request, JOIN_VERSION, self._joined)

    def _joined(self, answer: Any) -> None:
        self._member_id = answer.member_id
        if answer.error_code == MEMBER_ID_REQUIRED:
            self.join()
            return
        _check(answer.error_code)
        shares = [SyncGroupRequestAssignment(it.member_id, ASSIGNMENT) for it in answer.members]
        request = SyncGroupRequest(
            self._group_id, answer.generation_id, self._member_id, None, "consumer", "range", shares
        )
        heartbeat = HeartbeatRequest(self._group_id, answer.generation_id, self._member_id)
        self._heartbeat = framed(encode_request_frame(heartbeat, HEARTBEAT_VERSION, 0, CLIENT_ID))
        self._connection.ask(request, SYNC_VERSION, self._synced)

    def _synced(self, answer: Any) -> None:
        if answer.error_code == REBALANCE_IN_PROGRESS:
            self.join()
            return
        _check(answer.error_code)
        self.is_settled = True
        self._loop.at(time.perf_counter() + self._interval, self.heartbeat)

    def heartbeat(self) -> None:
        """Sends one; the next follows."""
        self._sent = time.perf_counter()
        self._connection.send(self._heartbeat, HeartbeatRequest.API_KEY, HEARTBEAT_VERSION, self._beaten)

    def _beaten(self, answer: Any) -> None:
        if answer.error_code == REBALANCE_IN_PROGRESS:
            self.join()
            return
        _check(answer.error_code)
        self.heartbeat_seconds.append(time.perf_counter() - self._sent)
        self._loop.at(self._sent + self._interval, self.heartbeat)


def _check(code: int) -> None:
    if code:
        raise error_for(code, "groups: a member was refused")
