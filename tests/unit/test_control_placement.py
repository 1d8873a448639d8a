"""Elections and reassignments on one node alone: Kafka's answers where there is nothing to choose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlog.protocol.messages import alter_partition_reassignments as alter
from fastlog.protocol.messages.describe_cluster import DescribeClusterRequest
from fastlog.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from fastlog.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)
from tests.support.control_plane import ControlPlane


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    control = ControlPlane(tmp_path)
    control.topics.create("orders", partition_count=2)
    yield control
    control.close()


@pytest.mark.parametrize("kind", [0, 1])
def test_every_partition_is_led_already(plane: ControlPlane, kind: int) -> None:
    wanted = [TopicPartitions("orders", [0, 5]), TopicPartitions("absent", [0])]
    answer = plane.ask(ElectLeadersRequest(election_type=kind, topic_partitions=wanted))
    assert answer.error_code == 0
    assert [
        (it.topic, [(one.partition_id, one.error_code) for one in it.partition_result])
        for it in answer.replica_election_results
    ] == [("absent", [(0, 3)]), ("orders", [(0, 84), (5, 3)])]


def test_of_all_partitions_none_needs_an_election(plane: ControlPlane) -> None:
    answer = plane.ask(ElectLeadersRequest(topic_partitions=None))
    assert (answer.error_code, answer.replica_election_results) == (0, [])


def test_there_is_no_such_election(plane: ControlPlane) -> None:
    assert plane.ask(ElectLeadersRequest(election_type=2, topic_partitions=None)).error_code == 42


def test_a_reassignment_to_what_there_is(plane: ControlPlane) -> None:
    wanted = alter.ReassignableTopic(
        "orders",
        [
            alter.ReassignablePartition(0, [1]),
            alter.ReassignablePartition(1, [1, 2]),
            alter.ReassignablePartition(2, [1]),
        ],
    )
    cancel = alter.ReassignableTopic("absent", [alter.ReassignablePartition(0, None)])
    answer = plane.ask(alter.AlterPartitionReassignmentsRequest(topics=[wanted, cancel]))
    assert answer.error_code == 0
    assert [(it.name, [one.error_code for one in it.partitions]) for it in answer.responses] == [
        ("absent", [3]),
        ("orders", [0, 39, 3]),
    ]


def test_nothing_to_give_up(plane: ControlPlane) -> None:
    wanted = alter.ReassignableTopic("orders", [alter.ReassignablePartition(0, None)])
    answer = plane.ask(alter.AlterPartitionReassignmentsRequest(topics=[wanted]))
    assert answer.responses[0].partitions[0].error_code == 85


def test_a_partition_twice_in_one_request(plane: ControlPlane) -> None:
    twice = alter.ReassignableTopic("orders", [alter.ReassignablePartition(0, [1])] * 2)
    assert plane.ask(alter.AlterPartitionReassignmentsRequest(topics=[twice])).error_code == 42


@pytest.mark.parametrize("topics", [None, [ListPartitionReassignmentsTopics("orders", [0, 9])]])
def test_nothing_is_being_reassigned(
    plane: ControlPlane, topics: list[ListPartitionReassignmentsTopics] | None
) -> None:
    answer = plane.ask(ListPartitionReassignmentsRequest(topics=topics))
    assert (answer.error_code, answer.topics) == (0, [])


def test_the_cluster_is_this_broker(plane: ControlPlane) -> None:
    answer = plane.ask(DescribeClusterRequest())
    assert answer.controller_id == 1
    assert [(it.broker_id, it.host, it.port, it.rack) for it in answer.brokers] == [
        (1, "127.0.0.1", 9092, None)
    ]
