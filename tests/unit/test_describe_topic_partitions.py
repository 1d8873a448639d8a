"""DescribeTopicPartitions: pages, cursors, limits, and what a client may not see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from fastlog.broker.context import Operation
from fastlog.ports import PartitionState
from fastlog.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from fastlog.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    TopicRequest,
)
from tests.support.control_plane import ControlPlane

COUNTS = {"a": 3, "b": 1, "c": 4}


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    return made(tmp_path)


def made(folder: Path, settings: dict[str, str] | None = None) -> ControlPlane:
    """A broker with topics of three, one and four partitions."""
    plane = ControlPlane(folder, settings)
    plane.ask(CreateTopicsRequest(topics=[CreatableTopic(name, count, 1) for name, count in COUNTS.items()]))
    return plane


def ask(
    plane: ControlPlane, *names: str, limit: int = 2000, cursor: tuple[str, int] | None = None
) -> DescribeTopicPartitionsResponse:
    request = DescribeTopicPartitionsRequest(
        topics=[TopicRequest(name) for name in names],
        response_partition_limit=limit,
        cursor=None if cursor is None else Cursor(*cursor),
    )
    answer = plane.ask(request)
    assert isinstance(answer, DescribeTopicPartitionsResponse)
    return answer


def shown(answer: DescribeTopicPartitionsResponse) -> list[tuple[str | None, list[int]]]:
    return [(topic.name, [it.partition_index for it in topic.partitions]) for topic in answer.topics]


def after(answer: DescribeTopicPartitionsResponse) -> tuple[str, int] | None:
    cursor = answer.next_cursor
    return None if cursor is None else (cursor.topic_name, cursor.partition_index)


def test_all_topics_by_name_with_their_ids(plane: ControlPlane) -> None:
    answer = ask(plane)
    assert shown(answer) == [("a", [0, 1, 2]), ("b", [0]), ("c", [0, 1, 2, 3])]
    assert after(answer) is None
    assert [it.topic_id for it in answer.topics] == [plane.topics.named(it).topic_id.bytes for it in "abc"]


def test_named_topics_come_once_and_in_order(plane: ControlPlane) -> None:
    assert shown(ask(plane, "c", "a", "c")) == [("a", [0, 1, 2]), ("c", [0, 1, 2, 3])]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 7, 8, 100])
def test_pages_joined_are_the_whole(plane: ControlPlane, limit: int) -> None:
    found: dict[str, list[int]] = {}
    cursor: tuple[str, int] | None = None
    pages = 0
    while True:
        answer = ask(plane, limit=limit, cursor=cursor)
        told = sum(len(it.partitions) for it in answer.topics)
        assert told == limit or (told < limit and answer.next_cursor is None)
        for name, indexes in shown(answer):
            found.setdefault(str(name), []).extend(indexes)
        pages += 1
        cursor = after(answer)
        if cursor is None:
            break
    assert found == {name: list(range(count)) for name, count in COUNTS.items()}
    assert pages == -(-sum(COUNTS.values()) // limit)


def test_a_cursor_behind_a_full_topic_points_to_the_next_one(plane: ControlPlane) -> None:
    assert after(ask(plane, limit=3)) == ("b", 0)
    assert after(ask(plane, limit=2)) == ("a", 2)
    # even where that one does not exist
    assert after(ask(plane, "a", "aa", limit=3)) == ("aa", 0)


@pytest.mark.parametrize("limit", [0, -1, -(2**31)])
def test_a_limit_below_one_is_one(plane: ControlPlane, limit: int) -> None:
    assert shown(ask(plane, limit=limit)) == [("a", [0])]


def test_the_broker_s_limit_holds_too(tmp_path: Path) -> None:
    plane = made(tmp_path, {"max.request.partition.size.limit": "2"})
    assert shown(ask(plane, limit=100)) == [("a", [0, 1])]


def test_a_cursor_whose_topic_went_meanwhile_goes_on_behind_it(plane: ControlPlane) -> None:
    assert shown(ask(plane, cursor=("aa", 7))) == [("b", [0]), ("c", [0, 1, 2, 3])]


def test_a_cursor_behind_the_last_partition(plane: ControlPlane) -> None:
    assert shown(ask(plane, cursor=("b", 9))) == [("b", []), ("c", [0, 1, 2, 3])]


@pytest.mark.parametrize("cursor", [("a", -1), ("b", 0), ("none", 0)])
def test_a_cursor_that_cannot_be_refuses_all(plane: ControlPlane, cursor: tuple[str, int]) -> None:
    answer = ask(plane, "a", "c", cursor=cursor)
    assert [(it.name, it.error_code, it.partitions) for it in answer.topics] == [
        ("a", 42, []),
        ("c", 42, []),
    ]


def test_topics_that_are_not_there(plane: ControlPlane) -> None:
    answer = ask(plane, "no-such-topic", "../x", "", "a")
    assert [(it.name, it.error_code) for it in answer.topics] == [
        ("", 17),
        ("../x", 17),
        ("a", 0),
        ("no-such-topic", 3),
    ]


class OnlyTopic:
    """An authorizer that shows one topic, and lets it be read."""

    def __init__(self, name: str) -> None:
        self.name = name

    def allows(self, _context: Any, operation: Operation, _kind: Any, name: str) -> bool:
        return name == self.name and operation in (Operation.DESCRIBE, Operation.READ)


def test_what_a_client_may_not_describe(plane: ControlPlane) -> None:
    plane.services.authorizer = OnlyTopic("b")
    answer = ask(plane, "a", "b", "none")
    assert [(it.name, it.error_code, it.topic_id == bytes(16)) for it in answer.topics] == [
        ("b", 0, False),
        ("a", 29, True),
        ("none", 29, True),
    ]
    assert answer.topics[0].topic_authorized_operations == 1 << Operation.DESCRIBE | 1 << Operation.READ
    assert shown(ask(plane)) == [("b", [0])]


class Brokers:
    """Brokers 1 and 2 live, 3 does not."""

    controller_id = 1

    def ids(self) -> Sequence[int]:
        return (1, 2)

    def registration(self, _broker_id: int) -> None:
        return None


def lead(plane: ControlPlane, states: Iterable[PartitionState]) -> None:
    topic = msgspec.structs.replace(plane.topics.named("a"), partitions=tuple(states))
    plane.topics.publish((topic,), ())


def test_leaders_eligible_replicas_and_who_is_offline(plane: ControlPlane) -> None:
    # broker 2 has no listener of this name
    plane.services.brokers = Brokers()
    state = PartitionState(
        replicas=(1, 2, 3), leader=1, leader_epoch=5, isr=(1,), elr=(2,), last_known_elr=(3,)
    )
    others = [msgspec.structs.replace(state, leader=leader) for leader in (2, 3, -1)]
    lead(plane, [state, *others])
    partitions = ask(plane, "a").topics[0].partitions
    assert [(it.error_code, it.leader_id) for it in partitions] == [(0, 1), (72, -1), (5, -1), (5, -1)]
    for it in partitions:
        assert (it.leader_epoch, it.replica_nodes, it.isr_nodes) == (5, [1, 2, 3], [1])
        assert (it.eligible_leader_replicas, it.last_known_elr) == ([2], [3])
        assert it.offline_replicas == [2, 3]


def test_a_topic_that_goes_while_all_are_told_is_left_out(plane: ControlPlane) -> None:
    stale = [SimpleNamespace(name="aa"), *plane.topics.all()]
    plane.services.topics = SimpleNamespace(all=lambda: stale, named=plane.topics.named)
    assert [name for name, _ in shown(ask(plane))] == ["a", "b", "c"]
