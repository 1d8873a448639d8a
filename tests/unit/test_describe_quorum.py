"""DescribeQuorum on one node: who keeps the metadata, and how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlog.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    PartitionData,
    PartitionRequest,
    TopicRequest,
)
from tests.support.control_plane import ControlPlane

METADATA = "__cluster_metadata"


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    control = ControlPlane(tmp_path)
    yield control
    control.close()


def described(plane: ControlPlane, topic: str = METADATA, index: int = 0) -> PartitionData:
    asked = [TopicRequest(topic_name=topic, partitions=[PartitionRequest(partition_index=index)])]
    answer = plane.ask(DescribeQuorumRequest(topics=asked))
    assert answer.error_code == 0
    (told,) = answer.topics
    assert told.topic_name == topic
    (partition,) = told.partitions
    found: PartitionData = partition
    return found


def test_one_node_leads_and_votes_alone_and_each_change_counts(plane: ControlPlane) -> None:
    before = described(plane)
    assert (before.error_code, before.leader_id, before.leader_epoch) == (0, 1, 1)
    assert [it.replica_id for it in before.current_voters] == [1]
    assert before.observers == []
    plane.topics.create("orders", partition_count=2)
    after = described(plane)
    assert after.high_watermark == before.high_watermark + 1
    assert [it.log_end_offset for it in after.current_voters] == [after.high_watermark]


@pytest.mark.parametrize(("topic", "index"), [("orders", 0), (METADATA, 1), ("", 0)])
def test_nothing_else_is_kept_by_a_quorum(plane: ControlPlane, topic: str, index: int) -> None:
    assert described(plane, topic, index).error_code == 3
