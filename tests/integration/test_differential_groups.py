"""fastlog and Apache Kafka asked the same: groups, their members and what they commit."""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastlog.protocol.codec import decode_response_frame, encode_request_frame
from fastlog.protocol.messages.delete_groups import DeleteGroupsRequest
from fastlog.protocol.messages.describe_groups import DescribeGroupsRequest
from fastlog.protocol.messages.find_coordinator import FindCoordinatorRequest
from fastlog.protocol.messages.heartbeat import HeartbeatRequest
from fastlog.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from fastlog.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
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
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from fastlog.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from tests.integration.kafka.server import KafkaServer
from tests.support.batches import NOW_MS, seal
from tests.support.broker import BrokerProcess
from tests.support.pair import CORRELATION_ID, Pair, Side

TOPIC = "of-groups"
SUBSCRIPTION = (
    struct.pack(">hi", 0, 1) + struct.pack(">h", len(TOPIC)) + TOPIC.encode() + struct.pack(">i", -1)
)
COORDINATOR_SECONDS = 30.0
_numbers = itertools.count()


@pytest.fixture(scope="module")
def group_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    settings = {"group.initial.rebalance.delay.ms": "0"}
    made = BrokerProcess(tmp_path_factory.mktemp("groups") / "data", settings=settings).start()
    yield made
    assert made.stop() == 0, made.log()


@pytest.fixture(scope="module")
def both(kafka: KafkaServer, group_broker: BrokerProcess) -> Iterator[Pair]:
    made = Pair(int(kafka.bootstrap.rsplit(":", 1)[1]), group_broker.tcp_port)
    made.topic(TOPIC, 2)
    for side in made.sides:
        deadline = time.monotonic() + COORDINATOR_SECONDS
        # Kafka's is not there at once, and then it loads its groups
        while side.ask(HeartbeatRequest("nobody", 1, "m"), 4).error_code != 25:
            side.ask(FindCoordinatorRequest(coordinator_keys=["nobody"]), 4)
            assert time.monotonic() < deadline, side.name
            time.sleep(0.05)
    yield made
    made.close()


@pytest.fixture
def other(kafka: KafkaServer, group_broker: BrokerProcess) -> Iterator[Pair]:
    """A second connection to each."""
    made = Pair(int(kafka.bootstrap.rsplit(":", 1)[1]), group_broker.tcp_port)
    yield made
    made.close()


@pytest.fixture
def group_id() -> str:
    return f"group-{next(_numbers)}"


def join_request(
    group_id: str,
    member_id: str = "",
    *,
    instance_id: str | None = None,
    protocols: tuple[str, ...] = ("range",),
    protocol_type: str = "consumer",
    session_timeout_ms: int = 10_000,
) -> JoinGroupRequest:
    return JoinGroupRequest(
        group_id=group_id,
        session_timeout_ms=session_timeout_ms,
        rebalance_timeout_ms=10_000,
        member_id=member_id,
        group_instance_id=instance_id,
        protocol_type=protocol_type,
        protocols=[JoinGroupRequestProtocol(name, SUBSCRIPTION) for name in protocols],
    )


def as_member(make: Callable[[str], Any], name: str = "member") -> Callable[[Side], Any]:
    """A request for each side, with the id that its member has there."""
    return lambda side: make(side.notes[name])


def join(pair: Pair, group_id: str, version: int = 9, name: str = "member", **more: Any) -> list[Any]:
    """Makes one a member on both sides; the answers."""

    def note(answers: list[Any]) -> None:
        for side, answer in zip(pair.sides, answers, strict=True):
            side.notes[name] = answer.member_id

    request = join_request(group_id, **more)
    answers = pair.same(request, version)
    note(answers)
    if answers[0].error_code == 79:
        answers = pair.same(
            as_member(lambda member_id: join_request(group_id, member_id, **more), name), version
        )
        note(answers)
    assert answers[0].error_code == 0
    return answers


def sync_request(group_id: str, member_id: str, generation: int = 1, *, version: int = 5) -> SyncGroupRequest:
    given = [SyncGroupRequestAssignment(member_id, b"assigned")]
    kind = ("consumer", "range") if version >= 5 else (None, None)
    return SyncGroupRequest(group_id, generation, member_id, None, *kind, given)


