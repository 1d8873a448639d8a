"""What is injected: clock, randomness, the metadata store. Each has a real implementation and one for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol
from uuid import UUID

import msgspec

from fastlog.errors import FastlogError

if TYPE_CHECKING:
    from collections.abc import Sequence


TopicId = UUID
"""What names a topic for good: a topic made again under the same name has another."""


class Clock(Protocol):
    """Time. Wall time is for timestamps and retention only; what decides uses monotonic time."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, which may jump."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds since some moment, which never goes back."""
        ...


class Random(Protocol):
    """Randomness."""

    def uuid(self) -> UUID:
        """A fresh random id."""
        ...


class PartitionState(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a partition, and who leads it."""

    replicas: tuple[int, ...]
    """Broker ids, the preferred leader first; those that are being added and removed too."""
    leader: int
    """The leading broker's id, -1 for none."""
    leader_epoch: int
    """Grows with every change of the leader, also to none."""
    isr: tuple[int, ...]
    """The in-sync replicas."""
    isr_epochs: tuple[int, ...] = ()
    """The broker epoch with which each member of `isr` was admitted (KIP-903); empty on a node without a cluster."""
    elr: tuple[int, ...] = ()
    """Eligible leader replicas (KIP-966): they left `isr` under min.insync.replicas and have all that was committed."""
    last_known_elr: tuple[int, ...] = ()
    """Who would be in `elr`, had it not started uncleanly since: each may lack a part of what was committed. Without a
    member of `isr` or `elr`, the best log among all of them is what is left (KIP-966's LastKnownELR)."""
    recovering: bool = False
    """The leader was elected uncleanly, and what it lacks is lost."""
    adding: tuple[int, ...] = ()
    """The replicas that a reassignment adds."""
    removing: tuple[int, ...] = ()
    """The replicas that a reassignment takes away once the others are in sync."""
    version: int = 0
    """The partition epoch: grows with every write of this state."""


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """A live broker."""

    broker_id: int
    """Its node.id."""
    broker_epoch: int
    """Grows with every registration, over all brokers (KIP-380); given by the store."""
    incarnation: UUID
    """The process: drawn anew at each start of a broker and kept in its data directory."""
    endpoints: Mapping[str, tuple[str, int]]
    """Host and port by listener name."""
    rack: str | None = None
    """`broker.rack`."""
    clean_start: bool = True
    """The last stop was clean and its mark fits what the logs hold: nothing acknowledged can be missing here.

    A process that started uncleanly says so in every registration, and leaves no clean mark, until a controller has
    published one of its registrations: only then is it known that nobody counts on what it had."""


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic; its partitions are numbered from 0 in order."""

    name: str
    topic_id: UUID
    partitions: tuple[PartitionState, ...]


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """A topic that was deleted and whose directories may still be there."""

    name: str
    topic_id: UUID
    partition_count: int
    replicas: tuple[int, ...] = ()
    """The brokers that held a replica, sorted: the note stays until each has said that it is gone. Empty on a node
    without a cluster."""


class PartitionKey(NamedTuple):
    """A partition of one incarnation of a topic."""

    topic_id: UUID
    partition: int


class PartitionWrite(msgspec.Struct, frozen=True):
    """A partition's next state, to be written where the one that is stored has still the version `state.version`."""

    key: PartitionKey
    state: PartitionState


class Written(msgspec.Struct, frozen=True):
    """The write took effect, and the state has this version now."""

    version: int


class Conflict(msgspec.Struct, frozen=True):
    """Nothing was written: the stored state is another one."""

    actual: PartitionState | None
    """What is stored; None where the partition is not there, or not any more."""


class Unknown(msgspec.Struct, frozen=True):
    """Nobody can tell whether the write took effect, or will yet: read again and compare."""

    reason: str


WriteResult = Written | Conflict | Unknown


class ConfigResource(msgspec.Struct, frozen=True):
    """What settings belong to: a topic by its name, a broker by its id, or all brokers."""

    kind: str
    """`topic` or `broker`."""
    name: str
    """A topic's name, a broker's id, or empty for all brokers."""


class StoredConfigs(msgspec.Struct, frozen=True):
    """The settings of a resource, and the version to give with the next write; 0 was never written."""

    values: Mapping[str, str]
    version: int


