"""Topics of one node alone: created, grown and deleted in an order that a kill -9 between any two steps does not break.

Create: store, then logs, then image. A topic that is in the store and has no logs gets them at the next start; where
the logs cannot be made and the broker lives, it is deleted again.
Delete: store (the topic goes, a note of its deletion stays), image, directories renamed, note forgotten. What a stop
left half done is finished at the next start, by the note and the topic's id, so a namesake made since is not touched.
Many topics take each step together: the steps wait for the disk, and so cost as much for a thousand as for one.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Protocol

import msgspec

from fastlog.broker.topic_directory import (
    DEFAULT,
    TIMEOUT_MS,
    NewTopic,
    TopicDirectory,
    check_new,
    check_together,
    colliding,
    counts_of,
)
from fastlog.errors import (
    InvalidPartitionsError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicDeletionDisabledError,
)
from fastlog.events import EventLog
from fastlog.ports import MetadataStore, PartitionState, StoreError, Topic
from fastlog.state.controller.decide.placement import check_assignments, place
from fastlog.state.topic_names import collision_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from fastlog.broker.configs import LocalConfigs
    from fastlog.broker.data_plane import DataPlane, TopicLogs
    from fastlog.broker.ports import Publisher
    from fastlog.ports import AlreadyExistsError, NotFoundError, Random


class TopicStore(MetadataStore, Protocol):
    """A MetadataStore that adds many topics at once."""

    def create_topics(
        self, topics: Sequence[tuple[Topic, Mapping[str, str]]]
    ) -> list[AlreadyExistsError | None]:
        """As `create_topic` for each: all or, where it raises, none; answers why a topic was not added."""
        ...

    def delete_topics(self, topic_ids: Sequence[UUID]) -> list[NotFoundError | None]:
        """As `delete_topic` for each: all or, where it raises, none; answers which ids never were."""
        ...

    def forget_deletions(self, topic_ids: Sequence[UUID]) -> None:
        """As `forget_deletion` for each."""
        ...

    def raise_leader_epochs(self) -> None:
        """Gives each partition its next leader epoch."""
        ...


class LocalTopics(TopicDirectory):
    """The Topics of one node alone: what was asked is done when a call returns, whatever time it was given."""

    def __init__(
        self,
        *,
        node_id: int,
        store: TopicStore,
        configs: LocalConfigs,
        data_plane: DataPlane,
        random: Random,
        publish: Publisher,
    ) -> None:
        super().__init__()
        self._node_id = node_id
        self._store = store
        self._configs = configs
        self._data_plane = data_plane
        self._random = random
        self._log = EventLog("topics")
        self._listeners.append(publish)

    def load(self, *, may_have_lost: bool = False) -> None:
        """Opens every topic's logs and finishes the deletions that a stop interrupted.

        Where logs `may_have_lost` their ends since the last run, all are led in a new epoch: other records take the
        lost ones' offsets, and who has read those can tell by it. Before the logs are open: no start is without.
        """
        self._data_plane.configure(self._configs.config.broker())
        if may_have_lost:
            self._store.raise_leader_epochs()
        for error in self._finish_deletions([(it.name, it.topic_id) for it in self._store.deletions()]):
            if error is not None:
                raise error
        topics = self._store.topics()
        for topic, error in zip(topics, self._open(topics), strict=True):
            if error is not None:
                # the others are served; this one answers KAFKA_STORAGE_ERROR until its reason is mended
                self._log.error("topic not wholly open", topic=topic.name, reason=str(error))
        self.publish(topics, ())

    def check_together(self, counts: Iterable[int]) -> None:
        """See Topics."""
        check_together(counts, self._configs.config.broker().num_partitions)

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
        """See Topics."""
        wanted = NewTopic(
            name=name,
            partition_count=partition_count,
            replication_factor=replication_factor,
            assignments=assignments or {},
            configs=configs or {},
        )
        (made,) = self.create_all([wanted], validate_only=validate_only, timeout_ms=timeout_ms)
        if isinstance(made, KafkaError):
            raise made
        return made

    def create_all(
        self, wanted: Sequence[NewTopic], *, validate_only: bool = False, timeout_ms: int = TIMEOUT_MS
    ) -> list[Topic | KafkaError]:
        """See Topics; the metadata of all is synced once, and their logs are made together."""
        names: dict[str, str] = {}
        made = [self._planned(it, names) for it in wanted]
        if not validate_only:
            self._store_new(made, wanted)
            self._open_new(made)
        return made

    def _planned(self, wanted: NewTopic, names: dict[str, str]) -> Topic | KafkaError:
        """The topic as it is to be; `names` are those planned before it, by how they collide."""
        try:
            check_new(self, self._configs, wanted.name, wanted.configs)
            if other := names.get(collision_key(wanted.name)):
                raise colliding(wanted.name, other)
            replicas = self._replicas(wanted.partition_count, wanted.replication_factor, wanted.assignments)
        except KafkaError as error:
            return error
        names[collision_key(wanted.name)] = wanted.name
        return Topic(
            name=wanted.name,
            topic_id=self._random.uuid(),
            partitions=tuple(new_partition(row) for row in replicas),
        )

    def _store_new(self, made: list[Topic | KafkaError], wanted: Sequence[NewTopic]) -> None:
        """Stores the topics in `made`; an error takes the place of one that is not to be."""
        planned = [(number, it) for number, it in enumerate(made) if isinstance(it, Topic)]
        errors = self._store.create_topics([(topic, wanted[number].configs) for number, topic in planned])
        for (number, topic), error in zip(planned, errors, strict=True):
            if error is not None:
                made[number] = TopicAlreadyExistsError(str(error))
            else:
                self._configs.topic_created(topic.name, wanted[number].configs)

    def _open_new(self, made: list[Topic | KafkaError]) -> None:
        """Opens the stored topics in `made`; an error takes the place of one whose logs cannot be made."""
        stored = [(number, it) for number, it in enumerate(made) if isinstance(it, Topic)]
        topics = [topic for _, topic in stored]
        # in the mapping even where a log cannot be opened: the store has it, so the topic exists
        try:
            errors = self._open(topics)
        finally:
            self.publish(topics, ())
        self._withdraw([topic for topic, error in zip(topics, errors, strict=True) if error is not None])
        for (number, topic), error in zip(stored, errors, strict=True):
            if error is not None:
                made[number] = error
            else:
                self._log.info(
                    "topic created",
                    topic=topic.name,
                    topic_id=str(topic.topic_id),
                    partitions=len(topic.partitions),
                )

    def _withdraw(self, topics: Sequence[Topic]) -> None:
        """Undoes creations that failed, on a full disk say: whoever tries again is to find nothing of them."""
        errors: Sequence[KafkaError | StoreError | None]
        try:
            errors = self._delete(topics)
        except (KafkaError, StoreError) as error:
            errors = [error] * len(topics)
        for topic, reason in zip(topics, errors, strict=True):
            if reason is not None:
                self._log.error(
                    "a topic that was not wholly created is left, delete it",
                    topic=topic.name,
                    reason=str(reason),
                )

    def _replicas(
        self, partition_count: int, replication_factor: int, assignments: Mapping[int, Sequence[int]]
    ) -> list[tuple[int, ...]]:
        brokers = (self._node_id,)
        if assignments:
            return check_assignments(assignments, partition_count, replication_factor, brokers)
        counts = counts_of(self._configs, partition_count, replication_factor)
        return place(*counts, brokers)

    def grow(
        self,
        name: str,
        count: int,
        *,
        assignments: Sequence[Sequence[int]] | None = None,
        validate_only: bool = False,
        timeout_ms: int = TIMEOUT_MS,
    ) -> Topic:
        """See Topics."""
        topic = self.named(name)
        present = len(topic.partitions)
        if count <= present:
            raise InvalidPartitionsError(
                f"topic {name!r} has {present} partitions; {count} would not be more"
            )
        added = count - present
        factor = len(topic.partitions[0].replicas)
        if assignments is not None:
            rows = dict(enumerate(assignments))
            replicas = check_assignments(rows, DEFAULT, DEFAULT, (self._node_id,), expected=added)
        else:
            replicas = place(added, factor, (self._node_id,))
        states = [new_partition(row) for row in replicas]
        if validate_only:
            return msgspec.structs.replace(topic, partitions=(*topic.partitions, *states))
        grown = self._store.add_partitions(topic.topic_id, present, states)
        try:
            (error,) = self._open([grown])
        finally:
            self.publish((grown,), ())
        if error is not None:
            raise error
        self._log.info("topic grown", topic=name, partitions=count)
        return grown

    def delete(self, topic: Topic, *, timeout_ms: int = TIMEOUT_MS) -> None:
        """See Topics."""
        (error,) = self.delete_all([topic], timeout_ms=timeout_ms)
        if error is not None:
            raise error

    def delete_all(self, topics: Sequence[Topic], *, timeout_ms: int = TIMEOUT_MS) -> list[KafkaError | None]:
        """See Topics; the metadata of all is synced once, and their directories are renamed together."""
        if not self._configs.config.broker().delete_topic_enable:
            disabled = TopicDeletionDisabledError("delete.topic.enable is false on this broker")
            return [disabled] * len(topics)
        return self._delete(topics)

    def _delete(self, topics: Sequence[Topic]) -> list[KafkaError | None]:
        if not topics:
            return []
        # an id that the store does not know is gone already
        self._store.delete_topics([topic.topic_id for topic in topics])
        for topic in topics:
            self._configs.topic_deleted(topic.name)
        self.publish((), [topic.name for topic in topics])
        return self._finish_deletions([(topic.name, topic.topic_id) for topic in topics])

    def _finish_deletions(self, topics: Sequence[tuple[str, UUID]]) -> list[KafkaError | None]:
        """Of each why its directories are not put away, if so: the next start tries again."""
        if not topics:
            return []
        counts = self._data_plane.delete_topics([(name, topic_id.bytes) for name, topic_id in topics])
        done = [
            (name, topic_id, count)
            for (name, topic_id), count in zip(topics, counts, strict=True)
            if isinstance(count, int)
        ]
        self._store.forget_deletions([topic_id for _, topic_id, _ in done])
        for name, topic_id, count in done:
            self._log.info("topic deleted", topic=name, topic_id=str(topic_id), directories=count)
        return [None if isinstance(count, int) else count for count in counts]

    def apply_settings(self, name: str | None) -> None:
        """Hands changed settings to the logs of a topic, or to the engine and to all topics for None."""
        if name is None:
            self._data_plane.configure(self._configs.config.broker())
        for topic in [it.name for it in self.all()] if name is None else [name]:
            if topic in self:
                self._data_plane.set_topic_settings(topic, self._configs.topic_settings(topic))

    def _open(self, topics: Sequence[Topic]) -> list[KafkaError | None]:
        """Opens what is not open of topics; of each why it is not, if so."""
        return self._data_plane.open_topics([self._logs_of(topic) for topic in topics])

    def _logs_of(self, topic: Topic) -> TopicLogs:
        led = [
            (index, it.leader_epoch)
            for index, it in enumerate(topic.partitions)
            if self._node_id in it.replicas
        ]
        return topic.name, topic.topic_id.bytes, led, self._configs.topic_settings(topic.name)


# on one node most are alike, and share one object
@functools.lru_cache(maxsize=1024)
def new_partition(replicas: tuple[int, ...]) -> PartitionState:
    """A partition that was just made: led by its first replica, all in sync."""
    return PartitionState(replicas=replicas, leader=replicas[0], leader_epoch=0, isr=replicas)