def stable(pair: Pair, group_id: str, **more: Any) -> None:
    """A group with one member that has its assignment."""
    join(pair, group_id, **more)
    pair.same(as_member(lambda member_id: sync_request(group_id, member_id)), 5)


def commit_request(
    group_id: str, *rows: tuple[str, int, int], generation: int = -1, member_id: str = "", metadata: str = ""
) -> OffsetCommitRequest:
    topics: dict[str, OffsetCommitRequestTopic] = {}
    for topic, partition, offset in rows:
        row = OffsetCommitRequestPartition(partition, offset, committed_metadata=metadata)
        topics.setdefault(topic, OffsetCommitRequestTopic(topic)).partitions.append(row)
    return OffsetCommitRequest(
        group_id=group_id,
        generation_id_or_member_epoch=generation,
        member_id=member_id,
        topics=list(topics.values()),
    )


# --- FindCoordinator ---


@pytest.mark.parametrize("version", range(7))
def test_coordinators_are_found(both: Pair, version: int) -> None:
    if version < 4:
        both.same(FindCoordinatorRequest(key="g"), version)
    else:
        both.same(FindCoordinatorRequest(coordinator_keys=["g", "h", ""]), version)


def test_the_topic_of_groups_is_kafkas_own(both: Pair) -> None:
    name = "__consumer_offsets"
    described = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
    for answer in both.same(described, 12):
        assert answer.topics[0].is_internal
        assert len(answer.topics[0].partitions) == 50


@pytest.mark.parametrize("acks", [1, -1])
def test_clients_do_not_write_to_the_topic_of_groups(both: Pair, acks: int) -> None:
    data = PartitionProduceData(index=0, records=seal([(NOW_MS, b"k", b"v", ())]))
    topic = TopicProduceData(name="__consumer_offsets", partition_data=[data])
    answers = both.same(ProduceRequest(acks=acks, timeout_ms=1000, topic_data=[topic]), 9)
    assert answers[1].responses[0].partition_responses[0].error_code == 17


# --- members ---


@pytest.mark.parametrize("version", range(10))
def test_a_member_joins_synchronises_heartbeats_and_leaves(both: Pair, group_id: str, version: int) -> None:
    join(both, group_id, version)
    sync_version = min(version, 5)
    both.same(
        as_member(lambda member_id: sync_request(group_id, member_id, version=sync_version)), sync_version
    )
    both.same(as_member(lambda member_id: HeartbeatRequest(group_id, 1, member_id)), min(version, 4))
    both.same(DescribeGroupsRequest([group_id]), min(version, 6))
    leave = as_member(lambda member_id: LeaveGroupRequest(group_id, member_id, [MemberIdentity(member_id)]))
    both.same(leave, min(version, 5))
    both.same(leave, min(version, 5))
    both.same(DescribeGroupsRequest([group_id]), min(version, 6))


@pytest.mark.parametrize("version", [0, 3, 5, 6, 7, 9])
def test_wrong_joins(both: Pair, group_id: str, version: int) -> None:
    both.same(join_request(""), version)
    both.same(join_request(group_id, "nobody"), version)
    both.same(join_request(group_id, protocols=()), version)
    both.same(join_request(group_id, protocol_type=""), version)
    both.same(join_request(group_id, session_timeout_ms=999), version)
    both.same(join_request(group_id, session_timeout_ms=1_800_001), version)
    join(both, group_id, version)
    both.same(join_request(group_id, protocols=("other",)), version)
    both.same(join_request(group_id, protocol_type="connect"), version)
    both.same(join_request(group_id, "nobody"), version)
    if version >= 5:
        both.same(join_request(group_id, "nobody", instance_id="i"), version)


