"""Which resource an API about settings names; shared by all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.errors import InvalidRequestError, InvalidTopicError
from fastlog.ports import ConfigResource
from fastlog.state.topic_names import why_invalid

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext
    from fastlog.broker.control_api import Services

# Kafka's numbers for the types of resources (ConfigResource.Type)
TOPIC = 2
BROKER = 4
BROKER_LOGGER = 8
CLIENT_METRICS = 16
GROUP = 32

#: the kind of what is no setting that is kept, but the loggers of this process
LOGGER = "logger"


def resource_of(services: Services, resource_type: int, name: str) -> ConfigResource:
    """The resource: a topic, a group, this broker, its loggers, or all brokers; else InvalidRequestError."""
    if resource_type == TOPIC:
        if reason := why_invalid(name):
            raise InvalidTopicError(reason)
        return ConfigResource("topic", name)
    if resource_type == BROKER:
        if name not in ("", str(services.node_id)):
            raise InvalidRequestError(f"this is broker {services.node_id}, not {name!r}; ask that one")
        return ConfigResource("broker", name)
    if resource_type == BROKER_LOGGER:
        if name != str(services.node_id):
            raise InvalidRequestError(f"this is broker {services.node_id}, not {name!r}; ask that one")
        return ConfigResource(LOGGER, name)
    if resource_type == GROUP:
        if not name:
            raise InvalidRequestError("groups have no settings for all of them; name one")
        return ConfigResource("group", name)
    if resource_type == CLIENT_METRICS:
        raise InvalidRequestError("clients' metrics are not collected here (KIP-714)")
    raise InvalidRequestError(f"resources of type {resource_type} have no settings here")


def require(
    services: Services, context: RequestContext, operation: Operation, resource: ConfigResource
) -> None:
    """Raises the error of a client that may not do `operation` to the resource's settings."""
    if resource.kind == "topic":
        services.require_topic(context, operation, resource.name)
    elif resource.kind == "group":
        services.require_group(context, operation, resource.name)
    else:
        services.require_cluster(context, operation)


def alterable(
    services: Services, context: RequestContext, resource_type: int, name: str, twice: set[tuple[int, str]]
) -> ConfigResource:
    """The resource to change, which exists, is named once and may be changed by the client."""
    if (resource_type, name) in twice:
        raise InvalidRequestError(f"{name!r} stands twice in one request")
    if resource_type == TOPIC and not name:
        raise InvalidRequestError("topics have no settings for all of them; name one")
    resource = resource_of(services, resource_type, name)
    require(services, context, Operation.ALTER_CONFIGS, resource)
    if resource.kind == "topic":
        services.topics.named(name)
    return resource
