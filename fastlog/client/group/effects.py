"""What a membership wants done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from fastlog.errors import FastlogError
    from fastlog.state.assignors import Partition


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a member is at one time: what it sends with each request, and by which late answers are known."""

    generation: int = -1
    member_id: str = ""
    instance_id: str | None = None


class GroupMetadata(NamedTuple):
    """Who a member is, for applications. Kafka: ConsumerGroupMetadata."""

    group_id: str
    generation_id: int
    member_id: str
    group_instance_id: str | None


@dataclass(frozen=True, slots=True)
class FindCoordinator:
    """Ask a broker who coordinates the group; answer with `coordinator_found` or `coordinator_lost`."""


@dataclass(frozen=True, slots=True)
class LoseCoordinator:
    """End the connections to the coordinator; what was unanswered on them comes to nothing."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send `request` to the coordinator; answer with `answered`, or with `coordinator_lost` if it never is.

    `timeout_ms` is None for the usual one. The coordinator holds its answers to JoinGroup and SyncGroup back until
    others have come: nothing may wait behind these.
    """

    request: Any
    identity: Identity
    timeout_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """Have the application give up its partitions but for those of `keep_topics`; answer with `released`.

    `lost` means that they may already belong to others, so that nothing can be committed for them.
    """

    duty: int
    lost: bool
    keep_topics: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Adopt:
    """Have the application read exactly `partitions`; answer with `adopted`."""

    duty: int
    partitions: frozenset[Partition]


@dataclass(frozen=True, slots=True)
class Watch:
    """Say the number of partitions of `topics` with `partitions_known`, now and whenever it changes."""

    topics: frozenset[str]


@dataclass(frozen=True, slots=True)
class NameTopics:
    """Say with `topics_known` which topics have these ids, as soon as that is known; of none no more is wanted."""

    ids: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class MatchHere:
    """The coordinator matches no patterns: say with `subscribe` which topics match, now and whenever that changes."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Have the application's next poll raise `error`; every later one too where `lasting`."""

    error: FastlogError
    lasting: bool = False


Effect = FindCoordinator | LoseCoordinator | Send | Release | Adopt | Watch | NameTopics | MatchHere | Fail