@pytest.mark.parametrize("version", range(6))
def test_wrong_synchronisations(both: Pair, group_id: str, version: int) -> None:
    both.same(sync_request("", "m", version=version), version)
    both.same(sync_request(group_id, "m", version=version), version)
    join(both, group_id)
    both.same(sync_request(group_id, "nobody", version=version), version)
    both.same(as_member(lambda it: sync_request(group_id, it, 0, version=version)), version)
    both.same(as_member(lambda it: sync_request(group_id, it, 2, version=version)), version)
    if version >= 3:
        both.same(as_member(lambda it: SyncGroupRequest(group_id, 1, it, "i", "consumer", "range")), version)
    if version >= 5:
        both.same(as_member(lambda it: SyncGroupRequest(group_id, 1, it)), version)
        both.same(as_member(lambda it: SyncGroupRequest(group_id, 1, it, None, "connect", "range")), version)
        both.same(as_member(lambda it: SyncGroupRequest(group_id, 1, it, None, "consumer", "other")), version)


@pytest.mark.parametrize("version", range(5))
def test_wrong_heartbeats(both: Pair, group_id: str, version: int) -> None:
    both.same(HeartbeatRequest("", 1, "m"), version)
    both.same(HeartbeatRequest(group_id, 1, "m"), version)
    stable(both, group_id)
    both.same(HeartbeatRequest(group_id, 1, "nobody"), version)
    for generation in (-1, 0, 2):
        both.same(as_member(lambda it, at=generation: HeartbeatRequest(group_id, at, it)), version)
    if version >= 3:
        both.same(as_member(lambda it: HeartbeatRequest(group_id, 1, it, "i")), version)


@pytest.mark.parametrize("version", range(6))
def test_wrong_farewells(both: Pair, group_id: str, version: int) -> None:
    both.same(LeaveGroupRequest("", "m", [MemberIdentity("m")]), version)
    both.same(LeaveGroupRequest(group_id, "m", [MemberIdentity("m")]), version)
    stable(both, group_id)
    both.same(
        LeaveGroupRequest(group_id, "nobody", [MemberIdentity("nobody"), MemberIdentity("", "i")]), version
    )
    if version >= 3:
        both.same(LeaveGroupRequest(group_id, members=[]), version)
        both.same(
            as_member(lambda it: LeaveGroupRequest(group_id, members=[MemberIdentity(it, "i")])), version
        )


@pytest.mark.parametrize("version", [5, 7, 8, 9])
def test_a_static_member_comes_back(both: Pair, group_id: str, version: int) -> None:
    stable(both, group_id, instance_id="i", version=version)
    before = {side.name: side.notes["member"] for side in both.sides}
    join(both, group_id, version, instance_id="i")
    both.same(as_member(lambda it: SyncGroupRequest(group_id, 1, it, "i", "consumer", "range")), 5)
    both.same(lambda side: HeartbeatRequest(group_id, 1, before[side.name], "i"), 4)
    both.same(lambda side: HeartbeatRequest(group_id, 1, before[side.name]), 4)
    both.same(lambda side: SyncGroupRequest(group_id, 1, before[side.name], "i", "consumer", "range"), 5)
    both.same(lambda side: join_request(group_id, before[side.name], instance_id="i"), version)
    both.same(DescribeGroupsRequest([group_id]), 6)
    both.same(LeaveGroupRequest(group_id, members=[MemberIdentity("", "i")]), 5)
    both.same(LeaveGroupRequest(group_id, members=[MemberIdentity("", "i")]), 5)


def test_a_rebalance_with_two_members(both: Pair, other: Pair, group_id: str) -> None:
    stable(both, group_id)
    # the second one waits for the first to join again
    second = {}
    for side, answer in zip(other.sides, other.same(join_request(group_id), 9), strict=True):
        second[side.name] = answer.member_id
        frame = encode_request_frame(
            join_request(group_id, answer.member_id), 9, CORRELATION_ID, "differential"
        )
        side.connection().send_frame(frame)
    until(both, as_member(lambda it: HeartbeatRequest(group_id, 1, it)), 4, 27)
    both.same(as_member(lambda it: HeartbeatRequest(group_id, 1, it)), 4)
    both.same(as_member(lambda it: sync_request(group_id, it)), 5)
    both.same(as_member(lambda it: commit_request(group_id, (TOPIC, 0, 1), generation=1, member_id=it)), 9)
    same_members(both, group_id)
    answers = both.same(as_member(lambda it: join_request(group_id, it)), 9)
    assert [answer.generation_id for answer in answers] == [2, 2]
    joined = [receive(side) for side in other.sides]
    other.check("the second member's join", 9, joined)
    both.same(as_member(lambda it: commit_request(group_id, (TOPIC, 0, 2), generation=2, member_id=it)), 9)
    both.same(as_member(lambda it: sync_request(group_id, it, 2)), 5)
    other.same(lambda side: SyncGroupRequest(group_id, 2, second[side.name], None, "consumer", "range"), 5)
    # the follower says the same again
    other.same(lambda side: join_request(group_id, second[side.name]), 9)
    same_members(both, group_id)


