"""IncrementalAlterConfigs (API key 44), versions 0-1.

Changes some keys of a topic, of a group, of this broker or of all brokers and leaves the others, or the levels of this
broker's loggers; each resource succeeds or fails alone. Differs from Apache Kafka: what is read at the broker's start
is refused with INVALID_REQUEST and says so.

KIPs: 0 SET, DELETE, APPEND and SUBTRACT (339); loggers (412), groups (848).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.api import _loggers
from fastlog.broker.api._config_resource import LOGGER, alterable
from fastlog.broker.configs import Alteration, check_distinct
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt, code_of, message_of, repeated
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.incremental_alter_configs import (
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext
    from fastlog.errors import KafkaError


def handle(
    services: Services, context: RequestContext, request: IncrementalAlterConfigsRequest
) -> IncrementalAlterConfigsResponse:
    """Changes, or only checks, each resource."""
    twice = repeated([(it.resource_type, it.resource_name) for it in request.resources])

    def alter(wanted: AlterConfigsResource) -> None:
        resource = alterable(services, context, wanted.resource_type, wanted.resource_name, twice)
        alterations = [Alteration(it.name, it.config_operation, it.value) for it in wanted.configs]
        if resource.kind == LOGGER:
            check_distinct(alterations)
            _loggers.alter(alterations, validate_only=request.validate_only)
        else:
            services.configs.alter(resource, alterations, validate_only=request.validate_only)

    return IncrementalAlterConfigsResponse(
        responses=[
            _response(it, attempt("IncrementalAlterConfigs", it.resource_name, alter, it))
            for it in request.resources
        ]
    )


def _response(wanted: AlterConfigsResource, error: KafkaError | None) -> AlterConfigsResourceResponse:
    return AlterConfigsResourceResponse(
        error_code=code_of(error),
        error_message=message_of(error),
        resource_type=wanted.resource_type,
        resource_name=wanted.resource_name,
    )


def refuse(request: IncrementalAlterConfigsRequest, error: KafkaError) -> IncrementalAlterConfigsResponse:
    """The answer in which every resource failed."""
    return IncrementalAlterConfigsResponse(responses=[_response(it, error) for it in request.resources])


API = ControlApi(
    key=ApiKey.INCREMENTAL_ALTER_CONFIGS, versions=(0, 1), lane=Lane.CHANGES, handle=handle, refuse=refuse
)
