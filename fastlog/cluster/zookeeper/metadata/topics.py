"""Topics that come, grow and go.

What fits goes in one transaction. More needs several, and so that a reader sees all of it or nothing, the topic's own
znode says `unfinished` until the last one (making), or from the first one on (removing); that of a growing topic names
its new partitions when they are all there. Each of several transactions checks what its first one left behind, the
topic's id or the version of its znode: whoever clears up after another changes that, and the other is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from kazoo.exceptions import NoNodeError, NotEmptyError

from fastlog.cluster.zookeeper.fields import number_in
from fastlog.cluster.zookeeper.metadata.reading import TopicRead, read_topics, to_topic
from fastlog.cluster.zookeeper.operations import (
    OPERATIONS_MAX,
    TRANSACTION_BYTES_MAX,
    Check,
    Create,
    Put,
    RefusedError,
    Remove,
    in_batches,
    size_bytes,
)
from fastlog.cluster.zookeeper.znodes import (
    ConfigZnode,
    DeletionZnode,
    TopicIdZnode,
    TopicZnode,
    decode,
    decode_topic,
    encode,
    from_state,
    with_assignment,
)
from fastlog.events import EventLog
from fastlog.ports import (
    AlreadyExistsError,
    Broken,
    CorruptStoreError,
    NotFoundError,
    PartitionState,
    StoreUnavailableError,
    Topic,
    VersionConflictError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
    from fastlog.cluster.zookeeper.metadata.fence import Guard
    from fastlog.cluster.zookeeper.metadata.known import KnownTopics
    from fastlog.cluster.zookeeper.operations import Operation

#: how often a change is decided again because another one came between
TRIES_MAX = 10
R = TypeVar("R")


class Topics:
    """Creation, growth and deletion."""

    def __init__(self, connection: ZooKeeperConnection, guard: Guard, known: KnownTopics) -> None:
        self._connection = connection
        self._paths = connection.paths
        self._guard = guard
        self._known = known
        self._log = EventLog("zookeeper")

    def _decided(self, change: Callable[[], R]) -> R:
        """`change`, decided anew while others come between, and once more after an unknown outcome."""
        for _ in range(TRIES_MAX):
            self._guard.check()
            try:
                return self._connection.settle(change)
            except RefusedError as refused:
                self._guard.check_refused(refused)
                last = refused
        if isinstance(last.cause, NotEmptyError):
            raise CorruptStoreError(
                f"the znode {last.operation.path} has others below it that are not of a topic: remove them by hand"
            )
        raise StoreUnavailableError("others change the same topic all the while")

    def _commit(self, *operations: Operation) -> None:
        self._connection.commit([*self._guard.operations, *operations])

    def _commit_batches(self, operations: Sequence[Operation], *, beside: Sequence[Operation]) -> None:
        """Many operations in several transactions, pipelined; raises the first thing that went wrong."""
        batches = in_batches(operations, beside=[*self._guard.operations, *beside])
        for outcome in self._connection.commit_all(batches):
            if isinstance(outcome, Exception):
                raise outcome

    def _fit(self, operations: Sequence[Operation]) -> bool:
        every = [*self._guard.operations, *operations]
        return len(every) <= OPERATIONS_MAX and sum(map(size_bytes, every)) <= TRANSACTION_BYTES_MAX

    def _topic(self, name: str) -> tuple[TopicZnode, int] | None:
        path = self._paths.topic(name)
        try:
            data, stat = self._connection.get(path)
        except NoNodeError:
            return None
        return decode_topic(data, path), stat.version

    def _id(self, topic_id: UUID) -> tuple[TopicIdZnode, int] | None:
        path = self._paths.topic_id(topic_id)
        try:
            data, stat = self._connection.get(path)
        except NoNodeError:
            return None
        return decode(data, TopicIdZnode, path), stat.version

    # ---- creation ----

    def create(self, topic: Topic, configs: Mapping[str, str]) -> None:
        """Adds a topic; see MetadataStore."""
        self._decided(lambda: self._create(topic, configs))
        self._known.note(topic.name, topic.topic_id, enumerate(topic.partitions))

    def _create(self, topic: Topic, configs: Mapping[str, str]) -> None:
        found = self._topic(topic.name)
        if found is not None:
            znode, version = found
            if znode.topic_id == topic.topic_id and znode.unfinished is None:
                return
            if znode.unfinished is None:
                raise AlreadyExistsError(f"topic {topic.name} already exists")
            # of our own try before, the id stays as good as new
            self._clear(topic.name, znode, version, void_id=znode.topic_id != topic.topic_id)
        if self._id(topic.topic_id) is not None:
            raise AlreadyExistsError(f"the id {topic.topic_id} of topic {topic.name} was used before")
        self._make(topic, configs)

    def _make(self, topic: Topic, configs: Mapping[str, str]) -> None:
        paths, name = self._paths, topic.name
        whole = with_assignment(
            TopicZnode(topic_id=topic.topic_id, partitions={}), dict(enumerate(topic.partitions))
        )
        id_path, path, config_path = (
            paths.topic_id(topic.topic_id),
            paths.topic(name),
            paths.topic_config(name),
        )
        head = Create(id_path, encode(TopicIdZnode(topic=name), id_path))
        parent = Create(paths.partitions(name))
        partitions = self._creates(name, 0, topic.partitions)
        config = Create(config_path, encode(ConfigZnode(config=dict(configs)), config_path))
        at_once: list[Operation] = [head, Create(path, encode(whole, path)), parent, *partitions, config]
        if self._fit(at_once):
            self._commit(*at_once)
            return
        unfinished = msgspec.structs.replace(whole, unfinished="making")
        self._commit(head, Create(path, encode(unfinished, path)), parent)
        self._commit_batches(partitions, beside=[Check(id_path, 0)])
        self._commit(Check(id_path, 0), config, Put(path, encode(whole, path), 0))

    def _creates(self, name: str, first: int, states: Sequence[PartitionState]) -> list[Operation]:
        made: list[Operation] = []
        for index, state in enumerate(states, first):
            path = self._paths.partition(name, index)
            made.append(Create(path, from_state(state, self._guard.controller_epoch, path)))
        return made

    def _clear(self, name: str, znode: TopicZnode, version: int, *, void_id: bool = True) -> None:
        """Removes a topic that is unfinished: nobody was ever told of it, or everybody that it is deleted."""
        paths = self._paths
        path, id_path = paths.topic(name), paths.topic_id(znode.topic_id)
        holder = self._id(znode.topic_id)
        lives = holder is not None and not holder[0].deleted
        if holder is not None and lives and void_id:
            # its id is void from now on, and with it what its maker may still send
            self._commit(Put(id_path, encode(TopicIdZnode(topic=name, deleted=True), id_path), holder[1]))
        self._commit_batches(
            [Remove(each) for each in self._children(name)],
            beside=[Check(path, version)],
        )
        own = [Remove(id_path, 0)] if lives and not void_id else []
        self._commit(Remove(paths.partitions(name)), Remove(path, version), *own)

    def _children(self, name: str) -> list[str]:
        """The paths of what lies below a topic's partitions, whatever it is called."""
        path = self._paths.partitions(name)
        return [f"{path}/{each}" for each in self._connection.children(path)]

    # ---- growth ----

    def add_partitions(
        self, topic_id: UUID, expected_count: int, partitions: Sequence[PartitionState]
    ) -> Topic:
        """Adds partitions; see MetadataStore."""
        tried = [False]

        def attempt() -> None:
            name, znode, version = self._living(topic_id)
            count = len(znode.partitions)
            wanted = [state.replicas for state in partitions]
            there = [znode.partitions.get(index, ()) for index in range(expected_count, count)]
            if tried[0] and there == wanted:
                return
            if count != expected_count:
                raise VersionConflictError(f"topic {name} has {count} partitions, not {expected_count}")
            tried[0] = True
            self._grow(name, znode, version, partitions)

        self._decided(attempt)
        name = self._living(topic_id)[0]
        read = read_topics(self._connection, {name: None}).get(name)
        if isinstance(read, Broken):
            raise CorruptStoreError(read.reason)
        if not isinstance(read, TopicRead) or read.znode.topic_id != topic_id:
            raise NotFoundError(f"no topic with id {topic_id}")
        self._known.note(name, topic_id, read.states.items())
        return to_topic(name, read)

    def _grow(self, name: str, znode: TopicZnode, version: int, partitions: Sequence[PartitionState]) -> None:
        path, first = self._paths.topic(name), len(znode.partitions)
        whole = with_assignment(znode, dict(enumerate(partitions, first)))
        lives = Check(self._paths.topic_id(znode.topic_id), 0)
        creates = self._creates(name, first, partitions)
        numbers = (number_in(each.rpartition("/")[2]) for each in self._children(name))
        remains = sorted(index for index in numbers if index is not None and index >= first)
        put = Put(path, encode(whole, path), version)
        if not remains and self._fit([lives, *creates, put]):
            self._commit(lives, *creates, put)
            return
        # whoever began to grow it before is refused from now on
        self._commit(lives, Put(path, encode(znode, path), version))
        mine = Check(path, version + 1)
        self._commit_batches([Remove(self._paths.partition(name, index)) for index in remains], beside=[mine])
        self._commit_batches(creates, beside=[mine])
        self._commit(lives, Put(path, encode(whole, path), version + 1))

    def _living(self, topic_id: UUID) -> tuple[str, TopicZnode, int]:
        holder = self._id(topic_id)
        if holder is None or holder[0].deleted:
            raise NotFoundError(f"no topic with id {topic_id}")
        name = holder[0].topic
        found = self._topic(name)
        if found is None or found[0].topic_id != topic_id:
            raise CorruptStoreError(
                f"the znode {self._paths.topic(name)} is missing, or of another topic than {topic_id}"
            )
        if found[0].unfinished:
            raise NotFoundError(f"no topic with id {topic_id}")
        return name, *found

    # ---- deletion ----

    def delete(self, topic_id: UUID) -> None:
        """Removes a topic and notes it; see MetadataStore."""
        self._decided(lambda: self._delete(topic_id))

    def _delete(self, topic_id: UUID) -> None:
        holder = self._id(topic_id)
        if holder is None:
            raise NotFoundError(f"no topic with id {topic_id}")
        if holder[0].deleted:
            self._finish_removal(holder[0].topic, topic_id)
            return
        name, znode, version = self._living(topic_id)
        paths, count = self._paths, len(znode.partitions)
        path, id_path, note = paths.topic(name), paths.topic_id(topic_id), paths.deletion(topic_id)
        first: list[Operation] = [
            Put(id_path, encode(TopicIdZnode(topic=name, deleted=True), id_path), holder[1]),
            Create(note, encode(_deletion(name, znode), note)),
            *self._config_removal(name),
        ]
        rest: list[Operation] = [Remove(each) for each in self._children(name)]
        rest += [Remove(paths.partitions(name)), Remove(path, version)]
        if self._fit([*first, *rest]):
            self._commit(*first, *rest)
        else:
            removing = msgspec.structs.replace(znode, unfinished="removing")
            self._commit(*first, Put(path, encode(removing, path), version))
            self._finish_removal(name, topic_id)
        self._known.forget(topic_id, count)

    def _config_removal(self, name: str) -> list[Operation]:
        path = self._paths.topic_config(name)
        there = self._connection.ask(lambda client: client.exists_async(path)) is not None
        return [Remove(path)] if there else []

    def _finish_removal(self, name: str, topic_id: UUID) -> None:
        found = self._topic(name)
        if found is not None and found[0].topic_id == topic_id and found[0].unfinished:
            self._clear(name, *found)

    def clear_unfinished(self) -> list[str]:
        """Removes what a controller left half made or half removed; the names. For a controller that has just won.

        One that garbage is in the way of is named and left: it stays unfinished, which nobody is told of.
        """
        names = self._connection.children(self._paths.topics)
        reads = read_topics(self._connection, dict.fromkeys(names, ()))
        cleared = []
        for name, read in reads.items():
            if not isinstance(read, TopicRead) or not read.znode.unfinished:
                continue
            try:
                self._decided(lambda name=name: self._clear_if_unfinished(name))  # type: ignore[misc]
            except CorruptStoreError as error:
                self._log.error("unfinished topic not cleared", topic=name, reason=str(error))
            else:
                cleared.append(name)
        return cleared

    def _clear_if_unfinished(self, name: str) -> None:
        found = self._topic(name)
        if found is not None and found[0].unfinished:
            self._clear(name, *found)

    def exists(self, name: str) -> bool:
        """Whether there is a whole topic of that name."""
        found = self._topic(name)
        return found is not None and found[0].unfinished is None


def _deletion(name: str, znode: TopicZnode) -> DeletionZnode:
    replicas = sorted({broker for replicas in znode.partitions.values() for broker in replicas})
    return DeletionZnode(topic=name, partitions=len(znode.partitions), replicas=tuple(replicas))
