"""CreateTopics (API key 19), versions 2-7.

Each topic succeeds or fails alone, but more than 10,000 partitions together are refused as a whole. Differs from
Apache Kafka: one node alone answers when the logs are open, whatever the request's time-out, a cluster waits for its
controller from 1 to 30 s for all topics together.

KIPs: 4 -1 for the default partitions and replication factor (464), 5 settings in the answer (525), 7 topic ids (516).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt, code_of, message_of, repeated
from fastlog.broker.patience import TimeLeft
from fastlog.errors import (
    InvalidConfigError,
    InvalidReplicaAssignmentError,
    InvalidRequestError,
    KafkaError,
    PolicyViolationError,
)
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext
    from fastlog.ports import Topic


def handle(services: Services, context: RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse:
    """Creates, or only checks, each topic."""
    try:
        services.topics.check_together(len(it.assignments) or it.num_partitions for it in request.topics)
    except PolicyViolationError as error:
        return refuse(request, error)
    twice = repeated([topic.name for topic in request.topics])
    results = [
        _failed(name, InvalidRequestError(f"topic {name!r} stands twice in one request"))
        for name in sorted(twice)
    ]
    left = TimeLeft(request.timeout_ms, is_bounded=services.is_in_cluster)
    results += [
        _create(services, context, wanted, request, left)
        for wanted in request.topics
        if wanted.name not in twice
    ]
    return CreateTopicsResponse(topics=results)


def _create(
    services: Services,
    context: RequestContext,
    wanted: CreatableTopic,
    request: CreateTopicsRequest,
    left: TimeLeft,
) -> CreatableTopicResult:
    result = CreatableTopicResult(name=wanted.name, error_message=None)

    def create() -> None:
        services.require_topic(context, Operation.CREATE, wanted.name)
        topic = services.topics.create(
            wanted.name,
            partition_count=wanted.num_partitions,
            replication_factor=wanted.replication_factor,
            assignments=_assignments(wanted),
            configs=_configs(wanted),
            validate_only=request.validate_only,
            timeout_ms=left.ms(),
        )
        _fill(services, result, topic, wanted)
        if not request.validate_only:
            result.topic_id = topic.topic_id.bytes

    error = attempt("CreateTopics", wanted.name, create)
    return _failed(wanted.name, error) if error else result


def _assignments(wanted: CreatableTopic) -> dict[int, list[int]]:
    rows = {row.partition_index: row.broker_ids for row in wanted.assignments}
    if len(rows) != len(wanted.assignments):
        raise InvalidReplicaAssignmentError("a partition is assigned twice")
    return rows


def _configs(wanted: CreatableTopic) -> dict[str, str]:
    configs = {}
    for config in wanted.configs:
        if config.value is None:
            raise InvalidConfigError(f"no value is given for {config.name}")
        configs[config.name] = config.value.strip()
    return configs


def _fill(services: Services, result: CreatableTopicResult, topic: Topic, wanted: CreatableTopic) -> None:
    result.num_partitions = len(topic.partitions)
    result.replication_factor = len(topic.partitions[0].replicas)
    result.configs = [
        CreatableTopicConfigs(name=entry.key, value=entry.value, config_source=entry.origin)
        for entry in services.configs.config.topic_entries(_configs(wanted))
    ]


def _failed(name: str, error: KafkaError) -> CreatableTopicResult:
    return CreatableTopicResult(name=name, error_code=code_of(error), error_message=message_of(error))


def refuse(request: CreateTopicsRequest, error: KafkaError) -> CreateTopicsResponse:
    """The answer in which every topic failed."""
    return CreateTopicsResponse(topics=[_failed(topic.name, error) for topic in request.topics])


API = ControlApi(key=ApiKey.CREATE_TOPICS, versions=(2, 7), lane=Lane.CHANGES, handle=handle, refuse=refuse)