def same_members(pair: Pair, group_id: str) -> None:
    """Compares a group's description; the members are in no order."""
    request = DescribeGroupsRequest([group_id])
    answers = pair.both(request, 6)
    for answer in answers:
        answer.groups[0].members.sort(key=lambda it: it.member_assignment)
    pair.check(request, 6, answers)


def receive(side: Side) -> Any:
    frame = side.connection().receive_frame()
    assert frame is not None
    return decode_response_frame(JoinGroupRequest.API_KEY, 9, frame)[1]


def until(pair: Pair, request: Callable[[Side], Any], version: int, code: int) -> None:
    """Asks both until they answer the code: what was sent on another connection may take a moment."""
    for side in pair.sides:
        deadline = time.monotonic() + COORDINATOR_SECONDS
        while side.ask(request(side), version).error_code != code:
            assert time.monotonic() < deadline, side.name
            time.sleep(0.01)


# --- offsets ---


@pytest.mark.parametrize("version", range(2, 10))
def test_offsets_are_committed_and_fetched(both: Pair, group_id: str, version: int) -> None:
    both.same(commit_request(group_id, (TOPIC, 0, 5), (TOPIC, 1, 0), metadata="words"), version)
    for fetch_version in range(1, 10):
        both.same(fetch_request(group_id, [0, 1, 7], fetch_version), fetch_version)
        both.same(fetch_request(f"{group_id}-nobody", [0], fetch_version), fetch_version)
        if fetch_version >= 2:
            both.same(fetch_request(group_id, None, fetch_version), fetch_version)
            both.same(fetch_request(f"{group_id}-nobody", None, fetch_version), fetch_version)


def fetch_request(group_id: str, partitions: list[int] | None, version: int) -> OffsetFetchRequest:
    stable = version >= 7
    if version >= 8:
        topics = (
            None if partitions is None else [OffsetFetchRequestTopics(TOPIC, partition_indexes=partitions)]
        )
        return OffsetFetchRequest(
            groups=[OffsetFetchRequestGroup(group_id, topics=topics)], require_stable=stable
        )
    single = None if partitions is None else [OffsetFetchRequestTopic(TOPIC, partitions)]
    return OffsetFetchRequest(group_id=group_id, topics=single, require_stable=stable)


@pytest.mark.parametrize("version", range(2, 10))
def test_wrong_commits(both: Pair, group_id: str, version: int) -> None:
    both.same(commit_request(group_id, (TOPIC, 9, 1), ("nowhere", 0, 1), (TOPIC, 0, 1)), version)
    both.same(commit_request(f"{group_id}-none", (TOPIC, 0, 1), generation=1, member_id="m"), version)
    both.same(commit_request(group_id, (TOPIC, 0, 1), generation=1, member_id="m"), version)
    both.same(commit_request(group_id, (TOPIC, 0, 1), metadata="x" * 4096), version)
    both.same(commit_request(group_id, (TOPIC, 0, 1), metadata="x" * 4097), version)
    both.same(commit_request(group_id), version)
    stable(both, f"{group_id}-s")
    both.same(commit_request(f"{group_id}-s", (TOPIC, 0, 1)), version)
    both.same(commit_request(f"{group_id}-s", (TOPIC, 0, 1), generation=1, member_id="nobody"), version)
    for generation in (-1, 0, 1, 2):
        both.same(
            as_member(
                lambda it, at=generation: commit_request(
                    f"{group_id}-s", (TOPIC, 0, 1), generation=at, member_id=it
                )
            ),
            version,
        )


