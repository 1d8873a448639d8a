"""AlterConfigs (API key 33), versions 0-2.

Replaces all settings of a topic, of a group, of this broker or of all brokers: what the request leaves out goes back to
its default. Each resource succeeds or fails alone; loggers are no resources here. Differs from Apache Kafka: what is
read at the broker's start is refused with INVALID_REQUEST, and the answer says so.

KIPs: 0 settings changed by clients (133); deprecated in favour of IncrementalAlterConfigs (339).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.api._config_resource import LOGGER, alterable
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt, code_of, message_of, repeated
from fastlog.errors import InvalidRequestError, KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext


def handle(services: Services, context: RequestContext, request: AlterConfigsRequest) -> AlterConfigsResponse:
    """Replaces, or only checks, the settings of each resource."""
    twice = repeated([(it.resource_type, it.resource_name) for it in request.resources])

    def replace(wanted: AlterConfigsResource) -> None:
        resource = alterable(services, context, wanted.resource_type, wanted.resource_name, twice)
        if resource.kind == LOGGER:
            raise InvalidRequestError("the levels of loggers are changed by IncrementalAlterConfigs only")
        values = {it.name: it.value for it in wanted.configs}
        if len(values) != len(wanted.configs):
            raise InvalidRequestError("a key stands twice in one request")
        services.configs.replace(resource, values, validate_only=request.validate_only)

    return AlterConfigsResponse(
        responses=[
            _response(it, attempt("AlterConfigs", it.resource_name, replace, it)) for it in request.resources
        ]
    )


def _response(wanted: AlterConfigsResource, error: KafkaError | None) -> AlterConfigsResourceResponse:
    return AlterConfigsResourceResponse(
        error_code=code_of(error),
        error_message=message_of(error),
        resource_type=wanted.resource_type,
        resource_name=wanted.resource_name,
    )


def refuse(request: AlterConfigsRequest, error: KafkaError) -> AlterConfigsResponse:
    """The answer in which every resource failed."""
    return AlterConfigsResponse(responses=[_response(it, error) for it in request.resources])


API = ControlApi(key=ApiKey.ALTER_CONFIGS, versions=(0, 2), lane=Lane.CHANGES, handle=handle, refuse=refuse)
