"""ConsumerGroupHeartbeat and -Describe, and offsets of topics by their ids, from request to answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastlog.broker.context import Operation, RequestContext, ResourceType
from fastlog.ports import ConfigResource
from fastlog.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from fastlog.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from fastlog.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from fastlog.protocol.messages.find_coordinator import FindCoordinatorRequest
from fastlog.protocol.messages.list_groups import ListGroupsRequest
from fastlog.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from fastlog.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from tests.support.control_plane import ControlPlane

GROUP_AUTHORIZATION_FAILED, TOPIC_AUTHORIZATION_FAILED, UNKNOWN_TOPIC_ID, UNKNOWN_MEMBER_ID = 30, 29, 100, 25
NOWHERE = bytes(15) + b"\1"


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    made = ControlPlane(tmp_path)
    made.topics.create("t", partition_count=2)
    assert made.ask(FindCoordinatorRequest(coordinator_keys=["g"])).coordinators[0].error_code == 0
    made.settle()
    yield made
    made.close()


def id_of(plane: ControlPlane, topic: str = "t") -> bytes:
    return plane.topics.named(topic).topic_id.bytes


def join(plane: ControlPlane, member_id: str = "a", **fields: Any) -> Any:
    wanted = {"subscribed_topic_names": ["t"], **fields}
    return plane.ask(
        ConsumerGroupHeartbeatRequest(
            group_id="g", member_id=member_id, rebalance_timeout_ms=30_000, topic_partitions=[], **wanted
        )
    )


def test_a_member_joins_and_is_described(plane: ControlPlane) -> None:
    response = join(plane)
    assert (response.error_code, response.member_epoch) == (0, 2)
    assert [(it.topic_id, it.partitions) for it in response.assignment.topic_partitions] == [
        (id_of(plane), [0, 1])
    ]
    described = plane.ask(ConsumerGroupDescribeRequest(["g", "other"], include_authorized_operations=True))
    group, other = described.groups
    assert (group.error_code, group.group_state, group.group_epoch, group.assignment_epoch) == (
        0,
        "Stable",
        2,
        2,
    )
    assert group.authorized_operations > 0
    member = group.members[0]
    assert (member.member_id, member.client_host, member.subscribed_topic_names) == (
        "a",
        "/127.0.0.1",
        ["t"],
    )
    assert [(it.topic_name, it.partitions) for it in member.target_assignment.topic_partitions] == [
        ("t", [0, 1])
    ]
    assert (other.error_code, other.error_message) == (69, "Group other not found.")


def test_lists_tell_the_type(plane: ControlPlane) -> None:
    join(plane)

    def listed(**filters: Any) -> list[tuple[str, str, str, str]]:
        groups = plane.ask(ListGroupsRequest(**filters)).groups
        return [(it.group_id, it.protocol_type, it.group_state, it.group_type) for it in groups]

    row = ("g", "consumer", "Stable", "consumer")
    assert listed() == listed(types_filter=["Consumer"]) == listed(states_filter=["stable"]) == [row]
    assert listed(types_filter=["classic"]) == listed(states_filter=["Empty"]) == []


def test_new_partitions_are_given_with_the_next_heartbeat(plane: ControlPlane) -> None:
    epoch = join(plane).member_epoch
    made = plane.ask(CreatePartitionsRequest([CreatePartitionsTopic("t", 3, None)]))
    assert made.results[0].error_code == 0
    plane.settle()
    response = plane.ask(
        ConsumerGroupHeartbeatRequest(group_id="g", member_id="a", member_epoch=epoch, topic_partitions=[])
    )
    assert response.member_epoch == epoch + 1
    assert response.assignment.topic_partitions[0].partitions == [0, 1, 2]


def test_a_group_may_have_times_of_its_own_from_the_next_heartbeat_on(plane: ControlPlane) -> None:
    assert join(plane).heartbeat_interval_ms == 5_000
    own = ConfigResource("group", "g")
    plane.configs.replace(
        own,
        {"consumer.session.timeout.ms": "60000", "consumer.heartbeat.interval.ms": "7000"},
        validate_only=False,
    )
    assert join(plane).heartbeat_interval_ms == 7_000

    def members() -> list[str]:
        (group,) = plane.ask(ConsumerGroupDescribeRequest(["g"])).groups
        return [it.member_id for it in group.members]

    plane.settle(59_000)
    assert members() == ["a"]
    plane.settle(1_000)
    assert members() == []
    plane.configs.replace(own, {}, validate_only=False)
    assert join(plane).heartbeat_interval_ms == 5_000
    plane.settle(45_000)
    assert members() == []


def test_a_pattern_matches_no_internal_topic(plane: ControlPlane) -> None:
    response = join(plane, subscribed_topic_names=[], subscribed_topic_regex=".*")
    assert [it.topic_id for it in response.assignment.topic_partitions] == [id_of(plane)]


def test_rights_are_asked_for(plane: ControlPlane) -> None:
    class Denies:
        def __init__(self, kind: ResourceType) -> None:
            self.kind = kind

        def allows(self, _: RequestContext, __: Operation, kind: ResourceType, ___: str) -> bool:
            return kind is not self.kind

    plane.services.authorizer = Denies(ResourceType.GROUP)
    assert join(plane).error_code == GROUP_AUTHORIZATION_FAILED
    described = plane.ask(ConsumerGroupDescribeRequest(["g"]))
    assert described.groups[0].error_code == GROUP_AUTHORIZATION_FAILED
    plane.services.authorizer = Denies(ResourceType.TOPIC)
    assert join(plane).error_code == TOPIC_AUTHORIZATION_FAILED
    nothing = join(plane, subscribed_topic_names=[], subscribed_topic_regex="t")
    assert (nothing.error_code, nothing.assignment.topic_partitions) == (0, [])


def test_offsets_go_by_topic_ids_in_version_10(plane: ControlPlane) -> None:
    epoch = join(plane).member_epoch
    rows = [OffsetCommitRequestPartition(1, 5)]
    request = OffsetCommitRequest(
        group_id="g",
        member_id="a",
        generation_id_or_member_epoch=epoch,
        topics=[
            OffsetCommitRequestTopic(topic_id=id_of(plane), partitions=rows),
            OffsetCommitRequestTopic(topic_id=NOWHERE, partitions=rows),
        ],
    )
    answer = plane.ask(request, 10)
    assert {it.topic_id: it.partitions[0].error_code for it in answer.topics} == {
        id_of(plane): 0,
        NOWHERE: UNKNOWN_TOPIC_ID,
    }
    wanted = [OffsetFetchRequestTopics(topic_id=it, partition_indexes=[1]) for it in (id_of(plane), NOWHERE)]
    asked = [
        OffsetFetchRequestGroup("g", "a", epoch, wanted),
        OffsetFetchRequestGroup("g", None, -1, None),
        OffsetFetchRequestGroup("g", "x", epoch, wanted),
    ]
    mine, everything, stranger = plane.ask(OffsetFetchRequest(groups=asked), 10).groups
    found = {
        it.topic_id: (it.partitions[0].committed_offset, it.partitions[0].error_code) for it in mine.topics
    }
    assert found == {id_of(plane): (5, 0), NOWHERE: (-1, UNKNOWN_TOPIC_ID)}
    assert [(it.topic_id, it.partitions[0].committed_offset) for it in everything.topics] == [
        (id_of(plane), 5)
    ]
    assert stranger.error_code == UNKNOWN_MEMBER_ID


def test_a_broker_that_starts_again_knows_its_members(plane: ControlPlane) -> None:
    epoch = join(plane).member_epoch
    plane.restart()
    plane.settle()
    response = plane.ask(ConsumerGroupHeartbeatRequest(group_id="g", member_id="a", member_epoch=epoch))
    assert (response.error_code, response.member_epoch) == (0, epoch)
