"""DeleteTopics (API key 20), versions 1-6.

Each topic succeeds or fails alone. Differs from Apache Kafka: one node alone answers when the directories are renamed,
whatever the request's time-out, a cluster when its controller has noted the deletion, which is waited for from 1 to
30 s; the files go after file.delete.delay.ms. And `__consumer_offsets` is refused with
INVALID_TOPIC_EXCEPTION: Kafka 4.3.1 deletes it with the positions of all groups, which `kafka-topics.sh --delete
--topic '.*'` does unasked.

KIPs: 6 deletion by topic id (516).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt, code_of, message_of
from fastlog.broker.patience import TimeLeft
from fastlog.errors import InvalidRequestError, InvalidTopicError, KafkaError, UnknownTopicIdError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.message import ZERO_UUID
from fastlog.protocol.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from fastlog.state.topic_names import OFFSETS_TOPIC

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext


def handle(services: Services, context: RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
    """Deletes each topic; one that stands twice, by name or id, is left alone and answered once."""
    by_topic: dict[str | bytes | None, list[DeleteTopicState]] = {}
    for state in _wanted(request):
        by_topic.setdefault(_topic_of(services, state), []).append(state)
    left = TimeLeft(request.timeout_ms, is_bounded=services.is_in_cluster)
    return DeleteTopicsResponse(
        responses=[
            _delete(services, context, states[0], left) if len(states) == 1 else _refuse_twice(states)
            for states in by_topic.values()
        ]
    )


def _wanted(request: DeleteTopicsRequest) -> list[DeleteTopicState]:
    return [*request.topics, *(DeleteTopicState(name=name) for name in request.topic_names)]


def _topic_of(services: Services, state: DeleteTopicState) -> str | bytes | None:
    """What is the same for two states that mean the same topic."""
    if state.name is not None or state.topic_id == ZERO_UUID:
        return state.name
    try:
        return services.topics.identified(UUID(bytes=state.topic_id)).name
    except UnknownTopicIdError:
        return state.topic_id


def _refuse_twice(states: list[DeleteTopicState]) -> DeletableTopicResult:
    error = InvalidRequestError("the topic stands twice in one request")
    return DeletableTopicResult(
        name=next((state.name for state in states if state.name is not None), None),
        topic_id=next((state.topic_id for state in states if state.topic_id != ZERO_UUID), ZERO_UUID),
        error_code=error.code,
        error_message=error.message,
    )


def _delete(
    services: Services, context: RequestContext, state: DeleteTopicState, left: TimeLeft
) -> DeletableTopicResult:
    result = DeletableTopicResult(name=state.name, topic_id=state.topic_id)

    def delete() -> None:
        by_id = state.topic_id != ZERO_UUID
        if by_id == (state.name is not None):
            raise InvalidRequestError("a topic is named either by its name or by its id")
        if state.name is not None:
            services.require_topic(context, Operation.DELETE, state.name)
            topic = services.topics.named(state.name)
        else:
            topic = services.topics.identified(UUID(bytes=state.topic_id))
            services.require_topic(context, Operation.DELETE, topic.name)
        result.name, result.topic_id = topic.name, topic.topic_id.bytes
        if topic.name == OFFSETS_TOPIC:
            raise InvalidTopicError(
                f"{topic.name} is not deleted: it holds the positions of all groups; delete groups instead"
            )
        services.topics.delete(topic, timeout_ms=left.ms())

    error = attempt("DeleteTopics", state.name or state.topic_id.hex(), delete)
    result.error_code, result.error_message = code_of(error), message_of(error)
    return result


def refuse(request: DeleteTopicsRequest, error: KafkaError) -> DeleteTopicsResponse:
    """The answer in which every topic failed."""
    return DeleteTopicsResponse(
        responses=[
            DeletableTopicResult(
                name=state.name, topic_id=state.topic_id, error_code=error.code, error_message=error.message
            )
            for state in _wanted(request)
        ]
    )


API = ControlApi(key=ApiKey.DELETE_TOPICS, versions=(1, 6), lane=Lane.CHANGES, handle=handle, refuse=refuse)
