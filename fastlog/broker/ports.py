"""What handlers of control APIs ask of metadata; one node alone and a broker of a cluster have it done differently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from fastlog.errors import KafkaError
    from fastlog.ports import PartitionState, Registration, Topic

#: "as the broker's settings say", for a number of partitions or replicas
DEFAULT = -1
#: how long a change may take that names no time of its own
TIMEOUT_MS = 30_000

#: a partition by its topic's name
Place = tuple[str, int]


class Publisher(Protocol):
    """Tells those who answer Metadata what changed."""

    def __call__(self, put: Sequence[Topic], removed: Sequence[str]) -> None:
        """Publishes new or changed topics, and takes away those named in `removed`."""
        ...


class Topics(Protocol):
    """The topics of the cluster. Read from any thread; what changes them is called on one, and blocks."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a topic `name`."""
        ...

    def named(self, name: str) -> Topic:
        """The topic `name`, or UnknownTopicOrPartitionError."""
        ...

    def identified(self, topic_id: UUID) -> Topic:
        """The topic with the id, or UnknownTopicIdError."""
        ...

    def check_together(self, counts: Iterable[int]) -> None:
        """Raises PolicyViolationError where the new partitions that one request asks for are too many together."""
        ...

    def create(
        self,
        name: str,
        *,
        partition_count: int = DEFAULT,
        replication_factor: int = DEFAULT,
        assignments: Mapping[int, Sequence[int]] | None = None,
        configs: Mapping[str, str] | None = None,
        validate_only: bool = False,
        timeout_ms: int = TIMEOUT_MS,
    ) -> Topic:
        """Creates a topic and answers it, with an id that means nothing where it was only validated.

        Raises the KafkaError that Kafka answers with.
        """
        ...

    def grow(
        self,
        name: str,
        count: int,
        *,
        assignments: Sequence[Sequence[int]] | None = None,
        validate_only: bool = False,
        timeout_ms: int = TIMEOUT_MS,
    ) -> Topic:
        """Gives a topic `count` partitions in all and answers it as it then is."""
        ...

    def delete(self, topic: Topic, *, timeout_ms: int = TIMEOUT_MS) -> None:
        """Deletes a topic; its files stay for file.delete.delay.ms under another name."""
        ...


class Placement(Protocol):
    """Who leads and who holds partitions. Each answer is an error, or None, by partition; all calls may block."""

    def elect(
        self, kind: Literal["preferred", "unclean"], places: Sequence[Place] | None, *, timeout_ms: int
    ) -> dict[Place, KafkaError | None]:
        """Elects leaders; for None of all partitions, and of those only who needed one are in the answer."""
        ...

    def reassign(
        self, targets: Mapping[Place, tuple[int, ...] | None], *, keep_factor: bool, timeout_ms: int
    ) -> dict[Place, KafkaError | None]:
        """Gives partitions other replicas, the preferred leader first; None cancels what is under way.

        With `keep_factor` it refuses to change how many there are.
        """
        ...

    def reassigning(self, places: Sequence[Place] | None) -> dict[Place, PartitionState]:
        """Those, of all for None, that are being reassigned."""
        ...


class Brokers(Protocol):
    """The live brokers, as the controller published them. Read from any thread."""

    @property
    def controller_id(self) -> int:
        """The broker that controls, as far as is known here; -1 for none."""
        ...

    def registration(self, broker_id: int) -> Registration | None:
        """The broker's; None for one that is not live, or not known."""
        ...

    def ids(self) -> Sequence[int]:
        """All live brokers, sorted, this one among them."""
        ...
