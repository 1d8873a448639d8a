"""ListConfigResources (API key 74), versions 0-1.

Answers which resources have settings: topics, brokers, the loggers of brokers, groups. Version 0 asks for clients'
metrics alone, of which there are none.

KIPs: 0 subscriptions of clients' metrics (1000), 1 all resources (1142).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.api._config_resource import BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC
from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, code_of
from fastlog.errors import ClusterAuthorizationFailedError, KafkaError, UnsupportedVersionError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext

ALL = (TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP)


def handle(
    services: Services, context: RequestContext, request: ListConfigResourcesRequest
) -> ListConfigResourcesResponse:
    """Names the resources of the types that are asked for, or of all."""
    asked = (CLIENT_METRICS,) if context.api_version == 0 else request.resource_types or ALL
    try:
        services.require_cluster(context, Operation.DESCRIBE_CONFIGS)
        if unknown := sorted(set(asked) - set(ALL)):
            raise UnsupportedVersionError(f"resources of type {unknown[0]} have no settings here")
    except (ClusterAuthorizationFailedError, UnsupportedVersionError) as error:
        return refuse(request, error)
    return ListConfigResourcesResponse(
        config_resources=[
            ConfigResource(resource_name=name, resource_type=kind)
            for kind in dict.fromkeys(asked)
            for name in _names(services, kind)
        ]
    )


def _names(services: Services, kind: int) -> list[str]:
    if kind == TOPIC:
        return sorted(topic.name for topic in services.topics.all())
    if kind in (BROKER, BROKER_LOGGER):
        return [str(broker_id) for broker_id in services.brokers.ids()]
    if kind == GROUP:
        return sorted(services.configs.names("group"))
    return []


def refuse(request: ListConfigResourcesRequest, error: KafkaError) -> ListConfigResourcesResponse:
    """The answer that failed."""
    return ListConfigResourcesResponse(error_code=code_of(error))


API = ControlApi(
    key=ApiKey.LIST_CONFIG_RESOURCES, versions=(0, 1), lane=Lane.ASKS, handle=handle, refuse=refuse
)
