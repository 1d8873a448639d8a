"""DescribeCluster (API key 60), versions 0-2.

Answers the brokers with their addresses on the listener that was asked, the cluster's id and its controller. Differs
from Apache Kafka: nothing.

KIPs: 0 the API (700), 1 endpoint types (919), 2 fenced brokers (1073).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import CLUSTER_NAME, CLUSTER_OPERATIONS, Operation, ResourceType
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.errors import KafkaError, MismatchedEndpointTypeError, UnsupportedEndpointTypeError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext

BROKERS = 1
CONTROLLERS = 2
NOT_ASKED = -(2**31)


def handle(
    services: Services, context: RequestContext, request: DescribeClusterRequest
) -> DescribeClusterResponse:
    """Describes the cluster."""
    try:
        services.require_cluster(context, Operation.DESCRIBE)
        if request.endpoint_type == CONTROLLERS:
            raise MismatchedEndpointTypeError("this is the endpoint of a broker, not of a controller")
        if request.endpoint_type != BROKERS:
            raise UnsupportedEndpointTypeError(f"unknown endpoint type {request.endpoint_type}")
    except KafkaError as error:
        return refuse(request, error)
    asked = request.include_cluster_authorized_operations
    may = services.operations(context, CLUSTER_OPERATIONS, ResourceType.CLUSTER, CLUSTER_NAME)
    return DescribeClusterResponse(
        cluster_authorized_operations=may if asked else NOT_ASKED,
        endpoint_type=request.endpoint_type,
        cluster_id=services.cluster_id,
        controller_id=services.brokers.controller_id,
        brokers=_brokers(services, context),
    )


def _brokers(services: Services, context: RequestContext) -> list[DescribeClusterBroker]:
    brokers = []
    for broker_id in services.brokers.ids():
        told = services.addresses.of(broker_id, context)
        # one without this listener could not be reached
        if told is not None:
            known = services.brokers.registration(broker_id)
            brokers.append(
                DescribeClusterBroker(
                    broker_id=broker_id, host=told.host, port=told.port, rack=known.rack if known else None
                )
            )
    return brokers


def refuse(request: DescribeClusterRequest, error: KafkaError) -> DescribeClusterResponse:
    """The answer of a request that failed."""
    return DescribeClusterResponse(error_code=error.code, error_message=error.message)


API = ControlApi(key=ApiKey.DESCRIBE_CLUSTER, versions=(0, 2), lane=Lane.ASKS, handle=handle, refuse=refuse)
