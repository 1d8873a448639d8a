"""What any broker of a cluster can be asked, and what all of them answer alike."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from fastlog import Admin
from fastlog.errors import (
    InvalidReplicationFactorError,
    InvalidTopicError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from fastlog.protocol.messages import alter_partition_reassignments as alter
from fastlog.protocol.messages import describe_quorum as quorum
from fastlog.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreateTopicsRequest,
)
from fastlog.protocol.messages.describe_cluster import DescribeClusterRequest
from fastlog.protocol.messages.describe_topic_partitions import DescribeTopicPartitionsRequest, TopicRequest
from fastlog.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from fastlog.protocol.messages.init_producer_id import InitProducerIdRequest
from fastlog.protocol.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from fastlog.testing import Cluster
from tests.integration.cluster.conftest import RACKS, Ask

BROKERS = [1, 2, 3]


def names(admin: Admin) -> set[str]:
    return {it.name for it in admin.list_topics()}


def test_every_broker_names_all_brokers_and_the_controller(cluster: Cluster, raw: Ask) -> None:
    answers = [raw(broker_id).ask(DescribeClusterRequest(), 2) for broker_id in BROKERS]
    assert len({it.cluster_id for it in answers}) == 1
    assert len({it.controller_id for it in answers} & set(BROKERS)) == 1
    told = [
        (it, "127.0.0.1", cluster[it].ports["PLAINTEXT"], rack)
        for it, rack in zip(BROKERS, RACKS, strict=True)
    ]
    for answer in answers:
        assert [(it.broker_id, it.host, it.port, it.rack) for it in answer.brokers] == told


def test_the_registration_names_no_listener_for_brokers_to_clients(cluster: Cluster) -> None:
    with Admin(cluster.bootstrap) as admin:
        addresses = {it.node_id: it.zmq_endpoint for it in admin.describe_cluster().brokers}
    assert addresses == {it: cluster[it].zmq_endpoint.removeprefix("tcp://") for it in BROKERS}


@pytest.mark.parametrize("broker_id", BROKERS)
def test_a_topic_is_made_changed_and_deleted_by_any_broker(
    cluster: Cluster, topic: str, broker_id: int
) -> None:
    others = [it for it in BROKERS if it != broker_id]
    with cluster.admin(broker_id) as admin:
        admin.create_topic(topic, partitions=6, replication_factor=3)
        made = admin.describe_topic(topic)
        assert sorted(it.leader for it in made.partitions) == [1, 1, 2, 2, 3, 3]
        for other in others:
            with cluster.admin(other) as second:
                cluster.wait_until("the others know it", lambda second=second: topic in names(second))
                assert second.describe_topic(topic).topic_id == made.topic_id
        admin.create_partitions(topic, 8)
        assert len(admin.describe_topic(topic).partitions) == 8
        with pytest.raises(TopicAlreadyExistsError):
            admin.create_topic(topic)
        admin.delete_topic(topic)
        with pytest.raises(UnknownTopicOrPartitionError):
            admin.describe_topic(topic)

    def is_gone() -> bool:
        return not any(
            it.name.startswith(f"{topic}-")
            for broker in cluster.brokers.values()
            for it in broker.data_dir.iterdir()
            if not it.name.endswith("-delete")
        )

    cluster.wait_until("the replicas are put away", is_gone)


def test_topics_that_cannot_be(cluster: Cluster, topic: str) -> None:
    with cluster.admin() as admin:
        with pytest.raises(InvalidReplicationFactorError, match="there are 3"):
            admin.create_topic(topic, replication_factor=4)
        with pytest.raises(InvalidTopicError):
            admin.create_topic("a b")
        assert topic not in names(admin)


def test_a_topic_is_checked_and_not_made(cluster: Cluster, topic: str, confluent_admin: AdminClient) -> None:
    futures = confluent_admin.create_topics([NewTopic(topic, 3, 3)], validate_only=True)
    futures[topic].result()
    with cluster.admin() as admin:
        assert topic not in names(admin)


def test_another_client_grows_a_topic(cluster: Cluster, topic: str, confluent_admin: AdminClient) -> None:
    confluent_admin.create_topics([NewTopic(topic, 1, 2)])[topic].result()
    confluent_admin.create_partitions([NewPartitions(topic, 3)])[topic].result()
    described = confluent_admin.list_topics(topic, timeout=10).topics[topic]
    assert {len(it.replicas) for it in described.partitions.values()} == {2}
    assert len(described.partitions) == 3


@pytest.mark.parametrize("broker_id", BROKERS)
def test_settings_are_the_clusters(cluster: Cluster, topic: str, broker_id: int) -> None:
    with cluster.admin(broker_id) as admin:
        admin.create_topic(topic, replication_factor=3, configs={"retention.ms": "1000"})
        admin.alter_configs({"max.message.bytes": "5000"}, topic=topic)
    for other in BROKERS:
        with cluster.admin(other) as admin:

            def knows(admin: Admin = admin) -> bool:
                found = admin.describe_configs(topic=topic)
                return [found[it].value for it in ("retention.ms", "max.message.bytes")] == ["1000", "5000"]

            cluster.wait_until(f"broker {other} knows the settings", knows)


def test_no_producer_id_is_given_out_twice(raw: Ask) -> None:
    request = InitProducerIdRequest(transactional_id=None)
    connections = [raw(broker_id) for broker_id in BROKERS]
    ids = [connection.ask(request, 4).producer_id for connection in connections for _ in range(5)]
    assert len(set(ids)) == len(ids)


def test_partitions_are_described_alike_by_every_broker(cluster: Cluster, raw: Ask, topic: str) -> None:
    made_on(cluster, raw, topic, [2, 3])
    request = DescribeTopicPartitionsRequest(topics=[TopicRequest(topic)])

    def told() -> list[Any]:
        return [raw(broker_id).ask(request, 0).topics[0].partitions for broker_id in BROKERS]

    cluster.wait_until("both are in sync", lambda: all(sorted(it[0].isr_nodes) == [2, 3] for it in told()))
    for (partition,) in told():
        assert (partition.error_code, partition.replica_nodes, partition.leader_id) == (0, [2, 3], 2)
        assert (partition.offline_replicas, partition.eligible_leader_replicas) == ([], [])


# --- leaders and replicas ---


def states(cluster: Cluster, topic: str) -> list[Any]:
    with cluster.admin() as admin:
        return list(admin.describe_topic(topic).partitions)


def made_on(cluster: Cluster, raw: Ask, topic: str, replicas: list[int]) -> None:
    wanted = CreatableTopic(topic, -1, -1, assignments=[CreatableReplicaAssignment(0, replicas)])
    answer = raw(1).ask(CreateTopicsRequest(topics=[wanted], timeout_ms=10_000), 7)
    assert answer.topics[0].error_code == 0
    for broker_id in BROKERS:
        with cluster.admin(broker_id) as admin:
            cluster.wait_until("every broker knows it", lambda admin=admin: topic in names(admin))


@pytest.mark.parametrize("broker_id", BROKERS)
def test_a_partition_moves_to_other_brokers(cluster: Cluster, raw: Ask, topic: str, broker_id: int) -> None:
    made_on(cluster, raw, topic, [1, 2])
    target = alter.ReassignableTopic(topic, [alter.ReassignablePartition(0, [3, 1])])
    answer = raw(broker_id).ask(alter.AlterPartitionReassignmentsRequest(topics=[target]), 0)
    assert [it.error_code for it in answer.responses[0].partitions] == [0]

    def has_moved() -> bool:
        state = states(cluster, topic)[0]
        return state.replicas == (3, 1) and sorted(state.isr) == [1, 3]

    cluster.wait_until("the partition has moved", has_moved)
    listed = raw(broker_id).ask(ListPartitionReassignmentsRequest(topics=None), 0)
    cluster.wait_until(
        "nothing is under way",
        lambda: raw(broker_id).ask(ListPartitionReassignmentsRequest(topics=None), 0).topics == [],
    )
    assert listed.error_code == 0

    def is_put_away() -> bool:
        return not (cluster[2].data_dir / f"{topic}-0").exists()

    cluster.wait_until("the old replica is put away", is_put_away)
    # the preferred leader is another one now
    wanted = [TopicPartitions(topic, [0])]
    elected = raw(broker_id).ask(ElectLeadersRequest(topic_partitions=wanted, timeout_ms=10_000), 2)
    assert elected.replica_election_results[0].partition_result[0].error_code in (0, 84)
    cluster.wait_until("the preferred replica leads", lambda: states(cluster, topic)[0].leader == 3)


def test_nothing_to_elect_and_nothing_to_give_up(cluster: Cluster, raw: Ask, topic: str) -> None:
    made_on(cluster, raw, topic, [2, 3])
    elected = raw(3).ask(ElectLeadersRequest(topic_partitions=[TopicPartitions(topic, [0, 9])]), 2)
    assert [it.error_code for it in elected.replica_election_results[0].partition_result] == [84, 3]
    cancel = alter.ReassignableTopic(topic, [alter.ReassignablePartition(0, None)])
    answer = raw(3).ask(alter.AlterPartitionReassignmentsRequest(topics=[cancel]), 0)
    assert answer.responses[0].partitions[0].error_code == 85
    absent = alter.ReassignableTopic(topic, [alter.ReassignablePartition(0, [2, 9])])
    answer = raw(3).ask(alter.AlterPartitionReassignmentsRequest(topics=[absent]), 0)
    assert answer.responses[0].partitions[0].error_code == 39


def test_every_broker_tells_who_controls_and_who_could(cluster: Cluster, raw: Ask, topic: str) -> None:
    with cluster.admin() as admin:
        admin.create_topic(topic)
    asked = [quorum.TopicRequest("__cluster_metadata", [quorum.PartitionRequest(0)])]
    controller = cluster.controller().broker_id
    told = []
    for broker in (1, 2, 3):
        answer = raw(broker).ask(quorum.DescribeQuorumRequest(topics=asked), 2)
        (partition,) = answer.topics[0].partitions
        assert partition.error_code == 0
        assert partition.leader_id == controller
        assert [it.replica_id for it in partition.current_voters] == [controller]
        assert [it.replica_id for it in partition.observers] == [it for it in (1, 2, 3) if it != controller]
        assert [it.node_id for it in answer.nodes] == [controller]
        told.append((partition.leader_epoch, partition.high_watermark > 0))
    assert len(set(told)) == 1
    assert told[0][1]
