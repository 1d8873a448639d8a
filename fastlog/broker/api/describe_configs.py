"""DescribeConfigs (API key 32), versions 1-4.

Answers every key of a topic, of a group or of this broker with the value in force, where it comes from, what stands
behind it, and what it means; and the levels of this broker's loggers. Differs from Apache Kafka: a resource that stands
twice is described once; there are no client metrics, which are refused with INVALID_REQUEST.

KIPs: 1 synonyms (226), 3 types and documentation (569); loggers (412), groups (848).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.api import _loggers
from fastlog.broker.api._config_resource import LOGGER, require, resource_of
from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt, code_of, message_of
from fastlog.config import Entry, Origin
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.broker.context import RequestContext
    from fastlog.config import Setting
    from fastlog.errors import KafkaError
    from fastlog.ports import ConfigResource

# Kafka's numbers for the types of settings
CONFIG_TYPES = {
    "boolean": 1,
    "string": 2,
    "int": 3,
    "short": 4,
    "long": 5,
    "double": 6,
    "list": 7,
    "class": 8,
    "password": 9,
}
# Kafka's number for where the levels of loggers come from
LOGGER_SOURCE = 6


def handle(
    services: Services, context: RequestContext, request: DescribeConfigsRequest
) -> DescribeConfigsResponse:
    """Describes each resource, one that stands twice once: the answer is not to grow with repetitions."""
    distinct = {
        (it.resource_type, it.resource_name, tuple(it.configuration_keys or ())): it
        for it in request.resources
    }
    return DescribeConfigsResponse(
        results=[_describe(services, context, wanted, request) for wanted in distinct.values()]
    )


def _describe(
    services: Services,
    context: RequestContext,
    wanted: DescribeConfigsResource,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResult:
    result = _result(wanted, None)

    def describe() -> None:
        resource = resource_of(services, wanted.resource_type, wanted.resource_name)
        require(services, context, Operation.DESCRIBE_CONFIGS, resource)
        keys = wanted.configuration_keys
        if resource.kind == LOGGER:
            described = [_level(name, level) for name, level in _loggers.levels().items()]
        else:
            described = [
                _config(entry, request, read_only=resource.kind == "broker" and not entry.setting.is_dynamic)
                for entry in _entries(services, resource)
            ]
        result.configs = [it for it in described if not keys or it.name in keys]

    error = attempt("DescribeConfigs", wanted.resource_name, describe)
    return _result(wanted, error) if error else result


def _entries(services: Services, resource: ConfigResource) -> Sequence[Entry]:
    config = services.configs.config
    if resource.kind == "topic":
        services.topics.named(resource.name)
        return config.topic_entries(services.configs.topic_overrides(resource.name))
    if resource.kind == "group":
        return config.group_entries(services.configs.stored(resource).values)
    if resource.name:
        return config.broker_entries()
    # what is set for all brokers is all that "all brokers" have: each has a file and defaults of its own
    return [
        Entry(entry.key, entry.setting, candidate.value, candidate.origin, (candidate,))
        for entry in config.broker_entries()
        for candidate in entry.candidates
        if candidate.origin == Origin.DYNAMIC_DEFAULT
    ]


def _config(
    entry: Entry, request: DescribeConfigsRequest, *, read_only: bool
) -> DescribeConfigsResourceResult:
    setting = entry.setting
    synonyms = entry.candidates if request.include_synonyms else ()
    shown = [
        DescribeConfigsSynonym(
            name=it.name, value=None if setting.is_sensitive else it.value, source=it.origin
        )
        for it in synonyms
    ]
    return DescribeConfigsResourceResult(
        name=entry.key,
        value=None if setting.is_sensitive else entry.value,
        read_only=read_only,
        config_source=entry.origin,
        is_sensitive=setting.is_sensitive,
        synonyms=shown,
        config_type=CONFIG_TYPES[setting.type],
        documentation=_documentation(setting) if request.include_documentation else None,
    )


def _documentation(setting: Setting) -> str:
    if setting.is_honoured:
        return setting.doc
    effect = "It does nothing here" if setting.status == "no-meaning" else "Here it keeps its default"
    return f"{setting.doc} {effect}: {setting.why}."


def _level(name: str, level: str) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(name=name, value=level, read_only=False, config_source=LOGGER_SOURCE)


def _result(wanted: DescribeConfigsResource, error: KafkaError | None) -> DescribeConfigsResult:
    return DescribeConfigsResult(
        error_code=code_of(error),
        error_message=message_of(error),
        resource_type=wanted.resource_type,
        resource_name=wanted.resource_name,
    )


def refuse(request: DescribeConfigsRequest, error: KafkaError) -> DescribeConfigsResponse:
    """The answer in which every resource failed."""
    return DescribeConfigsResponse(results=[_result(wanted, error) for wanted in request.resources])


API = ControlApi(key=ApiKey.DESCRIBE_CONFIGS, versions=(1, 4), lane=Lane.ASKS, handle=handle, refuse=refuse)