def test_commits_while_the_assignment_is_made(both: Pair, group_id: str) -> None:
    join(both, group_id)
    both.same(as_member(lambda it: commit_request(group_id, (TOPIC, 0, 1), generation=1, member_id=it)), 9)


def test_the_empty_group_has_offsets_too(both: Pair) -> None:
    both.same(commit_request("", (TOPIC, 0, 3)), 8)
    both.same(fetch_request("", [0], 7), 7)
    both.same(DescribeGroupsRequest([""]), 6)
    both.same(DeleteGroupsRequest([""]), 2)


def test_offsets_are_deleted(both: Pair, group_id: str) -> None:
    wanted = [OffsetDeleteRequestPartition(index) for index in (0, 1, 7)]
    topics = [OffsetDeleteRequestTopic(TOPIC, wanted), OffsetDeleteRequestTopic("nowhere", wanted)]
    both.same(OffsetDeleteRequest(group_id, topics), 0)
    both.same(OffsetDeleteRequest("", topics), 0)
    both.same(commit_request(group_id, (TOPIC, 0, 5)), 8)
    both.same(OffsetDeleteRequest(group_id, topics), 0)
    both.same(fetch_request(group_id, [0], 8), 8)
    stable(both, group_id)
    both.same(OffsetDeleteRequest(group_id, topics[:1]), 0)


# --- groups ---


@pytest.mark.parametrize("version", range(3))
def test_groups_are_deleted(both: Pair, group_id: str, version: int) -> None:
    stable(both, f"{group_id}-s")
    both.same(commit_request(group_id, (TOPIC, 0, 5)), 8)
    both.same(DeleteGroupsRequest([group_id, f"{group_id}-s", f"{group_id}-nobody", group_id]), version)
    both.same(fetch_request(group_id, [0], 8), 8)
    both.same(DescribeGroupsRequest([group_id, f"{group_id}-s"]), 5)


@pytest.mark.parametrize("version", range(6))
def test_groups_are_listed(both: Pair, group_id: str, version: int) -> None:
    stable(both, f"{group_id}-s")
    both.same(commit_request(group_id, (TOPIC, 0, 5)), 8)
    filters: list[tuple[list[str], list[str]]] = [([], [])]
    if version >= 4:
        filters += [(["Stable"], []), (["stable", "EMPTY"], []), (["Dead"], []), (["nonsense"], [])]
    if version >= 5:
        filters += [([], ["classic"]), ([], ["Consumer"]), (["Empty"], ["CLASSIC"])]
    for states, types in filters:
        answers = both.both(ListGroupsRequest(states, types), version)
        for answer in answers:
            # other tests' groups are here too
            answer.groups = [it for it in answer.groups if it.group_id in (group_id, f"{group_id}-s")]
        both.check(f"ListGroups {states} {types}", version, answers)


@pytest.mark.parametrize("version", range(7))
def test_groups_that_are_not_there_are_described(both: Pair, group_id: str, version: int) -> None:
    both.same(DescribeGroupsRequest([group_id, ""], include_authorized_operations=version >= 3), version)


# --- bad input ---


@pytest.mark.parametrize("version", [5, 9])
def test_a_group_id_that_is_too_long_ends_the_connection(both: Pair, version: int) -> None:
    if version >= 6:
        # the codec writes no such string: its length is said by hand, in front of nothing else
        header = struct.pack(">hhih", JoinGroupRequest.API_KEY, version, CORRELATION_ID, -1) + b"\0"
        both.same_frame(header + b"\x81\x80\x02" + b"x" * 40_000)
    both.same(join_request("g" * 32_000, session_timeout_ms=1), version)


def test_a_group_id_of_the_longest_kind_is_served(both: Pair) -> None:
    long = "g" * 32_767
    both.same(commit_request(long, (TOPIC, 0, 7)), 8)
    both.same(fetch_request(long, [0], 8), 8)
    both.same(DeleteGroupsRequest([long]), 2)
