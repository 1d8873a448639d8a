"""Topics, partitions, settings, offsets, groups and brokers of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from fastlog.client.admin.coordinators import CoordinatorRequests
from fastlog.client.admin.disks import DisksAdmin
from fastlog.client.admin.groups import GroupAdmin
from fastlog.client.admin.leaders import by_topic, leaders_of
from fastlog.client.admin.placement import PlacementAdmin
from fastlog.client.admin.results import (
    CONFIG_SOURCES,
    ClusterDescription,
    ConfigEntry,
    CreatedTopic,
    OffsetResult,
    PartitionDescription,
    TopicDescription,
    TopicListing,
    topic_id_bytes,
    topic_id_text,
)
from fastlog.errors import (
    ConfigError,
    KafkaStorageError,
    OffsetOutOfRangeError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
    error_for,
)
from fastlog.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from fastlog.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from fastlog.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from fastlog.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from fastlog.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from fastlog.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from fastlog.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from fastlog.client.admin.leaders import TopicPartition
    from fastlog.client.admin.results import OffsetSpec
    from fastlog.client.metadata import TopicImage

TOPIC_RESOURCE = 2
BROKER_RESOURCE = 4
GROUP_RESOURCE = 32
SET, DELETE = 0, 1
CONSUMER_REPLICA_ID = -1
SPECIAL_TIMESTAMPS = {"latest": -1, "earliest": -2, "max-timestamp": -3}
UNKNOWN_TOPIC_OR_PARTITION = 3
DURABILITY = "fastlog.durability"
#: of error codes, why no records are deleted
NOT_DELETED = {
    OffsetOutOfRangeError.code: (
        'it takes offsets up to the end of what is replicated, which `list_offsets` tells as "latest", or -1 for it'
    ),
    PolicyViolationError.code: (
        "the topic's cleanup.policy is not delete: its records go when newer ones of their keys come"
    ),
}
#: and why a partition does not tell its offsets
NOT_READ = {
    KafkaStorageError.code: "it is offline there, or its disk fails, or the object store; that broker's log says why"
}


class Admin(GroupAdmin, PlacementAdmin, DisksAdmin):
    """A client for the cluster's administration, over TCP. Blocking; use one per thread.

    Every method raises NotReachableError where no broker answers within `request_timeout_ms`, or none can be connected
    to at first within `bootstrap_timeout_ms`; and the error of the cluster (`fastlog.errors.KafkaError`) where it
    refuses.
    """

    def __init__(
        self,
        bootstrap: str | Iterable[str] = "127.0.0.1:9092",
        *,
        client_id: str = "fastlog-admin",
        request_timeout_ms: float = 30_000,
        bootstrap_timeout_ms: float = 10_000,
    ) -> None:
        """Connects when it is first used. Raises ConfigError where `bootstrap` names no broker."""
        self._timeout_ms = request_timeout_ms
        self._metadata, self._leaders = leaders_of(
            bootstrap,
            client_id=client_id,
            request_timeout_ms=request_timeout_ms,
            bootstrap_timeout_ms=bootstrap_timeout_ms,
        )
        self._coordinators = CoordinatorRequests(
            self._metadata, client_id=client_id, request_timeout_ms=request_timeout_ms
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections."""
        self._leaders.close()
        self._coordinators.close()
        self._metadata.close()

    # -- topics ----------------------------------------------------------------------------------------------------

    def create_topic(
        self,
        name: str,
        *,
        partitions: int = -1,
        replication_factor: int = -1,
        configs: Mapping[str, str] | None = None,
        validate_only: bool = False,
    ) -> CreatedTopic:
        """Creates a topic; -1 leaves a count to the broker's defaults. `validate_only` only checks the request.

        Other brokers, and even this one, may not know the topic for some milliseconds after this returns. Where a
        broker took the request and gave no answer, and the next one says that there is such a topic, that is success
        if it has the partitions, replicas and settings that are asked for; otherwise TopicAlreadyExistsError is raised.
        """
        topic = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=replication_factor,
            configs=[CreatableTopicConfig(name=key, value=value) for key, value in (configs or {}).items()],
        )
        request = CreateTopicsRequest(
            topics=[topic], timeout_ms=int(self._timeout_ms), validate_only=validate_only
        )
        unanswered: list[str] = []
        answers = self._ask(request, unanswered).topics
        try:
            answer = self._single(answers, f"creating topic {name!r}")
        except TopicAlreadyExistsError:
            made = self._made_unheard(topic) if unanswered and not validate_only else None
            if made is None:
                raise
            return made
        return CreatedTopic(
            name, topic_id_text(answer.topic_id), answer.num_partitions, answer.replication_factor
        )

    def _made_unheard(self, wanted: CreatableTopic) -> CreatedTopic | None:
        """The topic that is there, where it may be what a request that nobody answered has made."""
        try:
            found = self.describe_topic(wanted.name)
            entries = self.describe_configs(topic=wanted.name) if wanted.configs else {}
        except UnknownTopicOrPartitionError:
            return None
        made = CreatedTopic(
            wanted.name, found.topic_id, len(found.partitions), len(found.partitions[0].replicas)
        )
        set_there = {key: it.value for key, it in entries.items() if it.source == "topic"}
        fits = (
            wanted.num_partitions in {-1, made.partition_count}
            and wanted.replication_factor in {-1, made.replication_factor}
            and all(set_there.get(it.name) == it.value for it in wanted.configs)
        )
        return made if fits else None

    def delete_topic(self, name: str | None = None, *, topic_id: str | None = None) -> None:
        """Deletes a topic with all its records, by its name or by its id as descriptions have it (KIP-516).

        An id means that topic alone, never one that was made later with the same name. Raises
        UnknownTopicOrPartitionError or UnknownTopicIdError where there is none, unless an earlier broker took the
        request and gave no answer: then it is gone. Raises ConfigError unless exactly one of the two is given, or where
        the id is none; and UnsupportedVersionError where the broker is too old for ids (Kafka before 2.8).
        """
        if (name is None) == (topic_id is None):
            raise ConfigError("name a topic to delete either by name= or by topic_id=")
        state = DeleteTopicState(name=name)
        if topic_id is not None:
            state.topic_id = topic_id_bytes(topic_id)
        # versions below 6 have the names alone, and leave out the rest
        request = DeleteTopicsRequest(
            topics=[state],
            topic_names=[] if name is None else [name],
            timeout_ms=int(self._timeout_ms),
        )
        unanswered: list[str] = []
        what = f"deleting topic {name!r}" if name is not None else f"deleting the topic with id {topic_id}"
        answers = self._ask(request, unanswered).responses
        if name is None and not answers:
            raise UnsupportedVersionError(
                f"{what}, asked of {self._asked()}: the broker does not delete topics by id; delete it by its name"
            )
        try:
            self._single(answers, what)
        except (UnknownTopicOrPartitionError, UnknownTopicIdError):
            if not unanswered:
                raise

    def list_topics(self, *, include_internal: bool = False) -> list[TopicListing]:
        """All topics, by name."""
        image = self._metadata.refresh(None, timeout_ms=self._timeout_ms)
        return [
            TopicListing(topic.name, topic_id_text(topic.topic_id), len(topic.partitions), topic.is_internal)
            for _, topic in sorted(image.topics.items())
            if include_internal or not topic.is_internal
        ]

    def describe_topic(self, name: str) -> TopicDescription:
        """A topic's partitions, leaders and replicas; raises UnknownTopicOrPartitionError."""
        image = self._metadata.refresh([name], timeout_ms=self._timeout_ms)
        topic = image.topics.get(name)
        if topic is None or topic.error_code:
            code = topic.error_code if topic is not None else UNKNOWN_TOPIC_OR_PARTITION
            raise error_for(
                code, f"describing topic {name!r}, asked of {self._asked()}: there is no such topic"
            )
        return describe(topic, self._durability(name))

    def describe_topics(self) -> list[TopicDescription]:
        """The partitions, leaders and replicas of all topics, internal ones too, by name; without their durability."""
        image = self._metadata.refresh(None, timeout_ms=self._timeout_ms)
        return [describe(topic, None) for _, topic in sorted(image.topics.items())]

    def _durability(self, topic: str) -> str | None:
        try:
            entry = self.describe_configs(topic=topic, keys=[DURABILITY]).get(DURABILITY)
        except TopicAuthorizationFailedError:
            # partitions may be seen by more people than settings
            return None
        return entry.value if entry is not None else None

    def create_partitions(self, topic: str, count: int, *, validate_only: bool = False) -> None:
        """Raises the number of a topic's partitions to `count`. Keys move: their partition depends on the number."""
        request = CreatePartitionsRequest(
            topics=[CreatePartitionsTopic(name=topic, count=count, assignments=None)],
            timeout_ms=int(self._timeout_ms),
            validate_only=validate_only,
        )
        self._single(self._ask(request).results, f"raising topic {topic!r} to {count} partitions")

    # -- settings --------------------------------------------------------------------------------------------------

    def describe_configs(
        self,
        *,
        topic: str | None = None,
        broker: int | None = None,
        group: str | None = None,
        keys: Sequence[str] | None = None,
    ) -> dict[str, ConfigEntry]:
        """The settings in force of a topic, a broker or a group, by name; all of them, or only `keys`."""
        kind, name = resource(topic, broker, group)
        request = DescribeConfigsRequest(
            resources=[
                DescribeConfigsResource(
                    resource_type=kind,
                    resource_name=name,
                    configuration_keys=None if keys is None else list(keys),
                )
            ]
        )
        answer = self._single(
            self._ask_about(broker, request).results,
            f"describing the settings of {resource_text(kind, name)}",
        )
        return {
            entry.name: ConfigEntry(
                entry.name,
                entry.value,
                CONFIG_SOURCES.get(entry.config_source, "unknown"),
                entry.read_only,
                entry.is_sensitive,
            )
            for entry in answer.configs
        }

    def alter_configs(
        self,
        changes: Mapping[str, str | None],
        *,
        topic: str | None = None,
        broker: int | None = None,
        group: str | None = None,
        validate_only: bool = False,
    ) -> None:
        """Sets some settings of a topic, a broker or a group and leaves the others; None resets one to its default."""
        kind, name = resource(topic, broker, group)
        configs = [
            AlterableConfig(name=key, config_operation=DELETE if value is None else SET, value=value)
            for key, value in changes.items()
        ]
        request = IncrementalAlterConfigsRequest(
            resources=[AlterConfigsResource(resource_type=kind, resource_name=name, configs=configs)],
            validate_only=validate_only,
        )
        self._single(
            self._ask_about(broker, request).responses, f"changing settings of {resource_text(kind, name)}"
        )

    # -- records ---------------------------------------------------------------------------------------------------

    def list_offsets(
        self,
        specs: Mapping[TopicPartition, OffsetSpec],
        *,
        unanswered: dict[TopicPartition, Exception] | None = None,
        timeout_ms: float | None = None,
    ) -> dict[TopicPartition, OffsetResult]:
        """For each (topic, partition) the offset that its spec names.

        "earliest" is the first readable record, "latest" the one after the last, "max-timestamp" the record with the
        largest timestamp; a number is the first record whose timestamp is that many milliseconds or more.

        A partition that has no answer within `timeout_ms`, such as one that is offline, ends it with an error; with
        `unanswered` it is put in there with the reason, and the others are returned. `timeout_ms` is
        `request_timeout_ms` where it is None.
        """
        return self._leaders.ask(
            {entry: timestamp_of(spec) for entry, spec in specs.items()},
            list_offsets_request,
            read_list_offsets,
            self._timeout_ms if timeout_ms is None else timeout_ms,
            what="looking for the offset at timestamp",
            hints=NOT_READ,
            unanswered=unanswered,
        )

    def delete_records(self, before: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Deletes the records below an offset (-1: all) and returns the first readable offset of each partition."""

        def build(group: Mapping[TopicPartition, int]) -> DeleteRecordsRequest:
            topics = [
                DeleteRecordsTopic(
                    name=topic,
                    partitions=[
                        DeleteRecordsPartition(partition_index=index, offset=group[topic, index])
                        for index in indexes
                    ],
                )
                for topic, indexes in by_topic(group).items()
            ]
            return DeleteRecordsRequest(topics=topics, timeout_ms=int(self._timeout_ms))

        return self._leaders.ask(
            before,
            build,
            read_delete_records,
            self._timeout_ms,
            what="deleting the records before offset",
            hints=NOT_DELETED,
        )

    # -- brokers ---------------------------------------------------------------------------------------------------

    def describe_cluster(self) -> ClusterDescription:
        """The brokers, their addresses (with ZeroMQ endpoints where they have them) and the controller."""
        image = self._metadata.refresh([], timeout_ms=self._timeout_ms)
        brokers = tuple(broker for _, broker in sorted(image.brokers.items()))
        return ClusterDescription(image.cluster_id or "", image.controller_id, brokers)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _asked(self) -> str:
        return self._metadata.bootstrap_text

    def _ask(self, request: Any, unanswered: list[str] | None = None) -> Any:
        return self._metadata.request(request, timeout_ms=self._timeout_ms, unanswered=unanswered)

    def _ask_about(self, broker: int | None, request: Any) -> Any:
        """Asks a broker about itself, which only it answers, or any about all else."""
        if broker is None:
            return self._ask(request)
        image = self._metadata.refresh([], timeout_ms=self._timeout_ms)
        address = image.brokers.get(broker)
        # one that is not there: let another say so
        if address is None:
            return self._ask(request)
        return self._coordinators.request((address.host, address.port), request, timeout_ms=self._timeout_ms)

    def _single(self, answers: Sequence[Any], what: str) -> Any:
        """The one answer to a request about one thing; raises its error."""
        if len(answers) != 1:
            raise error_for(
                -1, f"{what}, asked of {self._asked()}: {len(answers)} answers came instead of one"
            )
        answer = answers[0]
        if answer.error_code:
            detail = f": {answer.error_message}" if answer.error_message else ""
            raise error_for(answer.error_code, f"{what}, asked of {self._asked()}{detail}")
        return answer


def describe(topic: TopicImage, durability: str | None) -> TopicDescription:
    """A topic of the metadata as Admin returns it."""
    partitions = tuple(
        PartitionDescription(
            partition.index,
            partition.leader,
            partition.leader_epoch,
            partition.replicas,
            partition.isr,
            partition.offline_replicas,
        )
        for partition in topic.partitions
    )
    return TopicDescription(
        topic.name, topic_id_text(topic.topic_id), topic.is_internal, partitions, durability
    )


def resource(topic: str | None, broker: int | None, group: str | None) -> tuple[int, str]:
    """Kafka's type and name of what is to be configured; raises ConfigError unless exactly one is given."""
    of = {TOPIC_RESOURCE: topic, BROKER_RESOURCE: broker, GROUP_RESOURCE: group}
    named = [(kind, str(name)) for kind, name in of.items() if name is not None]
    if len(named) != 1:
        raise ConfigError("name either topic=, broker= or group=")
    return named[0]


def resource_text(kind: int, name: str) -> str:
    """A resource, for messages."""
    if kind == BROKER_RESOURCE:
        return f"broker {name}"
    return f"{'topic' if kind == TOPIC_RESOURCE else 'group'} {name!r}"


def timestamp_of(spec: OffsetSpec) -> int:
    """The timestamp that stands for `spec` in ListOffsets; raises ConfigError."""
    timestamp = spec if isinstance(spec, int) else SPECIAL_TIMESTAMPS.get(spec)
    if timestamp is None or (isinstance(spec, int) and spec < 0):
        raise ConfigError(
            f"{spec!r} names no offset; use 'earliest', 'latest', 'max-timestamp' or milliseconds since 1970"
        )
    return timestamp


def list_offsets_request(
    group: Mapping[TopicPartition, int], *, isolation_level: int = 0
) -> ListOffsetsRequest:
    """ListOffsets for one leader: a timestamp for each partition. Isolation level 1 is that of committed records."""
    topics = [
        ListOffsetsTopic(
            name=topic,
            partitions=[
                ListOffsetsPartition(partition_index=index, timestamp=group[topic, index])
                for index in indexes
            ],
        )
        for topic, indexes in by_topic(group).items()
    ]
    return ListOffsetsRequest(replica_id=CONSUMER_REPLICA_ID, isolation_level=isolation_level, topics=topics)


def read_list_offsets(response: Any) -> Iterator[tuple[TopicPartition, int, OffsetResult]]:
    """The entries of a ListOffsets response."""
    for topic in response.topics:
        for answer in topic.partitions:
            result = OffsetResult(answer.offset, answer.timestamp, answer.leader_epoch)
            yield (topic.name, answer.partition_index), answer.error_code, result


def read_delete_records(response: Any) -> Iterator[tuple[TopicPartition, int, int]]:
    """The entries of a DeleteRecords response."""
    for topic in response.topics:
        for answer in topic.partitions:
            yield (topic.name, answer.partition_index), answer.error_code, answer.low_watermark
