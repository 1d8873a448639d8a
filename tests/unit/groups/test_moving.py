"""Groups follow the leadership of their partition from broker to broker; this one is broker 1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from fastlog.broker.groups.loading import RETRY_MS_MAX
from fastlog.ports import Registration
from fastlog.protocol.messages.describe_groups import DescribeGroupsRequest
from fastlog.protocol.messages.find_coordinator import FindCoordinatorRequest
from fastlog.protocol.messages.heartbeat import HeartbeatRequest
from fastlog.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from fastlog.protocol.messages.list_groups import ListGroupsRequest
from fastlog.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from fastlog.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup
from fastlog.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from tests.support.control_plane import ControlPlane

ME, OTHER, NOBODY = 1, 2, -1
SESSION_MS = 10_000


class Brokers:
    """The registrations of a cluster."""

    def __init__(self, *brokers: Registration) -> None:
        self._brokers = {it.broker_id: it for it in brokers}

    def registration(self, broker_id: int) -> Registration | None:
        return self._brokers.get(broker_id)


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    made = ControlPlane(tmp_path)
    made.topics.create("t")
    made.ask(FindCoordinatorRequest(key="g"), 3)
    made.settle()
    yield made
    made.close()


def commit(offset: int, **member: Any) -> OffsetCommitRequest:
    partitions = [OffsetCommitRequestPartition(0, offset)]
    return OffsetCommitRequest(
        group_id="g", topics=[OffsetCommitRequestTopic("t", partitions=partitions)], **member
    )


def code(answer: Any) -> int:
    return int(answer.topics[0].partitions[0].error_code)


def committed(plane: ControlPlane) -> tuple[int, list[int]]:
    """Error code and offsets of the group."""
    group = plane.ask(OffsetFetchRequest(groups=[OffsetFetchRequestGroup("g", topics=None)])).groups[0]
    return group.error_code, [it.committed_offset for topic in group.topics for it in topic.partitions]


def join(plane: ControlPlane) -> str:
    """A member of the group, with its assignment."""
    request = JoinGroupRequest(
        group_id="g",
        session_timeout_ms=SESSION_MS,
        rebalance_timeout_ms=SESSION_MS,
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol("range", b"\0\0\0\0\0\1\0\1t\xff\xff\xff\xff")],
    )
    request.member_id = plane.ask(request).member_id
    assert plane.ask(request).error_code == 0
    assert plane.ask(sync(request.member_id)).error_code == 0
    return request.member_id


def sync(member_id: str) -> SyncGroupRequest:
    given = [SyncGroupRequestAssignment(member_id, b"a")]
    return SyncGroupRequest("g", 1, member_id, None, "consumer", "range", given)


# --- going and coming ---


def test_a_group_goes_with_its_partition_and_comes_back_as_it_is_in_the_log(plane: ControlPlane) -> None:
    member_id = join(plane)
    plane.ask(commit(5, generation_id_or_member_epoch=1, member_id=member_id))
    plane.lead_groups(OTHER, 1)
    assert plane.ask(HeartbeatRequest("g", 1, member_id)).error_code == 16
    assert code(plane.ask(commit(6))) == 16
    assert committed(plane) == (16, [])
    assert plane.ask(DescribeGroupsRequest(["g"])).groups[0].error_code == 16
    assert plane.ask(ListGroupsRequest()).groups == []
    plane.lead_groups(ME, 2)
    assert plane.ask(HeartbeatRequest("g", 1, member_id)).error_code == 0
    assert committed(plane) == (0, [5])


def test_who_waits_when_the_leadership_ends_is_sent_elsewhere(plane: ControlPlane) -> None:
    member_id = join(plane)
    plane.group_log.is_held = True
    member = {"generation_id_or_member_epoch": 1, "member_id": member_id}
    committing = [plane.begin(commit(5, **member))]
    plane.settle()
    committing += [plane.begin(commit(offset, **member)) for offset in (6, 7)]
    rejoin = JoinGroupRequest(
        group_id="g",
        session_timeout_ms=SESSION_MS,
        rebalance_timeout_ms=SESSION_MS,
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol("range", b"")],
    )
    rejoin.member_id = plane.ask(rejoin).member_id
    joining = plane.begin(rejoin)
    plane.settle()
    assert not joining
    plane.lead_groups(OTHER, 1)
    assert [code(answer[0]) for answer in committing] == [16, 16, 16]
    assert joining[0].error_code == 16
    # what becomes of it is nobody's any more
    plane.group_log.release()
    plane.settle()
    assert plane.ask(HeartbeatRequest("g", 1, member_id)).error_code == 16


def test_another_epoch_of_the_same_leader_reads_the_groups_again(plane: ControlPlane) -> None:
    plane.ask(commit(5))
    reads = plane.group_log.reads
    plane.lead_groups(ME, 0)
    assert plane.group_log.reads == reads, "told again"
    plane.lead_groups(ME, 2)
    assert plane.group_log.reads == reads + 50
    assert committed(plane) == (0, [5])


def test_sessions_begin_anew_where_a_group_moves_to(plane: ControlPlane) -> None:
    member_id = join(plane)
    plane.lead_groups(OTHER, 1)
    plane.settle(SESSION_MS - 1_000)
    plane.lead_groups(ME, 2)
    plane.settle(SESSION_MS - 1_000)
    assert plane.ask(HeartbeatRequest("g", 1, member_id)).error_code == 0
    plane.settle(SESSION_MS)
    assert plane.ask(HeartbeatRequest("g", 1, member_id)).error_code == 25


def test_a_broker_whose_registration_is_over_serves_nothing_until_it_is_elected_again(
    plane: ControlPlane,
) -> None:
    plane.ask(commit(5))
    plane.groups.resign()
    plane.settle()
    assert committed(plane) == (16, [])
    plane.lead_groups(ME, 0)
    assert committed(plane) == (16, [])
    plane.lead_groups(ME, 1)
    assert committed(plane) == (0, [5])


# --- reading ---


def test_a_new_leader_serves_no_group_before_it_has_all_that_was_committed(plane: ControlPlane) -> None:
    plane.ask(commit(5))
    plane.lead_groups(OTHER, 1)
    (partition,) = plane.group_log.partitions
    records = plane.group_log.partitions[partition]
    plane.group_log.partitions[partition] = []
    plane.group_log.lacks_commits = True
    plane.lead_groups(ME, 2)
    assert committed(plane) == (14, [])
    assert code(plane.ask(commit(1))) == 14
    assert plane.ask(HeartbeatRequest("g", 1, "m")).error_code == 0
    plane.settle(60_000)
    assert committed(plane) == (14, [])
    # the others in sync have fetched: the high watermark is where it was before the election
    plane.group_log.partitions[partition] = records
    plane.group_log.lacks_commits = False
    plane.settle(RETRY_MS_MAX)
    assert committed(plane) == (0, [5])


def test_partitions_that_wait_for_their_log_keep_no_other_from_being_served(plane: ControlPlane) -> None:
    plane.ask(commit(5))
    plane.lead_groups(OTHER, 1)
    plane.group_log.leads_in = 3
    plane.lead_groups(ME, 2)
    assert committed(plane) == (14, [])
    # the data plane was a step ahead
    plane.lead_groups(ME, 3)
    assert committed(plane) == (0, [5])
    plane.lead_groups(ME, 4)
    assert committed(plane) == (14, [])
    plane.lead_groups(OTHER, 5)
    plane.settle(RETRY_MS_MAX)
    assert committed(plane) == (16, [])


def test_a_topic_that_is_deleted_while_groups_are_read_takes_its_offsets_along(plane: ControlPlane) -> None:
    plane.ask(commit(5))
    plane.lead_groups(OTHER, 1)
    plane.group_log.lacks_commits = True
    plane.lead_groups(ME, 2)
    plane.topics.delete(plane.topics.named("t"))
    plane.topics.create("t")
    plane.settle()
    plane.group_log.lacks_commits = False
    plane.settle(RETRY_MS_MAX)
    assert committed(plane) == (0, [])


# --- writing ---


def test_what_was_decided_in_one_leadership_is_written_in_no_other(plane: ControlPlane) -> None:
    plane.ask(commit(5))
    (partition,) = plane.group_log.partitions
    before = list(plane.group_log.partitions[partition])
    # another broker led meanwhile, which the coordinator has not heard yet
    plane.group_log.leads_in = 2
    assert code(plane.ask(commit(6))) == 16
    assert plane.group_log.partitions[partition] == before
    plane.settle(60_000)
    assert committed(plane) == (14, [])
    plane.lead_groups(ME, 2)
    assert committed(plane) == (0, [5])
    assert code(plane.ask(commit(7))) == 0


def test_a_write_of_an_old_leadership_is_not_answered_by_the_next_one(plane: ControlPlane) -> None:
    plane.ask(commit(5))
    plane.group_log.is_held = True
    old = plane.begin(commit(6))
    plane.settle()
    plane.lead_groups(ME, 2)
    assert code(old[0]) == 16
    new = plane.begin(commit(7))
    plane.settle()
    # the old one's acknowledgement comes late, and is that of nothing
    assert plane.group_log.release(6) == 2
    plane.settle()
    assert code(new[0]) == 16
    plane.group_log.is_held = False
    plane.settle(60_000)
    assert committed(plane) == (0, [5])


def test_after_a_leadership_in_doubt_a_group_is_what_its_log_says(plane: ControlPlane) -> None:
    plane.ask(commit(5))
    plane.group_log.is_held = True
    doubtful = plane.begin(commit(6))
    plane.settle()
    plane.group_log.release(6, is_in_log=True)
    plane.group_log.is_held = False
    plane.settle()
    assert code(doubtful[0]) == 16
    assert committed(plane) == (14, [])
    plane.settle(1_000)
    assert committed(plane) == (0, [6])


@pytest.mark.parametrize("is_in_log", [True, False])
def test_a_commit_without_enough_replicas_is_tried_again_by_the_client(
    plane: ControlPlane, *, is_in_log: bool
) -> None:
    plane.group_log.fails_with = 20 if is_in_log else 19
    assert code(plane.ask(commit(5))) == 15
    assert committed(plane) == (0, [5] if is_in_log else [])


# --- finding ---


def find(plane: ControlPlane) -> tuple[int, str, int, int]:
    found = plane.ask(FindCoordinatorRequest(coordinator_keys=["g"])).coordinators[0]
    return found.node_id, found.host, found.port, found.error_code


def broker(broker_id: int, **endpoints: tuple[str, int]) -> Registration:
    return Registration(
        broker_id=broker_id, broker_epoch=20, incarnation=UUID(int=broker_id), endpoints=endpoints
    )


def test_the_coordinator_is_the_leader_by_the_listener_that_was_asked(plane: ControlPlane) -> None:
    two = broker(2, PLAINTEXT=("two.example", 9093), ZMQ=("two.example", 9094))
    plane.services.addresses.registrations = Brokers(two, broker(3, ZMQ=("three.example", 9094)))
    assert find(plane) == (1, "127.0.0.1", 9092, 0)
    plane.lead_groups(OTHER, 1)
    assert find(plane) == (2, "two.example", 9093, 0)
    for nowhere in (NOBODY, 3, 4):
        plane.lead_groups(nowhere, 2)
        assert find(plane) == (-1, "", -1, 15), "no leader, no such listener, not live"


def test_in_a_cluster_the_topic_waits_for_as_many_brokers_as_it_has_replicas(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path)
    try:
        plane.services.addresses.registrations = Brokers()
        answer = plane.ask(FindCoordinatorRequest(key="g"), 3)
        assert answer.error_code == 15
        assert "replication factor 3" in answer.error_message
        plane.static["offsets.topic.replication.factor"] = "1"
        plane.restart()
        plane.services.addresses.registrations = Brokers()
        assert find(plane) == (1, "127.0.0.1", 9092, 0)
    finally:
        plane.close()
