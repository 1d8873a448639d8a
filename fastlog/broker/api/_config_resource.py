"""Which resource an API about settings names; shared by the three of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.errors import InvalidRequestError, InvalidTopicError
from fastlog.ports import ConfigResource
from fastlog.state.topic_names import why_invalid

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext
    from fastlog.broker.control_api import Services

TOPIC = 2
BROKER = 4


def resource_of(services: Services, resource_type: int, name: str) -> ConfigResource:
    """The resource, which is a topic, this broker, or all brokers; else InvalidRequestError."""
    if resource_type == TOPIC:
        if reason := why_invalid(name):
            raise InvalidTopicError(reason)
        return ConfigResource("topic", name)
    if resource_type == BROKER:
        if name not in ("", str(services.node_id)):
            raise InvalidRequestError(f"this is broker {services.node_id}, not {name!r}; ask that one")
        return ConfigResource("broker", name)
    raise InvalidRequestError(f"resources of type {resource_type} have no settings here")


def alterable(
    services: Services, context: RequestContext, resource_type: int, name: str, twice: set[tuple[int, str]]
) -> ConfigResource:
    """The resource to change, which exists, is named once and may be changed by the client."""
    if (resource_type, name) in twice:
        raise InvalidRequestError(f"{name!r} stands twice in one request")
    if resource_type == TOPIC and not name:
        raise InvalidRequestError("topics have no settings for all of them; name one")
    resource = resource_of(services, resource_type, name)
    if resource.kind == "topic":
        services.require_topic(context, Operation.ALTER_CONFIGS, name)
        services.topics.named(name)
    else:
        services.require_cluster(context, Operation.ALTER_CONFIGS)
    return resource
