"""Connections of a group's member: to whoever tells the coordinator, and two to the coordinator itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from fastlog.client.link import Link
from fastlog.errors import FastlogError, UnsupportedVersionError
from fastlog.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from fastlog.transport.channel import ConnectionLostError, wait
from fastlog.transport.tcp import TcpChannel

if TYPE_CHECKING:
    from collections.abc import Iterator


class Role(Enum):
    """What a connection is for."""

    FIND = auto()
    """FindCoordinator, of any broker."""
    JOIN = auto()
    """JoinGroup and SyncGroup, whose answers may take minutes."""
    WORK = auto()
    """All else, which must not wait behind these."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A request's answer, or why it cannot be asked."""

    token: Any
    response: Any = None
    error: FastlogError | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """A connection ended; what was unanswered on it has an unknown fate."""

    role: Role
    reason: str


class Links:
    """At most one connection for each role. For one thread."""

    def __init__(self, *, client_id: str, connect_timeout_ms: float, request_timeout_ms: float) -> None:
        """Connects to nobody yet."""
        self._client_id = client_id
        self._connect_timeout_ms = connect_timeout_ms
        self._request_timeout_ms = request_timeout_ms
        self._links: dict[Role, Link] = {}
        #: what waits until a connection can be used: request, token, time-out
        self._waiting: dict[Role, list[tuple[Any, Any, float]]] = {}
        self._broken: list[Broken] = []

    def is_open(self, role: Role) -> bool:
        """Whether there is a connection, be it not ready yet."""
        return role in self._links

    def open(
        self, role: Role, address: tuple[str, int], now_ms: float, *, at_most_ms: float = math.inf
    ) -> None:
        """Starts a connection; that it failed, or took longer than `at_most_ms`, comes out of `process`."""
        self.close(role)
        try:
            channel = TcpChannel(*address)
        except ConnectionLostError as error:
            self._broken.append(Broken(role, str(error)))
            return
        self._links[role] = Link(
            channel,
            client_id=self._client_id,
            now_ms=now_ms,
            connect_timeout_ms=min(self._connect_timeout_ms, at_most_ms),
            request_timeout_ms=self._request_timeout_ms,
        )

    def send(
        self,
        role: Role,
        request: Any,
        token: object,
        timeout_ms: float | None = None,
        *,
        at_most_ms: float = math.inf,
    ) -> None:
        """Has `request` sent as soon as the connection can; its outcome carries `token`.

        The time-out is the request time-out unless given, and never longer than `at_most_ms`.
        """
        timeout_ms = self._request_timeout_ms if timeout_ms is None else timeout_ms
        self._waiting.setdefault(role, []).append((request, token, min(timeout_ms, at_most_ms)))

    def process(self, now_ms: float) -> Iterator[Outcome | Broken]:
        """What came since the last time."""
        broken, self._broken = self._broken, []
        yield from broken
        for role, link in list(self._links.items()):
            try:
                answers = link.process(now_ms)
                outcomes = [Outcome(answer.token, answer.message) for answer in answers]
                outcomes += self._flush(role, link, now_ms) if link.ready else []
            except ConnectionLostError as error:
                self.close(role)
                yield Broken(role, str(error))
                continue
            yield from outcomes

    def wait(self, timeout_ms: float, wake_descriptor: int) -> None:
        """Blocks until there is something to process, `wake_descriptor` can be read, or the time has passed."""
        wait([link.channel for link in self._links.values()], timeout_ms, wake_descriptor)

    def next_deadline_ms(self) -> float:
        """When `process` is to be called at the latest."""
        return min((link.next_deadline_ms() for link in self._links.values()), default=float("inf"))

    def close(self, *roles: Role) -> None:
        """Ends these connections, or all, with what waits for them."""
        for role in roles or tuple(Role):
            self._waiting.pop(role, None)
            link = self._links.pop(role, None)
            if link is not None:
                link.close()

    def _flush(self, role: Role, link: Link, now_ms: float) -> list[Outcome]:
        refused = []
        for request, token, timeout_ms in self._waiting.pop(role, []):
            try:
                version = link.version(request.API_KEY)
                require_fields(request, version, link.address)
            except UnsupportedVersionError as error:
                refused.append(Outcome(token, error=error))
                continue
            link.send(request, version, token, now_ms, timeout_ms=timeout_ms)
        return refused


class PatternsUnsupportedError(UnsupportedVersionError):
    """The coordinator does not match patterns."""


#: from this version of ConsumerGroupHeartbeat on it does
PATTERNS_FROM = 1


def require_fields(request: Any, version: int, address: str) -> None:
    """Raises UnsupportedVersionError where leaving a field out would mean something else."""
    if isinstance(request, ConsumerGroupHeartbeatRequest):
        if version < PATTERNS_FROM and request.subscribed_topic_regex:
            raise PatternsUnsupportedError(f"the broker at {address} matches no patterns")
        return
    instance_from = {
        "JoinGroupRequest": 5,
        "SyncGroupRequest": 3,
        "HeartbeatRequest": 3,
        "OffsetCommitRequest": 7,
    }
    needed = instance_from.get(type(request).__name__, 0)
    if version < needed and request.group_instance_id is not None:
        raise UnsupportedVersionError(
            f"the broker at {address} knows no static members (group_instance_id): leave it out, or use a newer broker"
        )
