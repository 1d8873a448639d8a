"""Metadata (API key 3), versions 0-13, as far as it may create topics.

The data plane answers Metadata by itself; a request that names topics which are absent, where client and broker allow
their creation, comes here whole. The topics are created with the broker's defaults, then the data plane answers, with
INVALID_TOPIC_EXCEPTION for bad names. Differs from Apache Kafka: the answer comes when the topics are there, so a
client needs no second request; a topic that could not be created is answered as unknown, and the log has the reason.
More than 10,000 partitions together are not created.

KIPs: 4 creation only if the client allows it (203), 13 an error of the whole answer (1102).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt
from fastlog.broker.groups.offsets_topic import create as create_offsets_topic
from fastlog.broker.patience import TimeLeft
from fastlog.broker.topic_directory import DEFAULT, NEEDED_TIMEOUT_MS
from fastlog.errors import PolicyViolationError, TopicAlreadyExistsError
from fastlog.events import EventLog
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponseTopic,
)
from fastlog.state.topic_names import OFFSETS_TOPIC

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext
    from fastlog.errors import KafkaError


def handle(services: Services, context: RequestContext, request: MetadataRequest) -> None:
    """Creates the topics that are absent; the data plane then answers."""
    if (
        not services.configs.config.broker().auto_create_topics_enable
        or not request.allow_auto_topic_creation
    ):
        return

    left = TimeLeft(NEEDED_TIMEOUT_MS, is_bounded=services.is_in_cluster)

    def create(name: str) -> None:
        services.require_topic(context, Operation.CREATE, name)
        # somebody else may ask for it at the same moment
        with suppress(TopicAlreadyExistsError):
            if name == OFFSETS_TOPIC:
                create_offsets_topic(services, timeout_ms=left.ms())
            else:
                services.topics.create(name, timeout_ms=left.ms())

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
    for name in absent:
        error = attempt("Metadata", name, create, name)
        if error:
            log.warning("topic not created on request of its metadata", topic=name, reason=str(error))


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
