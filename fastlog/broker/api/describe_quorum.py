"""DescribeQuorum (API key 55), versions 0-2.

Of the metadata partition that Kafka's controllers keep, who keeps what. Here the controller keeps it in a store
(SQLite on one node, ZooKeeper in a cluster) and tells the others, so: the leader is the controller, its epoch the
controller's, an offset the number of what was told in that epoch. Differs from Apache Kafka: the controller alone
votes; the other live brokers, any of which may follow it, observe, and how far one of them is, is known where it is
asked itself (else -1).

KIPs: 0 the API (595), 1 times of the last fetch (836), 2 directory ids, error messages, addresses of controllers (853).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.errors import KafkaError, UnknownTopicOrPartitionError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    Listener,
    Node,
    PartitionData,
    ReplicaState,
    TopicData,
)
from fastlog.state.topic_names import METADATA_TOPIC

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext

NOT_KNOWN = -1


def handle(
    services: Services, context: RequestContext, request: DescribeQuorumRequest
) -> DescribeQuorumResponse:
    """Describes who keeps the metadata."""
    try:
        services.require_cluster(context, Operation.DESCRIBE)
    except KafkaError as error:
        return refuse(request, error)
    topics = [
        TopicData(
            topic_name=topic.topic_name,
            partitions=[
                _described(services, topic.topic_name, it.partition_index) for it in topic.partitions
            ],
        )
        for topic in request.topics
    ]
    return DescribeQuorumResponse(topics=topics, nodes=_nodes(services, context))


def _described(services: Services, topic: str, index: int) -> PartitionData:
    if (topic, index) != (METADATA_TOPIC, 0):
        error = UnknownTopicOrPartitionError(f"{topic}-{index} is not kept by a quorum")
        return PartitionData(partition_index=index, error_code=error.code, error_message=error.message)
    brokers = services.brokers
    leader, (epoch, offset) = brokers.controller_id, brokers.position

    def state(broker_id: int) -> ReplicaState:
        is_known = broker_id in (leader, services.node_id)
        return ReplicaState(replica_id=broker_id, log_end_offset=offset if is_known else NOT_KNOWN)

    return PartitionData(
        partition_index=index,
        leader_id=leader,
        leader_epoch=epoch,
        high_watermark=offset,
        current_voters=[state(it) for it in brokers.ids() if it == leader],
        observers=[state(it) for it in brokers.ids() if it != leader],
    )


def _nodes(services: Services, context: RequestContext) -> list[Node]:
    controller = services.brokers.controller_id
    told = services.addresses.of(controller, context)
    if told is None:
        return []
    return [Node(node_id=controller, listeners=[Listener(context.listener, told.host, told.port)])]


def refuse(request: DescribeQuorumRequest, error: KafkaError) -> DescribeQuorumResponse:
    """The answer of a request that failed."""
    return DescribeQuorumResponse(error_code=error.code, error_message=error.message)


API = ControlApi(key=ApiKey.DESCRIBE_QUORUM, versions=(0, 2), lane=Lane.ASKS, handle=handle, refuse=refuse)
