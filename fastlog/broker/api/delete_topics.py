"""DeleteTopics (API key 20), versions 1-6.

Each topic succeeds or fails alone. Differs from Apache Kafka: one node alone answers when the directories are renamed,
whatever the request's time-out, and requests that come together share the syncs of that; a cluster when its controller
has noted the deletion, which is waited for from 1 to 30 s for all topics of a request together; the files go after
file.delete.delay.ms. And `__consumer_offsets` is refused with INVALID_TOPIC_EXCEPTION: Kafka 4.3.1 deletes it with the
positions of all groups, which `kafka-topics.sh --delete --topic '.*'` does unasked.

KIPs: 6 deletion by topic id (516).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from fastlog.broker.api._runs import runs
from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt, code_of, message_of
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
    from collections.abc import Sequence

    from fastlog.broker.context import RequestContext
    from fastlog.ports import Topic

#: names of topics in a line of the log
SHOWN_MAX = 5


def handle(services: Services, context: RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
    """Deletes each topic; one that stands twice, by name or id, is left alone and answered once."""
    (answer,) = together(services, [(context, request)])
    return answer


def together(
    services: Services, asked: Sequence[tuple[RequestContext, DeleteTopicsRequest]]
) -> list[DeleteTopicsResponse]:
    """Answers requests that came together, each as if it had come alone, in this order."""
    parts = [_Part(services, context, request) for context, request in asked]
    for run in runs(parts):
        _delete(services, run)
    return [DeleteTopicsResponse(responses=part.results) for part in parts]


class _Part:
    """One request of those that came together."""

    def __init__(self, services: Services, context: RequestContext, request: DeleteTopicsRequest) -> None:
        self.request = request
        self.results: list[DeletableTopicResult] = []
        self._context = context
        self._left: list[tuple[DeleteTopicState, DeletableTopicResult]] = []
        by_topic: dict[str | bytes | None, list[DeleteTopicState]] = {}
        for state in _wanted(request):
            by_topic.setdefault(_topic_of(services, state), []).append(state)
        self._names = {it.hex() if isinstance(it, bytes) else it or "" for it in by_topic}
        for states in by_topic.values():
            if len(states) > 1:
                self.results.append(_refuse_twice(states))
                continue
            result = DeletableTopicResult(name=states[0].name, topic_id=states[0].topic_id)
            self.results.append(result)
            self._left.append((states[0], result))

    def names(self) -> set[str]:
        """What no other request of a run may name."""
        return self._names

    def is_alone(self) -> bool:
        """Whether it shares its run with no other."""
        return False

    def found(self, services: Services) -> list[tuple[Topic, DeletableTopicResult]]:
        """The topics that are to go; what is not is answered."""
        found: list[tuple[Topic, DeletableTopicResult]] = []
        for state, result in self._left:
            name = state.name or state.topic_id.hex()
            error = attempt("DeleteTopics", name, _find, services, self._context, state, result, found)
            _answer(result, error)
        return found


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


def _find(
    services: Services,
    context: RequestContext,
    state: DeleteTopicState,
    result: DeletableTopicResult,
    found: list[tuple[Topic, DeletableTopicResult]],
) -> None:
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
    found.append((topic, result))


def _delete(services: Services, run: Sequence[_Part]) -> None:
    """Deletes the topics of a run and fills in its results."""
    found = [pair for part in run for pair in part.found(services)]
    topics = [topic for topic, _ in found]
    errors: list[KafkaError | None] = []

    def delete() -> None:
        errors.extend(services.topics.delete_all(topics, timeout_ms=run[0].request.timeout_ms))

    failure = attempt("DeleteTopics", [it.name for it in topics[:SHOWN_MAX]], delete)
    if failure is not None:
        errors = [failure] * len(found)
    for (_, result), error in zip(found, errors, strict=True):
        _answer(result, error)


def _answer(result: DeletableTopicResult, error: KafkaError | None) -> None:
    result.error_code, result.error_message = code_of(error), message_of(error)


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


API = ControlApi(
    key=ApiKey.DELETE_TOPICS,
    versions=(1, 6),
    lane=Lane.CHANGES,
    handle=handle,
    refuse=refuse,
    together=together,
)
