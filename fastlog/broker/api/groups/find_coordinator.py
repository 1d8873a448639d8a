"""FindCoordinator (API key 10), versions 0-6.

Tells which broker serves a group: the leader of its partition of `__consumer_offsets`, as it is known here. The first
request makes that topic. Differs from Apache Kafka: the answer comes when the topic is there, so a client needs no
second request; keys of transactions and of share groups, which are not coordinated here, are INVALID_REQUEST, as Kafka
answers where it has no share coordinator.

KIPs: 1 key types (98), 3 flexible, 4 many keys (699), 5 TRANSACTION_ABORTABLE (890), 6 share groups (932).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, storage_error
from fastlog.broker.groups.offsets_topic import find_or_create, partition_of
from fastlog.broker.patience import TimeLeft
from fastlog.broker.topic_directory import NEEDED_TIMEOUT_MS
from fastlog.errors import CoordinatorNotAvailableError, InvalidRequestError, KafkaError
from fastlog.events import EventLog
from fastlog.ports import StoreUnavailableError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from fastlog.state.topic_names import OFFSETS_TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.broker.context import RequestContext
    from fastlog.ports import Topic

GROUP = 0
BATCHED_FROM = 4
NOWHERE = -1


def handle(
    services: Services, context: RequestContext, request: FindCoordinatorRequest
) -> FindCoordinatorResponse | Lane:
    """Tells where each key is served; leaves it to `change` where the topic is missing."""
    if request.key_type == GROUP and OFFSETS_TOPIC not in services.topics:
        return Lane.CHANGES
    return _answer(services, context, request, lambda: services.topics.named(OFFSETS_TOPIC))


def change(
    services: Services, context: RequestContext, request: FindCoordinatorRequest
) -> FindCoordinatorResponse:
    """The same, when the topic is made."""
    left = TimeLeft(NEEDED_TIMEOUT_MS, is_bounded=services.is_in_cluster)
    return _answer(services, context, request, lambda: find_or_create(services, left))


def _answer(
    services: Services, context: RequestContext, request: FindCoordinatorRequest, topic: Callable[[], Topic]
) -> FindCoordinatorResponse:
    def find(key: str) -> Coordinator:
        return _find(services, context, request.key_type, key, topic)

    if context.api_version >= BATCHED_FROM:
        return FindCoordinatorResponse(coordinators=[find(key) for key in request.coordinator_keys])
    one = find(request.key)
    return FindCoordinatorResponse(
        error_code=one.error_code,
        error_message=one.error_message,
        node_id=one.node_id,
        host=one.host,
        port=one.port,
    )


def _find(
    services: Services, context: RequestContext, key_type: int, key: str, topic: Callable[[], Topic]
) -> Coordinator:
    try:
        if key_type != GROUP:
            raise InvalidRequestError("this broker coordinates neither transactions nor share groups")
        services.require_group(context, Operation.DESCRIBE, key)
        leader = _leader(key, topic)
        told = services.addresses.of(leader, context)
        if told is None:
            raise CoordinatorNotAvailableError(
                f"broker {leader}, which leads the partition of group {key!r}, has no address on this listener"
            )
    except KafkaError as error:
        return _nowhere(key, error)
    return Coordinator(key=key, node_id=leader, host=told.host, port=told.port, error_message=None)


def _leader(group_id: str, find_topic: Callable[[], Topic]) -> int:
    try:
        topic = find_topic()
    except KafkaError as error:
        EventLog("groups").error("the topic of groups could not be made", reason=str(error))
        raise CoordinatorNotAvailableError(error.message) from error
    except StoreUnavailableError as error:
        raise CoordinatorNotAvailableError(storage_error(error).message) from error
    partition = topic.partitions[partition_of(group_id, len(topic.partitions))]
    if partition.leader < 0:
        raise CoordinatorNotAvailableError(f"the partition of group {group_id!r} has no leader now")
    return partition.leader


def _nowhere(key: str, error: KafkaError) -> Coordinator:
    return Coordinator(
        key=key, node_id=NOWHERE, port=NOWHERE, error_code=error.code, error_message=error.message
    )


def refuse(request: FindCoordinatorRequest, error: KafkaError) -> FindCoordinatorResponse:
    """The answer in which every key failed."""
    return FindCoordinatorResponse(
        error_code=error.code,
        error_message=error.message,
        node_id=NOWHERE,
        port=NOWHERE,
        coordinators=[_nowhere(key, error) for key in request.coordinator_keys],
    )


API = ControlApi(
    key=ApiKey.FIND_COORDINATOR, versions=(0, 6), lane=Lane.ASKS, handle=handle, refuse=refuse, change=change
)
