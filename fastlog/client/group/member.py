"""What the thread of a group and the application's side ask of a membership, whichever protocol it follows.

`membership` is one of Kafka's classic protocol, `consumer_membership` one of the consumer protocol (KIP-848).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.client.group.effects import Effect, Identity, Send
    from fastlog.errors import KafkaError
    from fastlog.state.assignors import Partition


class GroupMember(Protocol):
    """A member without sockets, threads or clocks: each event gives what is to be done. Times are in milliseconds."""

    group_id: str
    identity: Identity
    has_coordinator: bool
    """Whether requests can be sent."""
    requests_wait: bool
    """Others than the membership have something to ask of the coordinator."""
    away: bool
    """It waits for the application's next poll before it joins."""

    def subscribe(self, topics: frozenset[str], now_ms: float) -> list[Effect]:
        """Wants partitions of `topics`, in place of those before."""
        ...

    def leave(self, reason: str) -> list[Effect]:
        """Ends the membership."""
        ...

    def polled(self, now_ms: float) -> None:
        """The application asked for records at this time: it was alive then."""
        ...

    def released(self, duty: int, owned: frozenset[Partition], now_ms: float) -> list[Effect]:
        """The application has given up what Release named and reads `owned` now."""
        ...

    def adopted(self, duty: int, owned: frozenset[Partition], now_ms: float) -> list[Effect]:
        """The application reads its assignment."""
        ...

    def coordinator_found(self, now_ms: float) -> list[Effect]:
        """Requests can be sent."""
        ...

    def coordinator_lost(self, now_ms: float) -> list[Effect]:
        """The coordinator cannot be reached, or is one no longer; what was asked of it has an unknown fate."""
        ...

    def coordinator_refused(self, error: KafkaError, now_ms: float) -> list[Effect]:
        """Asking for the coordinator, or asking it, does not help: it would be the same again."""
        ...

    def topics_known(
        self, counts: Mapping[str, int], names: Mapping[bytes, str], now_ms: float
    ) -> list[Effect]:
        """Topics have so many partitions, 0 for one that is not there, and ids have these names."""
        ...

    def answered(self, sent: Send, response: Any, now_ms: float) -> list[Effect]:
        """The coordinator's answer to a request."""
        ...

    def commit_refused(self, code: int, identity: Identity, now_ms: float) -> list[Effect]:
        """A commit came back with an error that concerns the membership."""
        ...

    def advance(self, now_ms: float) -> list[Effect]:
        """Does what is due."""
        ...

    def next_deadline_ms(self) -> float:
        """When `advance` is to be called at the latest; infinity where nothing is due."""
        ...

    def commit_identity(self) -> Identity | None:
        """What to send with a commit; None while it may not commit."""
        ...

    @property
    def joining(self) -> bool:
        """Whether it is on its way into the group."""
        ...
