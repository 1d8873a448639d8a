"""Topics of one node alone: created, grown and deleted in an order that a kill -9 between any two steps does not break.

Create: store, then logs, then image. A topic that is in the store and has no logs gets them at the next start; where
the logs cannot be made and the broker lives, it is deleted again.
Delete: store (the topic goes, a note of its deletion stays), image, directories renamed, note forgotten. What a stop
left half done is finished at the next start, by the note and the topic's id, so a namesake made since is not touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.broker.topic_directory import (
    DEFAULT,
    TIMEOUT_MS,
    TopicDirectory,
    check_new,
    check_together,
    counts_of,
)
from fastlog.errors import (
    InvalidPartitionsError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicDeletionDisabledError,
)
from fastlog.events import EventLog
from fastlog.ports import AlreadyExistsError, PartitionState, StoreError, Topic
from fastlog.state.controller.decide.placement import check_assignments, place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from fastlog.broker.configs import LocalConfigs
    from fastlog.broker.data_plane import DataPlane
    from fastlog.broker.ports import Publisher
    from fastlog.ports import MetadataStore, Random


class LocalTopics(TopicDirectory):
    """The Topics of one node alone: what was asked is done when a call returns, whatever time it was given."""

    def __init__(
        self,
        *,
        node_id: int,
        store: MetadataStore,
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

    def load(self) -> None:
        """Opens every topic's logs and finishes the deletions that a stop interrupted."""
        self._data_plane.configure(self._configs.config.broker())
        for deletion in self._store.deletions():
            self._finish_deletion(deletion.name, deletion.topic_id)
        topics = self._store.topics()
        for topic in topics:
            try:
                self._open(topic, range(len(topic.partitions)))
            except KafkaError as error:
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
        overrides = dict(configs or {})
        check_new(self, self._configs, name, overrides)
        replicas = self._replicas(partition_count, replication_factor, assignments or {})
        topic = Topic(
            name=name, topic_id=self._random.uuid(), partitions=tuple(new_partition(row) for row in replicas)
        )
        if validate_only:
            return topic
        try:
            self._store.create_topic(topic, overrides)
        except AlreadyExistsError as error:
            raise TopicAlreadyExistsError(str(error)) from error
        self._configs.topic_created(name, overrides)
        try:
            self._open_new(topic)
        except KafkaError:
            self._withdraw(topic)
            raise
        self._log.info(
            "topic created", topic=name, topic_id=str(topic.topic_id), partitions=len(topic.partitions)
        )
        return topic

    def _open_new(self, topic: Topic) -> None:
        # in the mapping even where a log cannot be opened: the store has it, so the topic exists
        try:
            self._open(topic, range(len(topic.partitions)))
        finally:
            self.publish((topic,), ())

    def _withdraw(self, topic: Topic) -> None:
        """Undoes a creation that failed, on a full disk say: whoever tries again is to find nothing of it."""
        try:
            self._delete(topic)
        except (KafkaError, StoreError) as error:
            self._log.error(
                "a topic that was not wholly created is left, delete it", topic=topic.name, reason=str(error)
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
            self._open(grown, range(present, count))
        finally:
            self.publish((grown,), ())
        self._log.info("topic grown", topic=name, partitions=count)
        return grown

    def delete(self, topic: Topic, *, timeout_ms: int = TIMEOUT_MS) -> None:
        """See Topics."""
        if not self._configs.config.broker().delete_topic_enable:
            raise TopicDeletionDisabledError("delete.topic.enable is false on this broker")
        self._delete(topic)

    def _delete(self, topic: Topic) -> None:
        self._store.delete_topic(topic.topic_id)
        self._configs.topic_deleted(topic.name)
        self.publish((), (topic.name,))
        self._finish_deletion(topic.name, topic.topic_id)

    def _finish_deletion(self, name: str, topic_id: UUID) -> None:
        count = self._data_plane.delete_topic(name, topic_id.bytes)
        self._store.forget_deletion(topic_id)
        self._log.info("topic deleted", topic=name, topic_id=str(topic_id), directories=count)

    def apply_settings(self, name: str | None) -> None:
        """Hands changed settings to the logs of a topic, or to the engine and to all topics for None."""
        if name is None:
            self._data_plane.configure(self._configs.config.broker())
        for topic in [it.name for it in self.all()] if name is None else [name]:
            if topic in self:
                self._data_plane.set_topic_settings(topic, self._configs.topic_settings(topic))

    def _open(self, topic: Topic, partitions: range) -> None:
        led = [
            (index, topic.partitions[index].leader_epoch)
            for index in partitions
            if self._node_id in topic.partitions[index].replicas
        ]
        if led:
            settings = self._configs.topic_settings(topic.name)
            self._data_plane.open_partitions(topic.name, topic.topic_id.bytes, led, settings)


def new_partition(replicas: tuple[int, ...]) -> PartitionState:
    """A partition that was just made: led by its first replica, all in sync."""
    return PartitionState(replicas=replicas, leader=replicas[0], leader_epoch=0, isr=replicas)
