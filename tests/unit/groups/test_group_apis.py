"""The APIs of groups, from request to answer: what the handlers add to what the coordinator decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastlog.broker.context import Operation, RequestContext, ResourceType
from fastlog.broker.groups.offsets_topic import partition_of
from fastlog.errors import InvalidTopicError, KafkaStorageError
from fastlog.ports import StoreUnavailableError
from fastlog.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from fastlog.protocol.messages.delete_groups import DeleteGroupsRequest
from fastlog.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from fastlog.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from fastlog.protocol.messages.describe_groups import DescribeGroupsRequest
from fastlog.protocol.messages.find_coordinator import FindCoordinatorRequest
from fastlog.protocol.messages.heartbeat import HeartbeatRequest
from fastlog.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from fastlog.protocol.messages.leave_group import LeaveGroupRequest
from fastlog.protocol.messages.list_groups import ListGroupsRequest
from fastlog.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from fastlog.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from fastlog.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from fastlog.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from fastlog.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from fastlog.state.topic_names import OFFSETS_TOPIC
from tests.support.control_plane import ControlPlane

RETENTION_MS = 7 * 24 * 3_600_000


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    made = ControlPlane(tmp_path)
    made.topics.create("t", partition_count=2)
    yield made
    made.close()


@pytest.fixture
def ready(plane: ControlPlane) -> ControlPlane:
    """With `__consumer_offsets`, and its groups read."""
    assert plane.ask(FindCoordinatorRequest(coordinator_keys=["g"])).coordinators[0].error_code == 0
    plane.settle()
    return plane


def commit(*rows: tuple[str, int, int], group_id: str = "g", metadata: str = "") -> OffsetCommitRequest:
    topics: dict[str, OffsetCommitRequestTopic] = {}
    for topic, partition, offset in rows:
        row = OffsetCommitRequestPartition(partition, offset, committed_metadata=metadata)
        topics.setdefault(topic, OffsetCommitRequestTopic(topic)).partitions.append(row)
    return OffsetCommitRequest(group_id=group_id, topics=list(topics.values()))


def join(plane: ControlPlane, group_id: str = "g") -> str:
    request = JoinGroupRequest(
        group_id=group_id,
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol("range", b"\0\0\0\0\0\1\0\1t\xff\xff\xff\xff")],
    )
    request.member_id = plane.ask(request).member_id
    assert plane.ask(request).error_code == 0
    return request.member_id


def codes(answer: Any) -> dict[tuple[str, int], int]:
    return {
        (topic.name, it.partition_index): it.error_code for topic in answer.topics for it in topic.partitions
    }


# --- FindCoordinator ---


def test_the_first_search_makes_the_topic_as_kafka_does(plane: ControlPlane) -> None:
    found = plane.ask(FindCoordinatorRequest(coordinator_keys=["g", "h"]))
    assert [(it.key, it.node_id, it.host, it.port, it.error_code) for it in found.coordinators] == [
        ("g", 1, "127.0.0.1", 9092, 0),
        ("h", 1, "127.0.0.1", 9092, 0),
    ]
    assert len(plane.topics.named(OFFSETS_TOPIC).partitions) == 50
    assert plane.configs.topic_settings(OFFSETS_TOPIC).cleanup_policy == ("compact",)
    assert plane.configs.topic_settings(OFFSETS_TOPIC).segment_bytes == 100 << 20


@pytest.mark.parametrize("version", [0, 1, 3])
def test_older_versions_ask_for_one(plane: ControlPlane, version: int) -> None:
    found = plane.ask(FindCoordinatorRequest(key="g"), version)
    assert (found.node_id, found.host, found.port, found.error_code) == (1, "127.0.0.1", 9092, 0)


@pytest.mark.parametrize("key_type", [1, 2, 9])
def test_what_is_not_coordinated_here_is_refused_at_once(plane: ControlPlane, key_type: int) -> None:
    found = plane.ask(FindCoordinatorRequest(key_type=key_type, coordinator_keys=["x"])).coordinators[0]
    assert (found.node_id, found.host, found.port, found.error_code) == (-1, "", -1, 42)


def test_a_topic_that_cannot_be_made_is_tried_again_by_the_client(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreUnavailableError("no space")

    monkeypatch.setattr(plane.store, "create_topics", fail)
    assert plane.ask(FindCoordinatorRequest(key="g"), 3).error_code == 15
    monkeypatch.undo()
    plane.data_plane.fails_with = KafkaStorageError("no space")
    assert plane.ask(FindCoordinatorRequest(key="g"), 3).error_code == 15
    plane.data_plane.fails_with = None
    assert plane.ask(FindCoordinatorRequest(key="h"), 3).error_code == 0


def test_asking_for_the_topics_metadata_makes_it_alike(plane: ControlPlane) -> None:
    plane.begin(
        MetadataRequest(topics=[MetadataRequestTopic(name=OFFSETS_TOPIC)], allow_auto_topic_creation=True)
    )
    assert len(plane.topics.named(OFFSETS_TOPIC).partitions) == 50


# --- before there is a coordinator ---


def test_before_anyone_looked_for_a_coordinator_there_is_none(plane: ControlPlane) -> None:
    assert plane.ask(JoinGroupRequest(group_id="g")).error_code == 16
    assert plane.ask(SyncGroupRequest(group_id="g"), 4).error_code == 16
    assert plane.ask(HeartbeatRequest("g", 1, "m")).error_code == 16
    assert plane.ask(LeaveGroupRequest("g")).error_code == 16
    assert codes(plane.ask(commit(("t", 0, 1)))) == {("t", 0): 16}
    assert plane.ask(OffsetFetchRequest(groups=[OffsetFetchRequestGroup("g")])).groups[0].error_code == 16
    assert plane.ask(OffsetDeleteRequest("g")).error_code == 16
    assert plane.ask(DescribeGroupsRequest(["g"])).groups[0].error_code == 16
    assert plane.ask(DeleteGroupsRequest(["g"])).results[0].error_code == 16
    assert plane.ask(ListGroupsRequest()).groups == []


def test_while_groups_are_read_clients_are_told_to_wait(plane: ControlPlane) -> None:
    plane.ask(FindCoordinatorRequest(key="g"), 3)
    plane.settle()
    plane.ask(commit(("t", 0, 5)))
    plane.restart()
    plane.groups.turn()
    assert plane.begin(JoinGroupRequest(group_id="g", session_timeout_ms=10_000))[0].error_code == 14
    # as in Kafka: a heartbeat is believed
    assert plane.begin(HeartbeatRequest("g", 1, "m"))[0].error_code == 0
    assert plane.begin(ListGroupsRequest())[0].error_code == 14
    plane.settle()
    assert [group.group_id for group in plane.ask(ListGroupsRequest()).groups] == ["g"]


def test_groups_that_cannot_be_read_are_served_by_nobody(plane: ControlPlane) -> None:
    plane.ask(FindCoordinatorRequest(key="g"), 3)
    plane.group_log.cannot_be_read = 56
    plane.restart()
    plane.settle()
    assert plane.ask(JoinGroupRequest(group_id="g", session_timeout_ms=10_000)).error_code == 16


# --- commits ---


def test_each_partition_that_is_not_there_fails_alone(ready: ControlPlane) -> None:
    answer = ready.ask(commit(("t", 0, 1), ("t", 2, 1), ("t", -1, 1), ("nowhere", 0, 1)))
    assert codes(answer) == {("t", 0): 0, ("t", 2): 3, ("t", -1): 3, ("nowhere", 0): 3}
    assert codes(ready.ask(commit(("nowhere", 0, 1)))) == {("nowhere", 0): 3}


def test_too_much_text_beside_an_offset_is_refused(ready: ControlPlane) -> None:
    assert codes(ready.ask(commit(("t", 0, 1), metadata="x" * 4096))) == {("t", 0): 0}
    assert codes(ready.ask(commit(("t", 0, 2), metadata="x" * 4097))) == {("t", 0): 12}
    # as Java counts: two units each
    assert codes(ready.ask(commit(("t", 0, 3), metadata="😀" * 2048))) == {("t", 0): 0}
    assert codes(ready.ask(commit(("t", 0, 4), metadata="😀" * 2049))) == {("t", 0): 12}
    fetched = ready.ask(OffsetFetchRequest(groups=[OffsetFetchRequestGroup("g", topics=None)])).groups[0]
    assert [it.committed_offset for topic in fetched.topics for it in topic.partitions] == [3]


def test_commits_that_come_together_share_an_append(ready: ControlPlane) -> None:
    before = ready.group_log.appends
    answers = [ready.begin(commit(("t", 0, number), group_id=f"g{number}")) for number in range(30)]
    assert not any(answers)
    ready.groups.turn()
    assert [codes(answer[0]) for answer in answers] == [{("t", 0): 0}] * 30
    assert ready.group_log.appends == before + 1


def test_a_commit_is_answered_when_it_is_safe(ready: ControlPlane) -> None:
    ready.group_log.is_held = True
    first = ready.begin(commit(("t", 0, 1)))
    ready.settle()
    second = ready.begin(commit(("t", 0, 2)))
    ready.settle()
    assert not first
    assert not second
    assert ready.group_log.release() == 1
    ready.settle()
    # one append of a partition at a time: their order is that of the log
    assert first
    assert not second
    ready.group_log.release()
    ready.settle()
    assert codes(second[0]) == {("t", 0): 0}


@pytest.mark.parametrize(
    ("append_fails_with", "told"), [(56, 16), (6, 16), (3, 15), (19, 15), (7, 15), (10, -1)]
)
def test_an_append_that_fails_is_told_in_kafkas_words(
    ready: ControlPlane, append_fails_with: int, told: int
) -> None:
    ready.group_log.fails_with = append_fails_with
    assert codes(ready.ask(commit(("t", 0, 1)))) == {("t", 0): told}


# --- fetching ---


def test_older_versions_fetch_one_group(ready: ControlPlane) -> None:
    ready.ask(commit(("t", 0, 5), metadata="m"))
    request = OffsetFetchRequest(group_id="g", topics=[OffsetFetchRequestTopic("t", [0, 1])])
    for version in (1, 7):
        answer = ready.ask(request, version)
        rows = [(it.partition_index, it.committed_offset, it.metadata) for it in answer.topics[0].partitions]
        assert rows == [(0, 5, "m"), (1, -1, "")]
        assert answer.error_code == 0
    everything = ready.ask(OffsetFetchRequest(group_id="g", topics=None), 7)
    assert codes(everything) == {("t", 0): 0}


def test_many_groups_are_fetched_at_once(ready: ControlPlane) -> None:
    ready.ask(commit(("t", 0, 5)))
    ready.ask(commit(("t", 1, 6), group_id="h"))
    wanted = [OffsetFetchRequestTopics("t", partition_indexes=[0])]
    asked = [OffsetFetchRequestGroup("g", topics=wanted), OffsetFetchRequestGroup("h", topics=None)]
    answer = ready.ask(OffsetFetchRequest(groups=[*asked, OffsetFetchRequestGroup("none", topics=None)]))
    found = {
        group.group_id: [
            (it.partition_index, it.committed_offset) for topic in group.topics for it in topic.partitions
        ]
        for group in answer.groups
    }
    assert found == {"g": [(0, 5)], "h": [(1, 6)], "none": []}


# --- deleting ---


def test_a_topic_that_is_deleted_takes_its_offsets_along(ready: ControlPlane) -> None:
    ready.ask(commit(("t", 0, 5)))
    ready.topics.delete(ready.topics.named("t"))
    ready.settle()
    ready.topics.create("t", partition_count=2)
    fetched = ready.ask(OffsetFetchRequest(groups=[OffsetFetchRequestGroup("g", topics=None)])).groups[0]
    assert fetched.topics == []


def test_offsets_of_a_topic_that_went_with_a_stop_in_between_go_at_the_next_start(
    ready: ControlPlane,
) -> None:
    ready.ask(commit(("t", 0, 5)))
    ready.topics.delete(ready.topics.named("t"))
    # the coordinator did not get round to it
    ready.restart()
    ready.settle()
    fetched = ready.ask(OffsetFetchRequest(groups=[OffsetFetchRequestGroup("g", topics=None)])).groups[0]
    assert fetched.topics == []


def test_offsets_are_deleted_each_partition_for_itself(ready: ControlPlane) -> None:
    ready.ask(commit(("t", 0, 5), ("t", 1, 6)))
    wanted = [OffsetDeleteRequestPartition(0), OffsetDeleteRequestPartition(7)]
    topics = [OffsetDeleteRequestTopic("t", wanted), OffsetDeleteRequestTopic("nowhere", wanted[:1])]
    answer = ready.ask(OffsetDeleteRequest("g", topics))
    assert codes(answer) == {("t", 0): 0, ("t", 7): 3, ("nowhere", 0): 3}
    assert ready.ask(OffsetDeleteRequest("")).error_code == 24
    assert ready.ask(OffsetDeleteRequest("nobody")).error_code == 69


def test_groups_are_deleted_each_for_itself(ready: ControlPlane) -> None:
    ready.ask(commit(("t", 0, 5)))
    join(ready, "h")
    answer = ready.ask(DeleteGroupsRequest(["g", "h", "nobody", "g"]))
    assert {it.group_id: it.error_code for it in answer.results} == {"g": 0, "h": 68, "nobody": 69}
    assert ready.ask(DeleteGroupsRequest()).results == []
    ready.restart()
    ready.settle()
    assert ready.ask(ListGroupsRequest()).groups == []


@pytest.mark.parametrize("by", ["name", "id"])
def test_the_topic_of_groups_is_not_deleted(ready: ControlPlane, by: str) -> None:
    ready.ask(commit(("t", 0, 5)))
    topic_id = ready.topics.named(OFFSETS_TOPIC).topic_id.bytes
    state = DeleteTopicState(name=OFFSETS_TOPIC) if by == "name" else DeleteTopicState(topic_id=topic_id)
    (refused,) = ready.ask(DeleteTopicsRequest(topics=[state])).responses
    assert refused.error_code == InvalidTopicError.code
    assert "positions of all groups" in refused.error_message
    ready.settle()
    assert codes(ready.ask(commit(("t", 0, 6)))) == {("t", 0): 0}


def test_deleting_the_topic_of_groups_ends_them_and_the_next_search_makes_it_anew(
    ready: ControlPlane,
) -> None:
    ready.ask(commit(("t", 0, 5)))
    ready.topics.delete(ready.topics.named(OFFSETS_TOPIC))
    ready.settle()
    assert codes(ready.ask(commit(("t", 0, 6)))) == {("t", 0): 16}
    ready.group_log.partitions.clear()
    ready.ask(FindCoordinatorRequest(key="g"), 3)
    ready.settle()
    assert codes(ready.ask(commit(("t", 0, 6)))) == {("t", 0): 0}


def test_old_offsets_go_a_partition_in_each_turn(ready: ControlPlane) -> None:
    names = [f"group-{number}" for number in range(20)]
    for name in names:
        ready.ask(commit(("t", 0, 5), group_id=name))
    ready.settle(RETENTION_MS - 2_000)

    def left() -> int:
        return sum(len(it.list_groups((), ())) for it in ready.groups.coordinators())

    assert left() == 20
    counts = []
    ready.clock.ms += 3_000
    for _ in range(60):
        ready.groups.turn()
        counts.append(left())
    partitions = {partition_of(name, 50) for name in names}
    assert counts[-1] == 0
    assert len(set(counts)) >= len(partitions)
    ready.restart()
    ready.settle()
    assert left() == 0


def test_records_of_the_topic_of_groups_are_not_deleted(ready: ControlPlane) -> None:
    wanted = DeleteRecordsTopic(OFFSETS_TOPIC, [DeleteRecordsPartition(0, -1)])
    answer = ready.ask(DeleteRecordsRequest(topics=[wanted]))
    assert answer.topics[0].partitions[0].error_code == 17


def test_the_topic_of_groups_keeps_its_number_of_partitions(ready: ControlPlane) -> None:
    answer = ready.ask(CreatePartitionsRequest(topics=[CreatePartitionsTopic(OFFSETS_TOPIC, 60, None)]))
    assert answer.results[0].error_code == 37
    assert len(ready.topics.named(OFFSETS_TOPIC).partitions) == 50


# --- members ---


def test_a_member_is_named_after_its_client_and_described_with_its_host(ready: ControlPlane) -> None:
    member_id = join(ready)
    assert member_id.startswith("test-")
    ready.ask(
        SyncGroupRequest(
            "g", 1, member_id, None, "consumer", "range", [SyncGroupRequestAssignment(member_id, b"a")]
        )
    )
    group = ready.ask(DescribeGroupsRequest(["g"], include_authorized_operations=True)).groups[0]
    member = group.members[0]
    assert (member.client_id, member.client_host, member.member_assignment) == ("test", "/127.0.0.1", b"a")
    assert group.authorized_operations == 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11
    assert ready.ask(DescribeGroupsRequest(["g"])).groups[0].authorized_operations == -(2**31)


def test_synchronising_needs_the_protocol_from_version_5(ready: ControlPlane) -> None:
    member_id = join(ready)
    assert ready.ask(SyncGroupRequest("g", 1, member_id)).error_code == 23
    assert ready.ask(SyncGroupRequest("g", 1, member_id), 4).error_code == 0


def test_old_versions_leave_alone(ready: ControlPlane) -> None:
    member_id = join(ready)
    assert ready.ask(LeaveGroupRequest("g", "stranger"), 2).error_code == 25
    assert ready.ask(LeaveGroupRequest("g", member_id), 2).error_code == 0
    assert ready.ask(LeaveGroupRequest("nobody", member_id), 0).error_code == 25
    assert ready.ask(LeaveGroupRequest("", member_id), 0).error_code == 24


def test_a_stop_sends_waiting_members_elsewhere(ready: ControlPlane) -> None:
    member_id = join(ready)
    ready.group_log.is_held = True
    waiting = ready.begin(SyncGroupRequest("g", 1, member_id), 4)
    second = JoinGroupRequest(
        group_id="h", session_timeout_ms=10_000, protocol_type="x", protocols=[JoinGroupRequestProtocol("p")]
    )
    joining = ready.begin(second, 3)
    ready.groups.put(ready.groups._shards.close)
    ready.settle()
    assert waiting[0].error_code == 16
    assert joining[0].error_code == 16
    assert ready.ask(HeartbeatRequest("g", 1, member_id)).error_code == 16
    # what was under way is not told any more
    ready.group_log.release()
    ready.settle()


def test_room_for_members_is_bounded_however_many_ask(ready: ControlPlane) -> None:
    request = JoinGroupRequest(
        group_id="g", session_timeout_ms=10_000, protocol_type="x", protocols=[JoinGroupRequestProtocol("p")]
    )
    answers = [ready.ask(request).error_code for _ in range(10)]
    assert answers == [79] * 3 + [81] * 7


def test_a_session_ends_by_the_clock(ready: ControlPlane) -> None:
    member_id = join(ready)
    ready.settle(9_999)
    assert ready.ask(HeartbeatRequest("g", 1, member_id)).error_code == 0
    ready.settle(10_000)
    assert ready.ask(HeartbeatRequest("g", 1, member_id)).error_code == 25


def test_old_offsets_go_at_the_next_look(ready: ControlPlane) -> None:
    ready.ask(commit(("t", 0, 5)))
    week_ms = 7 * 24 * 3_600_000
    ready.settle(week_ms - 1)
    assert len(ready.ask(ListGroupsRequest()).groups) == 1
    # looked at each second here
    ready.settle(1000)
    assert ready.ask(ListGroupsRequest()).groups == []


# --- bad input ---


def test_a_member_whose_name_no_record_can_hold_is_refused_and_the_others_go_on(ready: ControlPlane) -> None:
    ready.ask(commit(("t", 0, 5)))
    request = JoinGroupRequest(
        group_id="g",
        session_timeout_ms=10_000,
        group_instance_id="i" * 32_767,
        protocol_type="x",
        protocols=[JoinGroupRequestProtocol("p")],
    )
    member_id = ready.ask(request).member_id
    given = [SyncGroupRequestAssignment(member_id, b"a")]
    assert ready.ask(SyncGroupRequest("g", 1, member_id, None, "x", "p", given)).error_code == -1
    assert codes(ready.ask(commit(("t", 0, 6), group_id="h"))) == {("t", 0): 0}
    ready.restart()
    ready.settle()
    assert ready.ask(DescribeGroupsRequest(["g"])).groups[0].group_state == "Empty"


@pytest.mark.parametrize("metadata", [b"", b"\xff", b"\0\0\x7f\xff\xff\xff", b"\0\0\0\0\0\1\0\1\xff"])
def test_metadata_that_are_no_subscription_are_carried_and_nothing_is_concluded(
    ready: ControlPlane, metadata: bytes
) -> None:
    request = JoinGroupRequest(
        group_id="g", session_timeout_ms=10_000, protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol("range", metadata)],
    )  # fmt: skip
    request.member_id = ready.ask(request).member_id
    (leader,) = ready.ask(request).members
    assert leader.metadata == metadata
    given = [
        SyncGroupRequestAssignment(leader.member_id, b"\xff\0garbage"),
        SyncGroupRequestAssignment("nobody", b"x"),
    ]
    answer = ready.ask(SyncGroupRequest("g", 1, leader.member_id, None, "consumer", "range", given))
    assert (answer.error_code, answer.assignment) == (0, b"\xff\0garbage")
    ready.ask(
        OffsetCommitRequest(
            group_id="g",
            generation_id_or_member_epoch=1,
            member_id=leader.member_id,
            topics=[OffsetCommitRequestTopic("t", partitions=[OffsetCommitRequestPartition(0, 5)])],
        )
    )
    # it may be reading anything
    topics = [OffsetDeleteRequestTopic("t", [OffsetDeleteRequestPartition(0)])]
    assert codes(ready.ask(OffsetDeleteRequest("g", topics))) == {("t", 0): 86}
    ready.restart()
    ready.settle()
    assert ready.ask(HeartbeatRequest("g", 1, leader.member_id)).error_code == 0


def test_a_group_with_very_many_offsets_is_deleted_in_parts(ready: ControlPlane) -> None:
    ready.topics.grow("t", 2_500)
    ready.ask(commit(*(("t", partition, 1) for partition in range(2_500))))
    assert ready.ask(DeleteGroupsRequest(["g"])).results[0].error_code == 0
    ready.restart()
    ready.settle()
    assert ready.ask(ListGroupsRequest()).groups == []


def test_a_record_that_makes_no_sense_costs_its_own_group_only(
    ready: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    ready.ask(commit(("t", 0, 5)))
    (partition,) = ready.group_log.partitions
    ready.group_log.partitions[partition] += [(b"\0\2\0\1x", b"\0\3junk"), (b"", b"?"), (b"\0", None)]
    ready.restart()
    ready.settle()
    assert [group.group_id for group in ready.ask(ListGroupsRequest()).groups] == ["g"]
    assert "passed over" in caplog.text


# --- who may ---


class Denied:
    """May do everything but one operation to one resource."""

    def __init__(self, *denied: tuple[Operation, ResourceType, str]) -> None:
        self.denied = denied

    def allows(
        self, context: RequestContext, operation: Operation, resource_type: ResourceType, name: str
    ) -> bool:
        return (operation, resource_type, name) not in self.denied


def test_who_may_not_read_a_group_is_told_so(ready: ControlPlane) -> None:
    ready.services.authorizer = Denied(
        (Operation.READ, ResourceType.GROUP, "g"),
        (Operation.DESCRIBE, ResourceType.GROUP, "g"),
        (Operation.DELETE, ResourceType.GROUP, "g"),
        (Operation.DESCRIBE, ResourceType.CLUSTER, "kafka-cluster"),
    )
    ready.ask(commit(("t", 0, 5), group_id="h"))
    assert ready.ask(JoinGroupRequest(group_id="g")).error_code == 30
    assert ready.ask(SyncGroupRequest(group_id="g"), 4).error_code == 30
    assert ready.ask(HeartbeatRequest("g")).error_code == 30
    assert ready.ask(LeaveGroupRequest("g")).error_code == 30
    assert codes(ready.ask(commit(("t", 0, 5)))) == {("t", 0): 30}
    assert ready.ask(OffsetFetchRequest(groups=[OffsetFetchRequestGroup("g")])).groups[0].error_code == 30
    assert ready.ask(OffsetDeleteRequest("g")).error_code == 30
    assert ready.ask(DescribeGroupsRequest(["g"])).groups[0].error_code == 30
    assert ready.ask(DeleteGroupsRequest(["g"])).results[0].error_code == 30
    assert ready.ask(FindCoordinatorRequest(coordinator_keys=["g"])).coordinators[0].error_code == 30
    assert [group.group_id for group in ready.ask(ListGroupsRequest()).groups] == ["h"]


def test_topics_that_a_client_may_not_see_are_left_out_or_refused(ready: ControlPlane) -> None:
    ready.ask(commit(("t", 0, 5)))
    ready.services.authorizer = Denied(
        (Operation.READ, ResourceType.TOPIC, "t"), (Operation.DESCRIBE, ResourceType.TOPIC, "t")
    )
    assert codes(ready.ask(commit(("t", 0, 6)))) == {("t", 0): 29}
    everything = ready.ask(OffsetFetchRequest(groups=[OffsetFetchRequestGroup("g", topics=None)])).groups[0]
    assert everything.topics == []
    asked = OffsetFetchRequestGroup("g", topics=[OffsetFetchRequestTopics("t", partition_indexes=[0])])
    named = ready.ask(OffsetFetchRequest(groups=[asked])).groups[0]
    assert [(it.committed_offset, it.error_code) for topic in named.topics for it in topic.partitions] == [
        (-1, 29)
    ]
