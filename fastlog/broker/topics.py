"""Topics: created, grown and deleted in an order that a kill -9 between any two steps does not break.

Create: store, then logs, then image. A topic that is in the store and has no logs gets them at the next start; where
the logs cannot be made and the broker lives, it is deleted again.
Delete: store (the topic goes, a note of its deletion stays), image, directories renamed, note forgotten. What a stop
left half done is finished at the next start, by the note and the topic's id, so a namesake made since is not touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from fastlog.broker.names import collision_key, why_invalid
from fastlog.errors import (
    InvalidPartitionsError,
    InvalidTopicError,
    KafkaError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    TopicDeletionDisabledError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
)
from fastlog.events import EventLog
from fastlog.ports import AlreadyExistsError, ConfigResource, PartitionState, StoreError, Topic
from fastlog.state.controller.decide.placement import check_assignments, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from uuid import UUID

    from fastlog.broker.configs import Configs
    from fastlog.broker.data_plane import DataPlane
    from fastlog.ports import MetadataStore, Random

# Kafka's own bound (ReplicationControlManager, MAX_PARTITIONS_PER_BATCH); a count from the wire costs files each
PARTITIONS_PER_REQUEST_MAX = 10_000
DEFAULT = -1


class Publisher(Protocol):
    """Tells those who answer Metadata what changed."""

    def __call__(self, put: Sequence[Topic], removed: Sequence[str]) -> None:
        """Publishes new or changed topics, and takes away those named in `removed`."""
        ...


class Topics:
    """The topics of the cluster. Changed on one thread only; read from any."""

    def __init__(
        self,
        *,
        node_id: int,
        store: MetadataStore,
        configs: Configs,
        data_plane: DataPlane,
        random: Random,
        publish: Publisher,
    ) -> None:
        self._node_id = node_id
        self._store = store
        self._configs = configs
        self._data_plane = data_plane
        self._random = random
        self._listeners: list[Publisher] = [publish]
        self._log = EventLog("topics")
        self._by_name: dict[str, Topic] = {}
        self._by_id: dict[UUID, Topic] = {}
        self._by_collision: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        """Whether there is a topic `name`."""
        return name in self._by_name

    def named(self, name: str) -> Topic:
        """The topic `name`, or UnknownTopicOrPartitionError."""
        topic = self._by_name.get(name)
        if topic is None:
            raise UnknownTopicOrPartitionError(f"topic {name!r} does not exist")
        return topic

    def identified(self, topic_id: UUID) -> Topic:
        """The topic with the id, or UnknownTopicIdError."""
        topic = self._by_id.get(topic_id)
        if topic is None:
            raise UnknownTopicIdError(f"no topic has the id {topic_id}")
        return topic

    def subscribe(self, changed: Publisher) -> Callable[[], None]:
        """Has `changed` told of topics too, of all that there are now first; on the thread that changes topics.

        Returns what ends that: without it the two sides keep each other alive.
        """
        changed(list(self._by_name.values()), ())
        self._listeners.append(changed)
        return lambda: self._listeners.remove(changed)

    def load(self) -> None:
        """Opens every topic's logs and finishes the deletions that a stop interrupted."""
        for deletion in self._store.deletions():
            self._finish_deletion(deletion.name, deletion.topic_id)
        topics = self._store.topics()
        for topic in topics:
            try:
                self._open(topic, range(len(topic.partitions)))
            except KafkaError as error:
                # the others are served; this one answers KAFKA_STORAGE_ERROR until its reason is mended
                self._log.error("topic not wholly open", topic=topic.name, reason=str(error))
        self._put(*topics)

    def check_new_name(self, name: str) -> None:
        """Raises the error that creating a topic `name` meets, if any."""
        if reason := why_invalid(name):
            raise InvalidTopicError(reason)
        if name in self._by_name:
            raise TopicAlreadyExistsError(f"topic {name!r} already exists")
        if other := self._by_collision.get(collision_key(name)):
            raise InvalidTopicError(
                f"topic name {name!r} collides with {other!r}: '.' and '_' are the same in metrics"
            )

    def check_together(self, counts: Iterable[int]) -> None:
        """Raises PolicyViolationError where the new partitions that one request asks for are too many together."""
        default = self._configs.config.broker().num_partitions
        total = sum(default if count == DEFAULT else max(count, 0) for count in counts)
        if total > PARTITIONS_PER_REQUEST_MAX:
            raise PolicyViolationError(
                f"{total} partitions are more than the {PARTITIONS_PER_REQUEST_MAX} of one request; ask in several"
            )

    def create(
        self,
        name: str,
        *,
        partition_count: int = DEFAULT,
        replication_factor: int = DEFAULT,
        assignments: Mapping[int, Sequence[int]] | None = None,
        configs: Mapping[str, str] | None = None,
        validate_only: bool = False,
    ) -> Topic:
        """Creates a topic and answers it; its id is zero where it was only validated.

        Raises the KafkaError that Kafka answers with.
        """
        self.check_new_name(name)
        overrides = dict(configs or {})
        self._configs.check(ConfigResource("topic", name), overrides)
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
            self._put(topic)

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
        settings = self._configs.config.broker()
        if partition_count == DEFAULT:
            partition_count = settings.num_partitions
        if replication_factor == DEFAULT:
            replication_factor = settings.default_replication_factor
        return place(partition_count, replication_factor, brokers)

    def grow(
        self,
        name: str,
        count: int,
        *,
        assignments: Sequence[Sequence[int]] | None = None,
        validate_only: bool = False,
    ) -> Topic:
        """Gives a topic `count` partitions in all and answers it as it then is."""
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
            self._put(grown)
        self._log.info("topic grown", topic=name, partitions=count)
        return grown

    def delete(self, topic: Topic) -> None:
        """Deletes a topic; its files stay for file.delete.delay.ms under another name."""
        if not self._configs.config.broker().delete_topic_enable:
            raise TopicDeletionDisabledError("delete.topic.enable is false on this broker")
        self._delete(topic)

    def _delete(self, topic: Topic) -> None:
        self._store.delete_topic(topic.topic_id)
        self._configs.topic_deleted(topic.name)
        self._remove(topic)
        self._finish_deletion(topic.name, topic.topic_id)

    def _finish_deletion(self, name: str, topic_id: UUID) -> None:
        count = self._data_plane.delete_topic(name, topic_id.bytes)
        self._store.forget_deletion(topic_id)
        self._log.info("topic deleted", topic=name, topic_id=str(topic_id), directories=count)

    def apply_settings(self, name: str | None) -> None:
        """Hands changed settings to the logs of a topic, or of all topics for None."""
        for topic in self._by_name if name is None else [name]:
            if topic in self._by_name:
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

    def _put(self, *topics: Topic) -> None:
        for topic in topics:
            self._by_name[topic.name] = topic
            self._by_id[topic.topic_id] = topic
            self._by_collision[collision_key(topic.name)] = topic.name
        self._publish(topics, ())

    def _publish(self, put: Sequence[Topic], removed: Sequence[str]) -> None:
        for tell in self._listeners:
            tell(put, removed)

    def _remove(self, topic: Topic) -> None:
        del self._by_name[topic.name]
        del self._by_id[topic.topic_id]
        del self._by_collision[collision_key(topic.name)]
        self._publish((), (topic.name,))


def new_partition(replicas: tuple[int, ...]) -> PartitionState:
    """A partition that was just made: led by its first replica, all in sync."""
    return PartitionState(replicas=replicas, leader=replicas[0], leader_epoch=0, isr=replicas)
