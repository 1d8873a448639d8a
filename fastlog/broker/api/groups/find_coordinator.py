"""FindCoordinator (API key 10), versions 0-6.

Tells which broker serves a group: on one node, this one. The first request makes `__consumer_offsets`. Differs from
Apache Kafka: the answer comes when the topic is there, so a client needs no second request; keys of transactions and of
share groups, which are not coordinated here, are INVALID_REQUEST, as Kafka answers where it has no share coordinator.

KIPs: 1 key types (98), 3 flexible, 4 many keys (699), 5 TRANSACTION_ABORTABLE (890), 6 share groups (932).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, storage_error
from fastlog.broker.groups.offsets_topic import find_or_create, partition_of
from fastlog.errors import CoordinatorNotAvailableError, InvalidRequestError, KafkaError
from fastlog.events import EventLog
from fastlog.ports import StoreUnavailableError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext

GROUP = 0
BATCHED_FROM = 4
NOWHERE = -1


def handle(
    services: Services, context: RequestContext, request: FindCoordinatorRequest
) -> FindCoordinatorResponse:
    """Tells where each key is served."""
    if context.api_version >= BATCHED_FROM:
        found = [_find(services, context, request.key_type, key) for key in request.coordinator_keys]
        return FindCoordinatorResponse(coordinators=found)
    one = _find(services, context, request.key_type, request.key)
    return FindCoordinatorResponse(
        error_code=one.error_code,
        error_message=one.error_message,
        node_id=one.node_id,
        host=one.host,
        port=one.port,
    )


def _find(services: Services, context: RequestContext, key_type: int, key: str) -> Coordinator:
    try:
        if key_type != GROUP:
            raise InvalidRequestError("this broker coordinates neither transactions nor share groups")
        services.require_group(context, Operation.DESCRIBE, key)
        node_id = _leader(services, key)
    except KafkaError as error:
        return _nowhere(key, error)
    told = services.addresses.told(context)
    return Coordinator(key=key, node_id=node_id, host=told.host, port=told.port, error_message=None)


def _leader(services: Services, group_id: str) -> int:
    try:
        topic = find_or_create(services.topics, services.configs.config.broker())
    except KafkaError as error:
        EventLog("groups").error("the topic of groups could not be made", reason=str(error))
        raise CoordinatorNotAvailableError(error.message) from error
    except StoreUnavailableError as error:
        raise CoordinatorNotAvailableError(storage_error(error).message) from error
    partition = topic.partitions[partition_of(group_id, len(topic.partitions))]
    if partition.leader != services.node_id:
        raise CoordinatorNotAvailableError(f"the partition of group {group_id!r} has no leader here")
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
    key=ApiKey.FIND_COORDINATOR, versions=(0, 6), lane=Lane.CHANGES, handle=handle, refuse=refuse
)
