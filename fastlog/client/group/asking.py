"""What the application asks of the coordinator: to keep positions, and to tell them. No I/O."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastlog.client.group import requests
from fastlog.client.group.effects import Identity
from fastlog.errors import (
    FastlogError,
    KafkaError,
    NotReachableError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    error_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastlog.client.backoff import Backoff
    from fastlog.client.committed_offset import CommittedOffset
    from fastlog.client.group.member import GroupMember
    from fastlog.state.assignors import Partition

    Done = Callable[[FastlogError | None, dict[Partition, CommittedOffset]], None]

UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_TRIES = 3, 3
SILENT = "its coordinator did not answer"
NOT_THE_COORDINATOR = (7, 15, 16)
#: who commits without being a member
NOBODY = Identity()
#: the membership has to hear of these
MEMBERSHIP_CODES = (22, 25, 27, 82, 110)
STALE_EPOCH = 113


@dataclass(slots=True, eq=False)
class Ask:
    """One commit (`offsets`), or one question for committed positions (`partitions`).

    `done` are called on the group's thread with an error, or None and for a question the answers; -1 is no position.
    """

    offsets: Mapping[Any, CommittedOffset] | None
    partitions: tuple[Partition, ...]
    deadline_ms: float
    #: whether to try again after errors that may pass; a later commit makes a lost one needless
    tries: bool
    done: list[Done]
    identity: Identity = NOBODY
    failures: int = 0
    retry_at_ms: float = -math.inf
    problem: str = "its coordinator is not known"


class AskQueue:
    """Questions or commits in their order: the next one is sent when the one before is settled."""

    def __init__(self, group_id: str, membership: GroupMember, backoff: Backoff) -> None:
        """Nothing is asked."""
        self._group_id = group_id
        self._membership = membership
        self._backoff = backoff
        self._asks: deque[Ask] = deque()
        self._sent: Ask | None = None

    def __len__(self) -> int:
        return len(self._asks)

    def add(self, ask: Ask) -> None:
        """Puts one at the end. A commit in the background joins the one before it that waits too: it says more."""
        last = self._asks[-1] if self._asks else None
        if last is None or last is self._sent or last.tries or ask.tries:
            self._asks.append(ask)
            return
        last.offsets = {**(last.offsets or {}), **(ask.offsets or {})}
        last.deadline_ms = ask.deadline_ms
        last.done += ask.done

    def next_request(self, now_ms: float, *, is_member: bool) -> tuple[Any, Ask] | None:
        """The request that is to be sent now, with what it is for."""
        while self._asks and self._sent is None:
            ask = self._asks[0]
            if now_ms < ask.retry_at_ms:
                return None
            if ask.offsets is None:
                self._sent, ask.problem = ask, SILENT
                return requests.offset_fetch(self._group_id, ask.partitions), ask
            identity = self._membership.commit_identity() if is_member else NOBODY
            if identity is None:
                self._settle(ask, self._between())
                continue
            self._sent, ask.identity, ask.problem = ask, identity, SILENT
            return requests.offset_commit(self._group_id, identity, ask.offsets), ask
        return None

    def lost(self, now_ms: float, reason: str) -> None:
        """The connection ended before the answer."""
        ask, self._sent = self._sent, None
        if ask is not None:
            self._try_again(ask, NotReachableError(self._what(ask, reason)), now_ms)

    def explain(self, problem: str) -> None:
        """Notes why nothing can be asked now, for when the time given is over."""
        for ask in self._asks:
            ask.problem = problem

    def refused(self, ask: Ask, error: FastlogError) -> None:
        """It cannot be asked at all."""
        if ask is self._sent:
            self._sent = None
            self._settle(ask, error)

    def answered(self, ask: Ask, response: Any, now_ms: float, tell: Callable[[int, Identity], None]) -> None:
        """Takes an answer. `tell` hears an error that says something of the group, before the application does."""
        if ask is not self._sent:
            return
        self._sent = None
        found = {} if ask.offsets is not None else {p: c for p, _, c in requests.committed_offsets(response)}
        codes = commit_codes(response) if ask.offsets is not None else fetch_codes(response)
        code = next((code for code in codes if code), 0)
        if not code:
            self._settle(ask, None, found)
            return
        if code == STALE_EPOCH and self._membership.commit_identity() not in (None, ask.identity):
            # the coordinator was ahead, and what it answered meanwhile is known by now: the next try is of this epoch
            return
        if code in (*NOT_THE_COORDINATOR, *MEMBERSHIP_CODES):
            tell(code, ask.identity)
        error = error_for(code, self._what(ask, explanation(code)))
        # a topic that is new takes a moment to reach every broker, one that is deleted never comes back
        is_gone = code == UNKNOWN_TOPIC_OR_PARTITION and ask.failures >= UNKNOWN_TOPIC_TRIES
        if error.retriable and not is_gone:
            self._try_again(ask, error, now_ms)
        else:
            self._settle(ask, error)

    def expire(self, now_ms: float) -> None:
        """Gives up what was not settled in its time."""
        for ask in [ask for ask in self._asks if ask.deadline_ms <= now_ms]:
            if ask is self._sent:
                self._sent = None
            self._settle(ask, NotReachableError(self._what(ask, f"{ask.problem}; the time given is over")))

    def fail_all(self, error: FastlogError) -> None:
        """Settles everything with `error`."""
        self._sent = None
        for ask in list(self._asks):
            self._settle(ask, error)

    def next_deadline_ms(self, *, can_send: bool) -> float:
        """When one is to be sent, as far as that can be, or given up."""
        due = min((ask.deadline_ms for ask in self._asks), default=math.inf)
        waits = can_send and self._sent is None and self._asks
        return min(due, self._asks[0].retry_at_ms) if waits else due

    def _try_again(self, ask: Ask, error: FastlogError, now_ms: float) -> None:
        if not ask.tries:
            self._settle(ask, error)
            return
        ask.failures += 1
        ask.problem = error.message if isinstance(error, KafkaError) else str(error)
        ask.retry_at_ms = now_ms + self._backoff.delay_ms(ask.failures)

    def _settle(
        self, ask: Ask, error: FastlogError | None, found: dict[Partition, CommittedOffset] | None = None
    ) -> None:
        self._asks.remove(ask)
        for done in ask.done:
            done(error, found or {})

    def _between(self) -> FastlogError:
        what = f"committing to group {self._group_id!r}: "
        if self._membership.joining:
            return RebalanceInProgressError(f"{what}the group is rebalancing; poll, then commit again")
        return UnknownMemberIdError(
            f"{what}this consumer is no member now, and its partitions may be another's; poll to join again"
        )

    def _what(self, ask: Ask, why: str) -> str:
        doing = "asking for the positions of" if ask.offsets is None else "committing to"
        return f"{doing} group {self._group_id!r}: {why}"


def commit_codes(response: Any) -> list[int]:
    """The error codes in an OffsetCommit response."""
    return [partition.error_code for topic in response.topics for partition in topic.partitions]


def fetch_codes(response: Any) -> list[int]:
    """The error codes in an OffsetFetch response."""
    return [requests.group_error(response), *(code for _, code, _ in requests.committed_offsets(response))]


def explanation(code: int) -> str:
    """What an error means to whoever commits."""
    if code in (22, 25, 110, STALE_EPOCH):
        return (
            "this consumer is no member of its generation any more, so its partitions may be another's: what was read "
            "since the last commit may be read twice. Poll to join again"
        )
    if code == UNKNOWN_TOPIC_OR_PARTITION:
        return "a topic or partition among them does not exist"
    if code == 27:
        return "the group is rebalancing; poll, then commit again"
    return "the coordinator refused"
