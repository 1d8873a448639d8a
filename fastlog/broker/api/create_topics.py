"""CreateTopics (API key 19), versions 2-7.

Each topic succeeds or fails alone, but more than 10,000 partitions together are refused as a whole, and none is made
where the metadata store fails. Differs from Apache Kafka: one node alone answers when the logs are open, whatever the
request's time-out, and requests that come together share a sync of its metadata; a cluster waits for its controller
from 1 to 30 s for all topics of a request together.

KIPs: 4 -1 for the default partitions and replication factor (464), 5 settings in the answer (525), 7 topic ids (516).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.api._runs import runs
from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt, code_of, message_of, repeated
from fastlog.broker.topic_directory import NewTopic
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
from fastlog.state.topic_names import collision_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.broker.context import RequestContext
    from fastlog.ports import Topic

#: names of topics in a line of the log
SHOWN_MAX = 5


def handle(services: Services, context: RequestContext, request: CreateTopicsRequest) -> CreateTopicsResponse:
    """Creates, or only checks, each topic."""
    (answer,) = together(services, [(context, request)])
    return answer


def together(
    services: Services, asked: Sequence[tuple[RequestContext, CreateTopicsRequest]]
) -> list[CreateTopicsResponse]:
    """Answers requests that came together, each as if it had come alone, in this order."""
    parts = [_part(services, context, request) for context, request in asked]
    for run in runs(parts):
        _create(services, run)
    return [part.response() for part in parts]


class _Part:
    """One request of those that came together."""

    def __init__(self, request: CreateTopicsRequest) -> None:
        self.request = request
        self.wanted: list[NewTopic] = []
        self.results: dict[str, CreatableTopicResult] = {}
        self.refusal: CreateTopicsResponse | None = None

    def names(self) -> set[str]:
        """What no other request of a run may name: what collides is refused, once the first is there."""
        return {collision_key(topic.name) for topic in self.wanted}

    def is_alone(self) -> bool:
        """Whether it shares its run with no other."""
        return self.request.validate_only

    def response(self) -> CreateTopicsResponse:
        """The answer, when all is done."""
        if self.refusal is not None:
            return self.refusal
        return CreateTopicsResponse(topics=list(self.results.values()))


def _part(services: Services, context: RequestContext, request: CreateTopicsRequest) -> _Part:
    part = _Part(request)
    try:
        services.topics.check_together(len(it.assignments) or it.num_partitions for it in request.topics)
    except PolicyViolationError as error:
        part.refusal = refuse(request, error)
        return part
    for name in sorted(twice := repeated([topic.name for topic in request.topics])):
        part.results[name] = _failed(name, InvalidRequestError(f"topic {name!r} stands twice in one request"))
    for topic in request.topics:
        if topic.name not in twice:
            refused = attempt("CreateTopics", topic.name, _ask, services, context, topic, part.wanted)
            # the place in the answer; what comes of the topic is not known yet
            part.results[topic.name] = _failed(topic.name, refused)
    return part


def _ask(services: Services, context: RequestContext, topic: CreatableTopic, asked: list[NewTopic]) -> None:
    services.require_topic(context, Operation.CREATE, topic.name)
    wanted = NewTopic(
        name=topic.name,
        partition_count=topic.num_partitions,
        replication_factor=topic.replication_factor,
        assignments=_assignments(topic),
        configs=_configs(topic),
    )
    asked.append(wanted)


def _create(services: Services, run: Sequence[_Part]) -> None:
    """Creates the topics of a run and fills in its results."""
    request = run[0].request
    asked = [topic for part in run for topic in part.wanted]
    made: list[Topic | KafkaError] = []

    def create() -> None:
        made.extend(
            services.topics.create_all(
                asked, validate_only=request.validate_only, timeout_ms=request.timeout_ms
            )
        )

    error = attempt("CreateTopics", [it.name for it in asked[:SHOWN_MAX]], create)
    if error is not None:
        made = [error] * len(asked)
    results = iter(made)
    for part in run:
        for wanted, result in zip(part.wanted, results, strict=False):
            part.results[wanted.name] = (
                _failed(wanted.name, result)
                if isinstance(result, KafkaError)
                else _made(services, result, wanted, validate_only=request.validate_only)
            )


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


def _made(services: Services, topic: Topic, wanted: NewTopic, *, validate_only: bool) -> CreatableTopicResult:
    result = CreatableTopicResult(
        name=topic.name,
        error_message=None,
        num_partitions=len(topic.partitions),
        replication_factor=len(topic.partitions[0].replicas),
        configs=[
            CreatableTopicConfigs(name=entry.key, value=entry.value, config_source=entry.origin)
            for entry in services.configs.config.topic_entries(wanted.configs)
        ],
    )
    if not validate_only:
        result.topic_id = topic.topic_id.bytes
    return result


def _failed(name: str, error: KafkaError | None) -> CreatableTopicResult:
    return CreatableTopicResult(name=name, error_code=code_of(error), error_message=message_of(error))


def refuse(request: CreateTopicsRequest, error: KafkaError) -> CreateTopicsResponse:
    """The answer in which every topic failed."""
    return CreateTopicsResponse(topics=[_failed(topic.name, error) for topic in request.topics])


API = ControlApi(
    key=ApiKey.CREATE_TOPICS,
    versions=(2, 7),
    lane=Lane.CHANGES,
    handle=handle,
    refuse=refuse,
    together=together,
)
