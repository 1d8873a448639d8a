"""InitProducerId (API key 22), versions 0-5.

Gives an idempotent producer an id that no other has or will have, with epoch 0. Differs from Apache Kafka: without a
transaction coordinator a transactional id is refused with COORDINATOR_NOT_AVAILABLE; clients do not get so far, since
FindCoordinator is not offered.

KIPs: 0 idempotence (98), 3 id and epoch to go on with (360), 4 PRODUCER_FENCED (588), 5 transactions' second
protocol (890).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.errors import CoordinatorNotAvailableError, InvalidRequestError, KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext

NONE = -1


def handle(
    services: Services, context: RequestContext, request: InitProducerIdRequest
) -> InitProducerIdResponse:
    """Hands out a producer id."""
    try:
        services.require_cluster(context, Operation.IDEMPOTENT_WRITE)
        if request.transactional_id == "":
            raise InvalidRequestError("the transactional id is empty")
        if (request.producer_id == NONE) != (request.producer_epoch == NONE):
            raise InvalidRequestError("producer id and epoch come together")
        if request.transactional_id is not None:
            raise CoordinatorNotAvailableError("this broker coordinates no transactions")
    except KafkaError as error:
        return refuse(request, error)
    # an idempotent producer that asks with its old id gets a fresh one, as in Kafka: epochs are for transactions
    return InitProducerIdResponse(producer_id=services.producer_ids.take(), producer_epoch=0)


def refuse(request: InitProducerIdRequest, error: KafkaError) -> InitProducerIdResponse:
    """The answer of a request that failed."""
    return InitProducerIdResponse(error_code=error.code, producer_id=NONE, producer_epoch=NONE)


API = ControlApi(key=ApiKey.INIT_PRODUCER_ID, versions=(0, 5), lane=Lane.ASKS, handle=handle, refuse=refuse)
