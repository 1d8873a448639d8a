"""DescribeConfigs (API key 32), versions 1-4.

Answers every key of a topic or of this broker with the value in force, where it comes from, what stands behind it, and
what it means. Differs from Apache Kafka: a resource that stands twice is described once; settings whose feature is not
there are absent; broker loggers, client metrics and groups have no settings and are refused with INVALID_REQUEST.

KIPs: 1 synonyms (226), 3 types and documentation (569).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.api._config_resource import resource_of
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
    from fastlog.broker.context import RequestContext
    from fastlog.errors import KafkaError
    from fastlog.ports import ConfigResource

# Kafka's numbers for the types of settings
CONFIG_TYPES = {"boolean": 1, "string": 2, "int": 3, "long": 5, "double": 6, "list": 7}


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
        if resource.kind == "topic":
            services.require_topic(context, Operation.DESCRIBE_CONFIGS, resource.name)
        else:
            services.require_cluster(context, Operation.DESCRIBE_CONFIGS)
        keys = wanted.configuration_keys
        result.configs = [
            _config(entry, request, read_only=resource.kind == "broker" and not entry.setting.dynamic)
            for entry in _entries(services, resource)
            if not keys or entry.key in keys
        ]

    error = attempt("DescribeConfigs", wanted.resource_name, describe)
    return _result(wanted, error) if error else result


def _entries(services: Services, resource: ConfigResource) -> list[Entry]:
    config = services.configs.config
    if resource.kind == "topic":
        services.topics.named(resource.name)
        return config.topic_entries(services.configs.topic_overrides(resource.name))
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
    synonyms = entry.candidates if request.include_synonyms else ()
    return DescribeConfigsResourceResult(
        name=entry.key,
        value=entry.value,
        read_only=read_only,
        config_source=entry.origin,
        synonyms=[DescribeConfigsSynonym(name=s.name, value=s.value, source=s.origin) for s in synonyms],
        config_type=CONFIG_TYPES[entry.setting.type],
        documentation=entry.setting.doc if request.include_documentation else None,
    )


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
