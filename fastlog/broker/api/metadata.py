"""Metadata (API key 3), versions 0-13, as far as it may create topics.

The data plane answers Metadata by itself; a request that names topics which are absent, where client and broker allow
their creation, comes here whole. The topics are created with the broker's defaults, then the data plane answers, with
INVALID_TOPIC_EXCEPTION for bad names. Differs from Apache Kafka: the answer comes when the topics are there, so a
client needs no second request; a topic that could not be created is answered as unknown, and the log has the reason.
More than 10,000 partitions together are not created.

KIPs: 4 creation only if the client allows it (203), 13 an error of the whole answer (1102).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt
from fastlog.broker.groups.offsets_topic import create as create_offsets_topic
from fastlog.broker.patience import TimeLeft
from fastlog.broker.topic_directory import DEFAULT, NEEDED_TIMEOUT_MS, NewTopic
from fastlog.errors import KafkaError, PolicyViolationError, TopicAlreadyExistsError
from fastlog.events import EventLog
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponseTopic,
)
from fastlog.state.topic_names import OFFSETS_TOPIC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.broker.context import RequestContext
    from fastlog.ports import Topic

#: names of topics in a line of the log
SHOWN_MAX = 5


def handle(services: Services, context: RequestContext, request: MetadataRequest) -> None:
    """Creates the topics that are absent; the data plane then answers."""
    if (
        not services.configs.config.broker().auto_create_topics_enable
        or not request.allow_auto_topic_creation
    ):
        return

    log = EventLog("topics")
    asked = dict.fromkeys(topic.name for topic in request.topics or ())
    absent = [name for name in asked if name and name not in services.topics]
    try:
        services.topics.check_together(DEFAULT for _ in absent)
    except PolicyViolationError as refusal:
        log.warning(
            "topics not created on request of their metadata", topics=len(absent), reason=str(refusal)
        )
        return
    for name, error in _create(services, context, absent).items():
        # somebody else may ask for it at the same moment
        if error is not None and not isinstance(error, TopicAlreadyExistsError):
            log.warning("topic not created on request of its metadata", topic=name, reason=str(error))


def _create(
    services: Services, context: RequestContext, names: Sequence[str]
) -> dict[str, KafkaError | None]:
    """Of each topic why it was not created, if so."""
    left = TimeLeft(NEEDED_TIMEOUT_MS, is_bounded=services.is_in_cluster)
    made: list[Topic | KafkaError] = []
    errors: dict[str, KafkaError | None] = {}
    for name in names:
        errors[name] = attempt("Metadata", name, services.require_topic, context, Operation.CREATE, name)
    plain = [name for name, error in errors.items() if error is None and name != OFFSETS_TOPIC]

    def create() -> None:
        wanted = [NewTopic(name=name) for name in plain]
        made.extend(services.topics.create_all(wanted, timeout_ms=left.ms()))

    def create_positions() -> None:
        create_offsets_topic(services, timeout_ms=left.ms())

    if OFFSETS_TOPIC in errors and errors[OFFSETS_TOPIC] is None:
        errors[OFFSETS_TOPIC] = attempt("Metadata", OFFSETS_TOPIC, create_positions)
    if plain:
        failure = attempt("Metadata", plain[:SHOWN_MAX], create)
        results = [failure] * len(plain) if failure is not None else made
        for name, result in zip(plain, results, strict=True):
            errors[name] = result if isinstance(result, KafkaError) else None
    return errors


def refuse(request: MetadataRequest, error: KafkaError) -> MetadataResponse:
    """The answer in which every topic failed."""
    return MetadataResponse(
        topics=[
            MetadataResponseTopic(name=topic.name, topic_id=topic.topic_id, error_code=error.code)
            for topic in request.topics or ()
        ],
        error_code=error.code,
    )


API = ControlApi(key=ApiKey.METADATA, versions=(0, 13), lane=Lane.CHANGES, handle=handle, refuse=refuse)
