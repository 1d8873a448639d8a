"""What is done differently by one node alone and by a broker of a cluster: metadata, and a broker's part in keeping it.

Types only: nothing imports it when a broker starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from fastlog.broker.topic_directory import DEFAULT, TIMEOUT_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from fastlog.broker.addresses import Registrations
    from fastlog.broker.configs import Configs
    from fastlog.broker.groups.coordinator import GroupCoordinator
    from fastlog.broker.producer_ids import ProducerIds
    from fastlog.broker.topic_directory import NewTopic
    from fastlog.config import Endpoint
    from fastlog.errors import KafkaError
    from fastlog.ports import PartitionState, Registration, Topic

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

    def all(self) -> list[Topic]:
        """Every topic."""
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

    def create_all(
        self, wanted: Sequence[NewTopic], *, validate_only: bool = False, timeout_ms: int = TIMEOUT_MS
    ) -> list[Topic | KafkaError]:
        """As `create` for each, which costs less than one after the other; each succeeds or fails alone."""
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

    def delete_all(self, topics: Sequence[Topic], *, timeout_ms: int = TIMEOUT_MS) -> list[KafkaError | None]:
        """As `delete` for each, which costs less than one after the other; of each why it was not, if so."""
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

    @property
    def position(self) -> tuple[int, int]:
        """The controller's epoch, and the number of what it has told in that, as far as is known here."""
        ...

    def registration(self, broker_id: int) -> Registration | None:
        """The broker's; None for one that is not live, or not known."""
        ...

    def ids(self) -> Sequence[int]:
        """All live brokers, sorted, this one among them."""
        ...


class Node(Protocol):
    """A broker's metadata, and its part in keeping it. Calls come in this order, from the thread that starts it."""

    def join(self, known: str | None) -> str:
        """The id of the cluster, for a first data directory that belongs to the cluster `known` or to none yet."""
        ...

    def open(self, cluster_id: str, last_stop: str, *, has_lost: bool) -> None:
        """Makes all that is below, when the directories are locked.

        `last_stop` is the engine's word for how the last run ended; `has_lost` says that a directory was lost since, or
        does not answer.
        """
        ...

    @property
    def topics(self) -> Topics:
        """The topics."""
        ...

    @property
    def configs(self) -> Configs:
        """The settings."""
        ...

    @property
    def producer_ids(self) -> ProducerIds:
        """The ids of producers."""
        ...

    @property
    def placement(self) -> Placement:
        """Leaders and replicas."""
        ...

    @property
    def brokers(self) -> Brokers:
        """Who is in the cluster."""
        ...

    @property
    def registrations(self) -> Registrations | None:
        """Where other brokers are; None where there are none."""
        ...

    @property
    def changes_at_once(self) -> int:
        """How many requests that change metadata may be at it at the same time."""
        ...

    def may_exist(self, topic: str) -> bool:
        """Whether a topic is there, or nobody can tell, since its metadata cannot be read. From any thread."""
        ...

    def load(self, groups: GroupCoordinator) -> None:
        """Opens what the directory holds, as far as is known now; `groups` are told of topics from now on."""
        ...

    def enter(self, bound: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Takes its place in the cluster and blocks until it knows what there is.

        `bound` are the listeners for clients, with their real ports; answers those that it has opened itself.
        """
        ...

    def noticed(self) -> None:
        """The engine may have notices of partitions; called often by the control loop: it only hands over."""
        ...

    def leave(self) -> None:
        """Gives away what others can take over; blocks for a bounded time. The listeners end after that."""
        ...
