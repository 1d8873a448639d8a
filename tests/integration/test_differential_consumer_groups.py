"""fastlog and Apache Kafka asked the same: groups of the consumer protocol (KIP-848)."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastlog.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from fastlog.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest, TopicPartitions
from fastlog.protocol.messages.delete_groups import DeleteGroupsRequest
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
from fastlog.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from fastlog.protocol.messages.sync_group import SyncGroupRequest
from fastlog.state.assignors.consumer_protocol import Subscription, decode_assignment, encode_subscription
from tests.integration.kafka.server import KafkaServer
from tests.support.broker import BrokerProcess
from tests.support.pair import Pair, Side

TOPIC, PARTITIONS = "of-consumers", 4
COORDINATOR_SECONDS = 60.0
UNKNOWN_MEMBER_ID, GROUP_ID_NOT_FOUND, INVALID_REGULAR_EXPRESSION = 25, 69, 128
COORDINATOR_CODES = (14, 15, 16)
pytestmark = pytest.mark.timeout(300)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    # a target is made with each change, as fastlog does
    at_once = {
        "group.consumer.min.assignment.interval.ms": "0",
        "group.consumer.assignment.interval.ms": "0",
        "group.consumer.assignor.offload.enable": "false",
        "group.consumer.migration.policy": "bidirectional",
    }
    kafka = KafkaServer(tmp_path_factory.mktemp("kafka"), at_once)
    ours = BrokerProcess(tmp_path_factory.mktemp("consumers") / "data").start()
    made = Pair(int(kafka.bootstrap.rsplit(":", 1)[1]), ours.tcp_port)
    made.topic(TOPIC, PARTITIONS)
    for side in made.sides:
        deadline = time.monotonic() + COORDINATOR_SECONDS
        while side.ask(request("nobody", "m", member_epoch=1), 1).error_code in COORDINATOR_CODES:
            side.ask(FindCoordinatorRequest(coordinator_keys=["nobody"]), 4)
            assert time.monotonic() < deadline, side.name
            time.sleep(0.05)
        side.notes["topic"] = made.topic_id(side, TOPIC)
    yield made
    made.close()
    kafka.stop()
    assert ours.stop() == 0, ours.log()


@pytest.fixture
def group_id() -> str:
    return f"consumers-{next(_numbers)}"


def request(group_id: str, member_id: str, **fields: Any) -> ConsumerGroupHeartbeatRequest:
    return ConsumerGroupHeartbeatRequest(group_id=group_id, member_id=member_id, **fields)


def joining(group_id: str, member_id: str, **fields: Any) -> ConsumerGroupHeartbeatRequest:
    wanted = {
        "rebalance_timeout_ms": 10_000,
        "subscribed_topic_names": [TOPIC],
        "topic_partitions": [],
        **fields,
    }
    return request(group_id, member_id, **wanted)


def counts(answers: list[Any]) -> list[int]:
    """How many partitions each side has told its member; -1 where it told nothing."""
    return [
        -1
        if it.assignment is None
        else sum(len(topic.partitions) for topic in it.assignment.topic_partitions)
        for it in answers
    ]


class Client:
    """One member of each side; what it is given and lets go of may be other partitions on each."""

    def __init__(self, both: Pair, group_id: str, member_id: str, instance_id: str | None = None) -> None:
        self.both = both
        self.group_id = group_id
        self.member_id = member_id
        self.instance_id = instance_id
        self.epoch = {side.name: 0 for side in both.sides}
        self.owned: dict[str, list[int]] = {side.name: [] for side in both.sides}

    def join(self, **fields: Any) -> list[Any]:
        """The first heartbeat on both sides."""
        made = joining(self.group_id, self.member_id, instance_id=self.instance_id, **fields)
        return self._take(self.both.both(made, 1))

    def beat(self) -> list[Any]:
        """Says what it has."""

        def make(side: Side) -> ConsumerGroupHeartbeatRequest:
            owned = [TopicPartitions(side.notes["topic"], self.owned[side.name])]
            return request(
                self.group_id,
                self.member_id,
                member_epoch=self.epoch[side.name],
                instance_id=self.instance_id,
                topic_partitions=owned if self.owned[side.name] else [],
            )

        return self._take(self.both.both(make, 1))

    def _take(self, answers: list[Any]) -> list[Any]:
        assert answers[0].error_code == answers[1].error_code, answers
        for side, answer in zip(self.both.sides, answers, strict=True):
            if answer.error_code:
                continue
            self.epoch[side.name] = answer.member_epoch
            if answer.assignment is not None:
                self.owned[side.name] = [
                    number for topic in answer.assignment.topic_partitions for number in topic.partitions
                ]
        return answers


def settle(*clients: Client) -> None:
    for _ in range(6):
        for client in clients:
            client.beat()


def test_a_member_joins_heartbeats_and_leaves(both: Pair, group_id: str) -> None:
    answers = both.both(joining(group_id, "m"), 1)
    assert counts(answers) == [PARTITIONS] * 2
    assert [it.member_id for it in answers] == ["m", "m"]
    assert answers[0].heartbeat_interval_ms == answers[1].heartbeat_interval_ms
    assert answers[0].member_epoch == answers[1].member_epoch
    epoch = answers[0].member_epoch
    both.same(request(group_id, "m", member_epoch=epoch), 1)
    both.same(request(group_id, "m", member_epoch=-1), 1)
    both.same(request(group_id, "m", member_epoch=epoch), 1)


def test_version_0_is_answered_alike(both: Pair, group_id: str) -> None:
    answers = both.both(joining(group_id, ""), 0)
    assert counts(answers) == [PARTITIONS] * 2
    ids = {side.name: it.member_id for side, it in zip(both.sides, answers, strict=True)}
    assert all(ids.values()), "the coordinator makes the ids"
    epoch = answers[0].member_epoch
    assert answers[1].member_epoch == epoch

    def beats(at: int) -> Callable[[Side], ConsumerGroupHeartbeatRequest]:
        return lambda side: request(group_id, ids[side.name], member_epoch=at)

    both.same(beats(epoch), 0)
    both.same(beats(epoch + 1), 0)
    both.same(joining(group_id, "m", subscribed_topic_names=None), 0)
    both.same(joining(group_id, "m", server_assignor="sticky"), 0)
    both.same(request(group_id, "", member_epoch=epoch), 0)
    both.same(ConsumerGroupDescribeRequest([group_id, "nobody-at-all", ""]), 0)
    both.same(beats(-1), 0)
    both.same(ConsumerGroupDescribeRequest([group_id]), 0)
    # a member that has an id may bring it
    assert counts(both.both(joining(f"{group_id}-own", "m"), 0)) == [PARTITIONS] * 2
    both.same(ConsumerGroupDescribeRequest([f"{group_id}-own"]), 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"instance_id": ""},
        {"rack_id": ""},
        {"member_id": ""},
        {"group_id": ""},
        {"member_epoch": -3},
        {"member_epoch": -2},
        {"member_epoch": -1},
        {"member_epoch": 1},
        {"rebalance_timeout_ms": -1},
        {"topic_partitions": None},
        {"subscribed_topic_names": None},
        {"server_assignor": "sticky"},
        {"subscribed_topic_regex": "["},
        {"subscribed_topic_regex": "(?=x)"},
        {"subscribed_topic_regex": "(a)\\1"},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_alike(both: Pair, group_id: str, fields: dict[str, Any]) -> None:
    wanted: dict[str, Any] = {"group_id": group_id, "member_id": "m", **fields}
    answers = both.same(joining(wanted.pop("group_id"), wanted.pop("member_id"), **wanted), 1)
    assert answers[0].error_code != 0


@pytest.mark.parametrize("regex", ["[", "(?=x)", "(a)\\1", "*", "a{1001}", "(?P<n>a"])
def test_a_member_keeps_its_subscription_when_a_new_one_is_no_regex(
    both: Pair, group_id: str, regex: str
) -> None:
    epoch = both.both(joining(group_id, "m"), 1)[0].member_epoch
    before = both.same(ConsumerGroupDescribeRequest([group_id]), 1)
    answers = both.same(request(group_id, "m", member_epoch=epoch, subscribed_topic_regex=regex), 1)
    assert answers[1].error_code == INVALID_REGULAR_EXPRESSION
    assert both.same(ConsumerGroupDescribeRequest([group_id]), 1) == before
    both.same(request(group_id, "m", member_epoch=epoch), 1)
    # and no group is made for one
    both.same(joining(f"{group_id}-new", "m", subscribed_topic_regex=regex), 1)
    both.same(ConsumerGroupDescribeRequest([f"{group_id}-new"]), 1)


@pytest.mark.parametrize("change", [-1, 1, 5])
def test_other_epochs_are_fenced_alike(both: Pair, group_id: str, change: int) -> None:
    (kafka, _) = both.both(joining(group_id, "m"), 1)
    both.both(joining(group_id, "n"), 1)
    both.same(request(group_id, "m", member_epoch=kafka.member_epoch + change), 1)


def test_a_member_may_send_its_first_heartbeat_again(both: Pair, group_id: str) -> None:
    for _ in range(2):
        answers = both.both(joining(group_id, "m"), 1)
        assert counts(answers) == [PARTITIONS] * 2
    assert answers[0].member_epoch == answers[1].member_epoch


def test_a_member_that_was_fenced_joins_again_alike(both: Pair, group_id: str) -> None:
    a, b, c = (Client(both, group_id, name) for name in "abc")
    for member in (a, b, c):
        member.join()
    settle(a, b, c)
    # by now its epoch is neither 0 nor the one after it
    a.owned = {side.name: [] for side in both.sides}
    answers = a.join()
    assert answers[0].error_code == 0
    assert answers[0].member_epoch == answers[1].member_epoch
    settle(a, b, c)
    for side in both.sides:
        owned = sorted(number for it in (a, b, c) for number in it.owned[side.name])
        assert owned == list(range(PARTITIONS)), side.name


def test_a_static_member_that_was_fenced_joins_again(both: Pair, group_id: str) -> None:
    a, b, c = (Client(both, group_id, name, instance_id=f"{name}-1") for name in "abc")
    for member in (a, b, c):
        member.join()
    settle(a, b, c)
    both.same(joining(group_id, "a", instance_id="a-1"), 1, but="consumer groups/static member joins again")
    # with another id it has to leave first
    both.same(joining(group_id, "d", instance_id="a-1"), 1)


def test_partitions_move_alike(both: Pair, group_id: str) -> None:
    a, b, c = (Client(both, group_id, name) for name in "abc")
    a.join()
    assert counts(b.join()) == [0, 0]
    answers = a.beat()
    assert counts(answers) == [2, 2], "what it is not to have any more is asked back"
    a.beat()
    assert counts(b.beat()) == [2, 2]
    settle(a, b)
    c.join()
    settle(a, b, c)
    for side in both.sides:
        sizes = sorted(len(it.owned[side.name]) for it in (a, b, c))
        assert sizes == [1, 1, 2], side.name
    assert a.epoch[both.kafka.name] == a.epoch[both.fastlog.name]
    described = both.both(ConsumerGroupDescribeRequest([group_id]), 1)
    rows = [
        (
            it.error_code,
            it.group_state,
            it.group_epoch,
            it.assignment_epoch,
            it.assignor_name,
            len(it.members),
        )
        for answer in described
        for it in answer.groups
    ]
    assert rows[0] == rows[1]


def test_static_members_leave_and_come_back_alike(both: Pair, group_id: str) -> None:
    a, b = Client(both, group_id, "a", "one"), Client(both, group_id, "b", "one")
    a.join()
    assert b.join()[0].error_code == 111
    both.same(request(group_id, "a", member_epoch=-2, instance_id="one"), 1)
    answers = b.join()
    assert (answers[0].error_code, counts(answers)) == (0, [PARTITIONS] * 2)
    assert answers[0].member_epoch == answers[1].member_epoch
    assert a.beat()[0].error_code == 82
    both.same(request(group_id, "b", member_epoch=-1, instance_id="one"), 1)
    assert b.beat()[0].error_code == UNKNOWN_MEMBER_ID


@pytest.mark.parametrize("leaves", [True, False])
def test_a_classic_member_takes_the_place_of_the_last_other_one_alike(
    both: Pair, group_id: str, leaves: bool
) -> None:
    a = Client(both, group_id, "a", "one")
    a.join()
    if leaves:
        both.same(request(group_id, "a", member_epoch=-2, instance_id="one"), 1)
    subscription = encode_subscription(Subscription(topics=(TOPIC,)))
    joins = JoinGroupRequest(
        group_id=group_id,
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
        group_instance_id="one",
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol("range", subscription)],
    )
    answers = both.same(joins, 9)
    joined = {side.name: answer for side, answer in zip(both.sides, answers, strict=True)}
    assert {it.generation_id for it in answers} == set(a.epoch.values())

    def syncs(side: Side) -> SyncGroupRequest:
        it = joined[side.name]
        return SyncGroupRequest(group_id, it.generation_id, it.member_id, "one", "consumer", "range")

    def beats(side: Side) -> HeartbeatRequest:
        it = joined[side.name]
        return HeartbeatRequest(group_id, it.generation_id, it.member_id, "one")

    for answer in both.same(syncs, 5):
        assert decode_assignment(answer.assignment) == [(TOPIC, number) for number in range(PARTITIONS)]
    assert both.same(beats, 4)[0].error_code == 0
    assert a.beat()[0].error_code == GROUP_ID_NOT_FOUND
    for answer in both.both(ListGroupsRequest(types_filter=["classic"]), 5):
        assert [it.group_state for it in answer.groups if it.group_id == group_id] == ["Stable"]
    both.same(DescribeGroupsRequest([group_id]), 6)


def commit(group_id: str, member_id: str, epoch: int, version: int, side: Side) -> OffsetCommitRequest:
    partitions = [OffsetCommitRequestPartition(0, 5)]
    topic = OffsetCommitRequestTopic(TOPIC, side.notes["topic"], partitions)
    return OffsetCommitRequest(
        group_id=group_id, member_id=member_id, generation_id_or_member_epoch=epoch, topics=[topic]
    )


@pytest.mark.parametrize("version", [8, 9, 10])
def test_offsets_are_committed_and_found_alike(both: Pair, group_id: str, version: int) -> None:
    epoch = both.both(joining(group_id, "m"), 1)[0].member_epoch
    for member_id, known in (("m", epoch), ("m", epoch + 1), ("m", epoch - 1), ("x", epoch), ("", -1)):
        both.same(lambda side, who=member_id, at=known: commit(group_id, who, at, version, side), version)

    def fetch(side: Side, who: str | None, at: int) -> OffsetFetchRequest:
        topics = [OffsetFetchRequestTopics(TOPIC, side.notes["topic"], [0, 1])]
        return OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id, who, at, topics)])

    for member_id, known in ((None, -1), ("m", epoch), ("m", epoch + 1), ("x", epoch)):
        both.same(lambda side, who=member_id, at=known: fetch(side, who, at), version)


def test_other_questions_about_such_a_group_are_answered_alike(both: Pair, group_id: str) -> None:
    both.both(joining(group_id, "m"), 1)
    for version in (5, 6):
        both.same(DescribeGroupsRequest([group_id]), version)
    both.same(ConsumerGroupDescribeRequest([group_id, "nobody-at-all"]), 1)
    both.same(DeleteGroupsRequest([group_id]), 2)
    for answer in both.both(ListGroupsRequest(types_filter=["consumer"], states_filter=["stable"]), 5):
        found = [it for it in answer.groups if it.group_id == group_id]
        assert [(it.protocol_type, it.group_state, it.group_type) for it in found] == [
            ("consumer", "Stable", "consumer")
        ]
    both.same(request(group_id, "m", member_epoch=-1), 1)
    both.same(ConsumerGroupDescribeRequest([group_id]), 1)
    both.same(DeleteGroupsRequest([group_id]), 2)
    both.same(ConsumerGroupDescribeRequest([group_id]), 1)