class Broken(msgspec.Struct, frozen=True):
    """Metadata that is garbage or missing. What it was about is not served, and nothing is deleted because of it."""

    path: str
    """Where it lies, or should."""
    reason: str
    topic: str | None = None
    """The topic that cannot be told because of it."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What a store holds, as a controller loads it."""

    topics: tuple[Topic, ...]
    """Sorted by name; each one consistent in itself."""
    configs: Mapping[ConfigResource, StoredConfigs]
    deletions: tuple[Deletion, ...]
    """Sorted by name and id."""
    broken: tuple[Broken, ...] = ()
    """What could not be read. A topic named here is in no other field, and its name is taken."""


class StoreError(FastlogError):
    """The metadata store did not do what was asked; nothing was changed unless a subclass says otherwise."""


class AlreadyExistsError(StoreError):
    """A topic of that name is there, with another id."""


class NotFoundError(StoreError):
    """What was to be changed is not there."""


class VersionConflictError(StoreError):
    """Someone else wrote since the state was read: read again and decide again."""


class FencedError(StoreError):
    """Another controller was elected: this one's writes no longer take effect, and it has to resign."""


class CorruptStoreError(StoreError):
    """What is stored is garbage, or something that must be there is missing. The message names the place."""


class StoreUnavailableError(StoreError):
    """The store cannot be used now. Whether a write took effect is not known: read again and compare."""


class MetadataStore(Protocol):
    """Where topics, their settings, the cluster's id and producer ids live.

    Every call blocks until the change is durable, may be made from any thread, and is all or nothing (for
    `update_partitions`: each partition). A write that is repeated after an unknown outcome does no harm. Every call may
    raise StoreUnavailableError, and CorruptStoreError where it meets garbage; a store that is fenced raises
    FencedError for a write that came too late.
    """

    def cluster_id(self) -> str:
        """The cluster's id, made at the first call and the same ever after."""
        ...

    def topics(self) -> list[Topic]:
        """Every topic, sorted by name."""
        ...

    def snapshot(self) -> Snapshot:
        """Topics, settings and deletions in one pass; garbage is told in it instead of raised."""
        ...

    def create_topic(self, topic: Topic, configs: Mapping[str, str]) -> None:
        """Adds a topic with its settings; again with the same id changes nothing.

        Raises AlreadyExistsError where another topic has the name, or where the id was used before.
        """
        ...

    def add_partitions(
        self, topic_id: UUID, expected_count: int, partitions: Sequence[PartitionState]
    ) -> Topic:
        """Adds partitions behind the `expected_count` that are there.

        Raises NotFoundError for an unknown topic, VersionConflictError where the count is another.
        """
        ...

    def update_partition(self, topic_id: UUID, partition: int, state: PartitionState) -> PartitionState:
        """Replaces a partition's state and answers it with its new version.

        `state.version` is the version that was read. Raises NotFoundError, VersionConflictError.
        """
        ...

    def update_partitions(self, writes: Sequence[PartitionWrite]) -> list[WriteResult]:
        """Replaces many partitions' states, each by itself; the results stand in the order of the writes.

        A partition may be named once. An outcome that stays unknown is a result, not an error.
        """
        ...

    def read_partitions(self, keys: Sequence[PartitionKey]) -> list[PartitionState | Unknown | None]:
        """The states as they are now, with all that was written before; None where there is no such partition.

        Garbage is told of the partitions that it is about, as Unknown, instead of raised: the others are read.
        """
        ...

    def delete_topic(self, topic_id: UUID) -> None:
        """Removes a topic with its settings and notes the deletion; again changes nothing.

        Raises NotFoundError for an id that never was.
        """
        ...

    def deletions(self) -> list[Deletion]:
        """The deletions whose directories may still be there, sorted by name and id."""
        ...

    def forget_deletion(self, topic_id: UUID) -> None:
        """Drops the note of a deletion: its directories are gone. Unknown ids are ignored."""
        ...

    def configs(self) -> dict[ConfigResource, StoredConfigs]:
        """Every resource that has settings."""
        ...

    def put_configs(self, resource: ConfigResource, values: Mapping[str, str], expected_version: int) -> int:
        """Replaces the settings of a resource and answers the new version.

        Raises VersionConflictError where the version is not `expected_version`, NotFoundError for a topic that is not
        there.
        """
        ...

    def allocate_producer_ids(self, count: int) -> range:
        """Producer ids that were never handed out before and never will be again."""
        ...

    def close(self) -> None:
        """Ends the use of the store; again is harmless."""
        ...
