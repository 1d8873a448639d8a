"""What the control plane asks of the engine; `fastlog.native._engine.Engine` is one, tests have another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from fastlog.config import BrokerSettings, TopicSettings
    from fastlog.errors import KafkaError

#: a data directory: its path, why it cannot be used (empty where it can), the bytes of its disk in all and those that
#: are free, (topic, partition, bytes on disk) of each open partition in it, sorted, and of each that is to be moved to
#: it (topic, partition, bytes that are copied, how many offsets the copy is behind)
Directory: TypeAlias = (
    "tuple[str, str, int, int, list[tuple[str, int, int]], list[tuple[str, int, int, int]]]"
)

#: a topic's name and id, (partition, leader epoch) pairs of it, and its settings
TopicLogs: TypeAlias = "tuple[str, bytes, Sequence[tuple[int, int]], TopicSettings]"


class DataPlane(Protocol):
    """The partitions of this broker. Calls that touch the disk block, and release the GIL."""

    def open_topics(self, topics: Sequence[TopicLogs]) -> list[KafkaError | None]:
        """Opens, or creates, the logs of partitions and leads them; those that are open already are left alone.

        All are tried. Answers for each topic why not all of it is open, None where it is. Many at once cost less than
        each alone.
        """
        ...

    def delete_topics(self, topics: Sequence[tuple[str, bytes]]) -> list[int | KafkaError]:
        """Closes the partitions of topics and renames their directories for a later purge.

        Each is a name and an id: directories of that id are found whether they are open or not, others of the same name
        are left alone. All are tried. Answers for each how many there were, or why not all of it is put away, which may
        then be repeated. Many at once cost less than each alone.
        """
        ...

    def configure(self, settings: BrokerSettings) -> None:
        """Gives it the broker's own settings as they are now; those that are read at the start stay.

        What follows from them for topics is in force when the topics' settings are given again.
        """
        ...

    def set_topic_settings(self, topic: str, settings: TopicSettings) -> None:
        """Gives the open partitions of a topic new settings."""
        ...

    def delete_records(self, topic: str, partition: int, before_offset: int) -> int:
        """Moves the log start to `before_offset` (-1 is the high watermark), durably, and answers it.

        Raises a KafkaError: UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, OFFSET_OUT_OF_RANGE,
        KAFKA_STORAGE_ERROR.
        """
        ...

    def wait_deleted(
        self, partitions: Sequence[tuple[str, int, int]], timeout_ms: int
    ) -> list[tuple[int, int]]:
        """Waits until every live replica of (topic, partition, log start offset) has moved its log start so far.

        Answers the low watermark of each, -1 beside an error code, and that: REQUEST_TIMED_OUT for those that were not
        there in time, NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION. Blocks for at most `timeout_ms`, and not at
        all while 16 others do.
        """
        ...

    def producers(self, topic: str, partition: int) -> list[tuple[int, int, int, int, int, int]]:
        """The producers that a partition remembers, by id.

        Of each: its id, epoch and last sequence (-1 for none), when it last wrote in ms, the epoch of the coordinator
        of its last transaction (-1 for none), and where its open one starts (-1 for none).

        Raises a KafkaError: UNKNOWN_TOPIC_OR_PARTITION for one that has no replica here.
        """
        ...

    def log_sizes(self) -> list[tuple[str, int, int]]:
        """(topic, partition, bytes on disk) of each open partition, sorted."""
        ...

    def describe_directories(self) -> list[Directory]:
        """The data directories, in the order of `log.dirs`, each by its path without links."""
        ...

    def move_replicas(self, replicas: Sequence[tuple[str, bytes, int, Path]]) -> list[KafkaError | None]:
        """Has replicas, each a topic, its id, a partition and a data directory, moved there; one that is there stays.

        Returns when that is written down, synced: it is done in the background, by the next start if need be. Of each
        why it is not moved: LOG_DIR_NOT_FOUND, KAFKA_STORAGE_ERROR where a directory is offline or the first cannot be
        written to, REPLICA_NOT_AVAILABLE where the partition is not here (then it is remembered where to make it),
        INVALID_TOPIC_EXCEPTION for a name that is too long, INVALID_REQUEST for a tiered topic.
        """
        ...


class ReplicationPlane(Protocol):
    """The replicas of this broker in a cluster. Calls that touch the disk block, and release the GIL."""

    def apply_partitions(
        self,
        changes: Sequence[
            tuple[str, bytes, int, int, int, int, Sequence[int], Sequence[int]]
            | tuple[str, bytes, int, int, int, int, Sequence[int], Sequence[int], bool]
        ],
        settings: Mapping[str, TopicSettings],
    ) -> list[tuple[int, str]]:
        """Makes partitions here leaders or followers, opening or making their logs; blocks on the disk.

        Each is topic, topic id, partition, leader (-1 for none), leader epoch, partition epoch, replicas, in-sync
        replicas, and perhaps whether the high watermark is held, as by `set_isr`: where that is not said, that of a new
        leader is not, and another's stays as it is. `settings` has those of each topic. A result each: Kafka's error
        code, 0 where it was done, and for a person why not. An older leader epoch is FENCED_LEADER_EPOCH; an equal one
        only changes replicas and in-sync replicas, by a newer partition epoch. Requests that wait for what does not
        come any more are answered.
        """
        ...

    def set_isr(
        self,
        topic: str,
        index: int,
        leader_epoch: int,
        committed: Sequence[int],
        maximal: Sequence[int],
        partition_epoch: int,
        held: bool = False,
    ) -> None:
        """Changes the in-sync replicas of a partition led here: those confirmed, and with those that are proposed.

        The high watermark follows the second, and stands still while the first are fewer than min.insync.replicas, or
        it is `held`: while the state names eligible leader replicas, which must have all that is committed.
        Raises a KafkaError: FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, NOT_LEADER_OR_FOLLOWER, INVALID_UPDATE_VERSION
        for an older partition epoch.
        """
        ...

    def resign(self) -> int:
        """Leads nothing any more; how many partitions it was.

        Each is followed from now on, without a leader, in its epoch: it is led here again only in a later one. Requests
        that wait are answered with NOT_LEADER_OR_FOLLOWER.
        """
        ...

    def delete_partitions(
        self, topic: str, topic_id: bytes, partitions: Sequence[tuple[int, int]], is_deleted: bool
    ) -> int:
        """Puts replicas away: (partition, leader epoch), each unless its epoch here is a later one (KIP-570).

        They are closed, and their directories renamed for a later purge, open or not; answers how many there were.
        Those of another topic id are left alone. `is_deleted`: with the topic, and an object store is to forget it
        too. Blocks on the disk; raises a KafkaError, and may then be repeated.
        """
        ...

    def replica_positions(
        self,
    ) -> list[tuple[str, int, int, int, int, int, list[tuple[int, int, int, int, int]]]]:
        """Where the followers of the partitions led here are, sorted by topic and partition.

        Each is topic, partition, leader epoch, log end offset, high watermark, the log end when the epoch began, and
        the followers: replica, broker epoch, log end offset (-1 before its first fetch in this epoch), log start
        offset, milliseconds since it had all that there was.
        """
        ...

    def drain_notices(self) -> list[tuple[str, str, int, int]]:
        """Takes what happened to partitions, once each: what, topic, partition, replica. `control_fd` tells of them.

        `joinable`: that follower outside the in-sync replicas has what it needs to join. `synced`: a follower's log
        here is synced, and it may fetch on; the replica is -1.
        """
        ...

    def fetch_positions(
        self, partitions: Sequence[tuple[str, int]]
    ) -> list[tuple[int, int, int, int, int] | None]:
        """Where followers go on: log end offset, epoch of the last record (-1 for none), durable end offset, log start
        offset, high watermark.

        While the durable end is less than the log's a sync is to come, and the partition is not to be fetched. None
        for one that is not open here, or whose data directory failed.
        """
        ...

    def append_fetched(
        self, answer: bytes, version: int, asked: dict[tuple[bytes, int], tuple[int, int]]
    ) -> list[tuple[bytes, int, int, int, tuple[int, int] | None, str]]:
        """Takes in the answer of a Fetch (header and body, version 13 or later); blocks on the disk.

        `asked` has leader epoch and offset of the fetch by topic id and partition. A result for each partition that
        is in both: topic id, partition, error code, log end offset (-1 if not appended), epoch and end offset of the
        leader where the logs part, and for a person what is wrong. An answer to an older epoch is
        NOT_LEADER_OR_FOLLOWER, one to another offset than the log's end INVALID_REQUEST, damaged bytes are
        CORRUPT_MESSAGE. Raises a KafkaError where the whole answer is an error or does not parse.
        """
        ...

    def truncate(self, topic: str, index: int, leader_epoch: int, offset: int) -> bool:
        """Drops what a follower has from `offset` on, durably; whether there was any. Blocks on the disk.

        Raises NOT_LEADER_OR_FOLLOWER where it does not follow a leader of that epoch.
        """
        ...

    def restart_at(self, topic: str, index: int, leader_epoch: int, offset: int) -> None:
        """Has a follower start anew, empty, at its leader's log start. Blocks, and raises as `truncate`."""
        ...

    def begin_after_tier(
        self, topic: str, index: int, leader_epoch: int, local_start_offset: int, log_start_offset: int
    ) -> bool:
        """Has a follower begin anew where an uploaded segment ends, with epochs and producers from the object store.

        `local_start_offset` is where its leader's disk begins, `log_start_offset` where its whole log does. False: what
        is needed is on its way from the store, and this is to be called again; a KafkaError says why it does not come.
        Blocks on the disk, never on the store; raises as `truncate` too.
        """
        ...

    def end_offset_for(self, topic: str, index: int, epoch: int) -> tuple[int, int]:
        """The largest leader epoch known here that is no later than `epoch`, and the offset where it ends.

        (-1, -1) for one that is later than all.
        """
        ...

    def set_broker_epochs(self, epochs: Mapping[int, int]) -> None:
        """Says under which epochs brokers are registered: a follower's fetches count only under its own."""
        ...

    def set_lease(self, until_ns: int) -> None:
        """Says until when (time.monotonic_ns) this broker may act for itself alone; 2**63 - 1 is for ever.

        After it acks 0 and 1, acks=all of a leader alone in sync, and reads beyond what was known then are refused
        with NOT_LEADER_OR_FOLLOWER.
        """
        ...

    def set_replication_rates(self, leader: int, follower: int) -> None:
        """Bytes per second that throttled replicas send and fetch here; 2**63 - 1 is no limit.

        Throttled are those that their topic's settings list, while they are not in sync (KIP-73).
        """
        ...

    def offline_replicas(self) -> list[tuple[str, bytes, int]]:
        """The replicas here whose data directory failed: topic, topic id, partition. Cheap where none has."""
        ...

    def held_back(self) -> list[tuple[bytes, int]]:
        """The followers here that are to be left out of fetches now, for the rate: topic id, partition."""
        ...
