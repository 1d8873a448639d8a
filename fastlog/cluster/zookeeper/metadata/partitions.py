"""Conditional writes of many partitions: pipelined transactions, and a result for each partition."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec
from kazoo.exceptions import NoNodeError

from fastlog.cluster.zookeeper.metadata.known import assignment
from fastlog.cluster.zookeeper.metadata.reading import TopicRead, read_names, read_topics
from fastlog.cluster.zookeeper.operations import (
    OPERATIONS_MAX,
    TRANSACTION_BYTES_MAX,
    Check,
    Put,
    RefusedError,
    size_bytes,
)
from fastlog.cluster.zookeeper.znodes import (
    decode_topic,
    encode,
    from_state,
    with_assignment,
)
from fastlog.ports import (
    Broken,
    Conflict,
    CorruptStoreError,
    PartitionKey,
    PartitionState,
    StoreError,
    StoreUnavailableError,
    Unknown,
    Written,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
    from fastlog.cluster.zookeeper.metadata.fence import Guard
    from fastlog.cluster.zookeeper.metadata.known import KnownTopics
    from fastlog.cluster.zookeeper.operations import Operation
    from fastlog.ports import PartitionWrite, WriteResult

#: how often what was refused or lost is looked at again; each time finds a reason, unless others write all the while
ROUNDS_MAX = 10


class _Batch:
    """One transaction in the making, and which of its operations writes which partition."""

    def __init__(self, head: Sequence[Operation]) -> None:
        self.operations = list(head)
        self.bytes = sum(size_bytes(each) for each in head)
        self.topics: set[UUID] = set()
        self.writes: list[tuple[int, PartitionWrite]] = []

    def has_room(self, more: Sequence[Operation]) -> bool:
        """Whether these fit too."""
        bytes_used = self.bytes + sum(size_bytes(each) for each in more)
        return len(self.operations) + len(more) <= OPERATIONS_MAX and bytes_used <= TRANSACTION_BYTES_MAX

    def add(self, write: PartitionWrite, operations: Sequence[Operation]) -> None:
        """The last of `operations` is the write."""
        self.operations += operations
        self.bytes += sum(size_bytes(each) for each in operations)
        self.topics.add(write.key.topic_id)
        self.writes.append((len(self.operations) - 1, write))


class _Run:
    """What is left of one call."""

    def __init__(self, writes: Sequence[PartitionWrite]) -> None:
        self.left = {write.key: write for write in writes}
        self.results: dict[PartitionKey, WriteResult] = {}
        self.to_read: set[PartitionKey] = set()
        """What is stored is not what was thought, or nobody knows."""
        self.in_doubt: set[PartitionKey] = set()
        """Sent without an answer."""

    def finish(self, key: PartitionKey, result: WriteResult) -> None:
        self.results[key] = result
        del self.left[key]

    def give_up(self, reason: str) -> None:
        for key in list(self.left):
            self.finish(key, Unknown(reason))


class Partitions:
    """Reads and writes of partitions by topic id."""

    def __init__(self, connection: ZooKeeperConnection, guard: Guard, known: KnownTopics) -> None:
        self._connection = connection
        self._paths = connection.paths
        self._guard = guard
        self._known = known

    def read(self, keys: Sequence[PartitionKey]) -> list[PartitionState | Unknown | None]:
        """The states, None where there is none; see MetadataStore."""
        return [Unknown(it.reason) if isinstance(it, Broken) else it for it in self._read(keys)]

    def _read(self, keys: Sequence[PartitionKey]) -> list[PartitionState | Broken | None]:
        if not keys:
            return []
        self._connection.sync()
        names = self._names({key.topic_id for key in keys})
        wanted: dict[str, set[int]] = defaultdict(set)
        for key in keys:
            if isinstance(name := names.get(key.topic_id), str):
                wanted[name].add(key.partition)
        reads = read_topics(self._connection, wanted)
        for name, topic in reads.items():
            if isinstance(topic, TopicRead) and not topic.znode.unfinished:
                self._known.note(name, topic.znode.topic_id, topic.states.items())
        return [_found(key, names.get(key.topic_id), reads) for key in keys]

    def _names(self, ids: set[UUID]) -> dict[UUID, str | Broken]:
        """The names of topics by id, those of deleted ones left out."""
        known = self._known.names
        read = read_names(self._connection, sorted(each for each in ids if each not in known))
        known.update({topic_id: name for topic_id, name in read.items() if isinstance(name, str)})
        return read | {each: known[each] for each in ids if each in known}

    def update(self, writes: Sequence[PartitionWrite]) -> list[WriteResult]:
        """Writes what is still at the version expected; see MetadataStore."""
        self._guard.check()
        run = _Run(writes)
        if len(run.left) < len(writes):
            raise StoreError("a partition is named twice in one call")
        for _ in range(ROUNDS_MAX):
            try:
                self._weed_out(run)
            except StoreUnavailableError as error:
                run.give_up(str(error))
            if not run.left:
                break
            self._write_all(run)
        run.give_up("others write the same topics faster than they can be read")
        return [run.results[write.key] for write in writes]

    def _weed_out(self, run: _Run) -> None:
        """Reads what is not known at the version expected, and answers what that decides."""
        for key, write in run.left.items():
            known = self._known.assignments.get(key)
            if known is None or known[0] != write.state.version or key.topic_id not in self._known.names:
                run.to_read.add(key)
        keys = sorted(run.to_read)
        for key, actual in zip(keys, self._read(keys), strict=True):
            expected = run.left[key].state
            if isinstance(actual, Broken):
                run.finish(key, Unknown(actual.reason))
            elif key in run.in_doubt and actual == _next(expected):
                run.finish(key, Written(expected.version + 1))
            elif actual is None or actual.version != expected.version:
                run.finish(key, Conflict(actual))
        run.to_read.clear()
        run.in_doubt.clear()

    def _write_all(self, run: _Run) -> None:
        still: list[PartitionWrite] = []
        moving: dict[UUID, list[PartitionWrite]] = defaultdict(list)
        for write in run.left.values():
            if self._known.assignments[write.key] == assignment(write.state):
                still.append(write)
            else:
                moving[write.key.topic_id].append(write)
        batches = self._batches(still)
        outcomes = self._connection.commit_all([batch.operations for batch in batches])
        for batch, outcome in zip(batches, outcomes, strict=True):
            self._take(run, batch, outcome)
        for topic_id, writes in moving.items():
            self._move(run, topic_id, writes)

    def _batches(self, writes: Iterable[PartitionWrite]) -> list[_Batch]:
        batches: list[_Batch] = []
        for write in writes:
            put = self._put(write)
            lives = self._lives(write.key.topic_id)
            if not batches or not batches[-1].has_room([lives, put]):
                batches.append(_Batch(self._guard.operations))
            batch = batches[-1]
            batch.add(write, [put] if write.key.topic_id in batch.topics else [lives, put])
        return batches

    def _put(self, write: PartitionWrite) -> Put:
        path = self._paths.partition(self._known.names[write.key.topic_id], write.key.partition)
        return Put(path, from_state(write.state, self._guard.controller_epoch, path), write.state.version)

    def _lives(self, topic_id: UUID) -> Check:
        """The topic is still the one with this id: versions alone begin anew when a topic is made anew."""
        return Check(self._paths.topic_id(topic_id), 0)

    def _move(self, run: _Run, topic_id: UUID, writes: list[PartitionWrite]) -> None:
        """Writes states whose replicas change: the topic's znode with them, so one transaction after the other."""
        path = self._paths.topic(self._known.names[topic_id])
        left = list(writes)
        while left:
            try:
                data, stat = self._connection.get(path)
            except (NoNodeError, StoreUnavailableError):
                # nothing was sent, and the next look tells why
                run.to_read.update(write.key for write in left)
                return
            try:
                topic = decode_topic(data, path)
            except CorruptStoreError as error:
                for write in left:
                    run.finish(write.key, Unknown(str(error)))
                return
            if topic.topic_id != topic_id:
                self._known.names.pop(topic_id, None)
                run.to_read.update(write.key for write in left)
                return
            room = OPERATIONS_MAX - len(self._guard.operations) - 2
            now, left = left[:room], left[room:]
            fresh = with_assignment(topic, {write.key.partition: write.state for write in now})
            batch = _Batch([*self._guard.operations, self._lives(topic_id)])
            batch.operations.append(Put(path, encode(fresh, path), stat.version))
            for write in now:
                batch.add(write, [self._put(write)])
            (outcome,) = self._connection.commit_all([batch.operations])
            self._take(run, batch, outcome)

    def _take(self, run: _Run, batch: _Batch, outcome: list[object] | Exception) -> None:
        keys = [write.key for _, write in batch.writes]
        if isinstance(outcome, RefusedError):
            self._guard.check_refused(outcome)
            for topic_id in {key.topic_id for key in keys}:
                # the one that was refused may be a check of an id that is gone
                if outcome.operation.path == self._paths.topic_id(topic_id):
                    self._known.names.pop(topic_id, None)
            run.to_read.update(keys)
        elif isinstance(outcome, StoreUnavailableError):
            run.to_read.update(keys)
            run.in_doubt.update(keys)
        elif isinstance(outcome, Exception):
            raise outcome
        else:
            for _, write in batch.writes:
                self._known.assignments[write.key] = assignment(_next(write.state))
                run.finish(write.key, Written(write.state.version + 1))


def _found(
    key: PartitionKey, name: str | Broken | None, reads: Mapping[str, TopicRead | Broken]
) -> PartitionState | Broken | None:
    read = reads.get(name) if isinstance(name, str) else name
    if read is None or isinstance(read, Broken):
        return read
    return read.states.get(key.partition) if read.znode.topic_id == key.topic_id else None


def _next(state: PartitionState) -> PartitionState:
    """The state as it is stored when the write took effect."""
    return msgspec.structs.replace(state, version=state.version + 1)
