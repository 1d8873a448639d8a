"""Topics of a cluster: names and settings are checked here, the rest is the controller's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.control_api import attempt
from fastlog.broker.forwarding.ports import KNOWN_MS
from fastlog.broker.patience import TimeLeft
from fastlog.broker.topic_directory import DEFAULT, TIMEOUT_MS, check_new, check_together, counts_of
from fastlog.errors import (
    InvalidPartitionsError,
    TopicAlreadyExistsError,
    TopicDeletionDisabledError,
    UnknownServerError,
    UnknownTopicIdError,
)
from fastlog.events import EventLog
from fastlog.state.controller.effects import Reply
from fastlog.state.controller.events import CreateAsked, DeleteAsked, GrowAsked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from uuid import UUID

    from fastlog.broker.configs import Configs
    from fastlog.broker.forwarding.controller_link import ControllerLink, Outcome
    from fastlog.broker.forwarding.ports import Image
    from fastlog.broker.topic_directory import NewTopic, TopicDirectory
    from fastlog.errors import KafkaError
    from fastlog.ports import Random, Topic


class ClusterTopics:
    """The Topics of a cluster. A change returns when it is known here, or a second after the controller made it."""

    def __init__(
        self,
        *,
        image: Image,
        topics: TopicDirectory,
        configs: Configs,
        controller: ControllerLink,
        random: Random,
    ) -> None:
        """`topics` is kept up to the image."""
        self._image = image
        self._topics = topics
        self._configs = configs
        self._controller = controller
        self._random = random
        self._log = EventLog("topics")

    def __contains__(self, name: str) -> bool:
        """See Topics."""
        return name in self._topics

    def all(self) -> list[Topic]:
        """See Topics."""
        return self._topics.all()

    def named(self, name: str) -> Topic:
        """See Topics."""
        return self._topics.named(name)

    def identified(self, topic_id: UUID) -> Topic:
        """See Topics."""
        return self._topics.identified(topic_id)

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
        check_new(self._topics, self._configs, name, overrides)
        if not assignments:
            partition_count, replication_factor = counts_of(
                self._configs, partition_count, replication_factor
            )
        command = CreateAsked(
            token=None,
            name=name,
            topic_id=self._random.uuid(),
            partition_count=partition_count,
            replication_factor=replication_factor,
            assignments={partition: tuple(row) for partition, row in (assignments or {}).items()},
            configs=overrides,
            validate_only=validate_only,
        )
        outcome = self._controller.ask(command, timeout_ms=timeout_ms)

        def is_there() -> bool:
            return name in self._topics and self._topics.named(name).topic_id == command.topic_id

        if self._was_first_tried(outcome, TopicAlreadyExistsError, is_there):
            return self._topics.named(name)
        if isinstance(outcome.error, TopicAlreadyExistsError):
            # who is told so is to find it here; that of another broker may be on its way
            self._await(lambda: name in self._topics)
        topic = _topic_of(outcome)
        if not validate_only:
            self._await(is_there)
            self._log.info(
                "topic created", topic=name, topic_id=str(topic.topic_id), partitions=len(topic.partitions)
            )
        return topic

    def create_all(
        self, wanted: Sequence[NewTopic], *, validate_only: bool = False, timeout_ms: int = TIMEOUT_MS
    ) -> list[Topic | KafkaError]:
        """See Topics; the time is for all of them together."""
        left = TimeLeft(timeout_ms, is_bounded=True)

        def created(topic: NewTopic) -> Topic | KafkaError:
            made: list[Topic] = []

            def create() -> None:
                topic_made = self.create(
                    topic.name,
                    partition_count=topic.partition_count,
                    replication_factor=topic.replication_factor,
                    assignments=topic.assignments,
                    configs=topic.configs,
                    validate_only=validate_only,
                    timeout_ms=left.ms(),
                )
                made.append(topic_made)

            error = attempt("CreateTopics", topic.name, create)
            return made[0] if error is None else error

        return [created(topic) for topic in wanted]

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
        topic_id = self.named(name).topic_id
        command = GrowAsked(
            token=None,
            topic_id=topic_id,
            count=count,
            assignments=None if assignments is None else tuple(tuple(row) for row in assignments),
            validate_only=validate_only,
        )
        outcome = self._controller.ask(command, timeout_ms=timeout_ms)

        def has_grown() -> bool:
            if name not in self._topics:
                return False
            known = self._topics.named(name)
            return known.topic_id == topic_id and len(known.partitions) >= count

        if self._was_first_tried(outcome, InvalidPartitionsError, has_grown):
            return self._topics.named(name)
        topic = _topic_of(outcome)
        if not validate_only:
            self._await(has_grown)
            self._log.info("topic grown", topic=name, partitions=count)
        return topic

    def delete(self, topic: Topic, *, timeout_ms: int = TIMEOUT_MS) -> None:
        """See Topics; the replicas go by and by, those of brokers that are down when they are back."""
        if not self._configs.config.broker().delete_topic_enable:
            raise TopicDeletionDisabledError("delete.topic.enable is false on this broker")
        command = DeleteAsked(token=None, topic_id=topic.topic_id)
        outcome = self._controller.ask(command, timeout_ms=timeout_ms)

        def is_gone() -> bool:
            return topic.name not in self._topics or self._topics.named(topic.name).topic_id != topic.topic_id

        if not self._was_first_tried(outcome, UnknownTopicIdError, is_gone):
            if outcome.error is not None:
                raise outcome.error
            self._await(is_gone)
        self._log.info("topic deleted", topic=topic.name, topic_id=str(topic.topic_id))

    def delete_all(self, topics: Sequence[Topic], *, timeout_ms: int = TIMEOUT_MS) -> list[KafkaError | None]:
        """See Topics; the time is for all of them together."""
        left = TimeLeft(timeout_ms, is_bounded=True)

        def delete(topic: Topic) -> None:
            self.delete(topic, timeout_ms=left.ms())

        return [attempt("DeleteTopics", topic.name, delete, topic) for topic in topics]

    def _was_first_tried(self, outcome: Outcome, meets: type[Exception], is_so: Callable[[], bool]) -> bool:
        """Whether the command failed because an earlier attempt of it, whose answer was lost, did what was wanted."""
        return outcome.is_uncertain and isinstance(outcome.error, meets) and self._await(is_so)

    def _await(self, is_so: Callable[[], bool]) -> bool:
        return self._image.wait_until(lambda _: is_so(), KNOWN_MS)


def _topic_of(outcome: Outcome) -> Topic:
    if outcome.error is not None:
        raise outcome.error
    body = outcome.answer.body
    if not isinstance(body, Reply) or body.topic is None:
        raise UnknownServerError(f"the controller answered {type(body).__name__} instead of the topic")
    return body.topic
