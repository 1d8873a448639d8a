"""fastlog and Apache Kafka asked the same: DescribeTopicPartitions."""

from __future__ import annotations

import time

import pytest

from fastlog.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    TopicRequest,
)
from tests.support.pair import Pair

BAD_NAMES = ["../x", ".", "..", "a b", "x" * 250, "ü"]


@pytest.fixture(scope="module")
def topics(pair: Pair) -> list[str]:
    """Three topics of three, one and two partitions, in the order of their names."""
    stem = f"differential-describe-{time.time_ns()}"
    return [pair.topic(f"{stem}-{name}", count) for name, count in (("a", 3), ("b", 1), ("c", 2))]


def describe(
    *names: str, limit: int = 2000, cursor: tuple[str, int] | None = None
) -> DescribeTopicPartitionsRequest:
    return DescribeTopicPartitionsRequest(
        [TopicRequest(name) for name in names], limit, None if cursor is None else Cursor(*cursor)
    )


def test_partitions_leaders_replicas_and_operations(pair: Pair, topics: list[str]) -> None:
    pair.same(describe(*topics), 0)
    pair.same(describe(*reversed(topics), topics[0]), 0)


@pytest.mark.parametrize("limit", [-1, 0, 1, 2, 3, 4, 5, 6, 7])
def test_pages(pair: Pair, topics: list[str], limit: int) -> None:
    cursor: tuple[str, int] | None = None
    for _ in range(7):
        answers = pair.same(describe(*topics, limit=limit, cursor=cursor), 0)
        following = answers[0].next_cursor
        if following is None:
            break
        cursor = (following.topic_name, following.partition_index)
    else:
        pytest.fail("the pages do not end")


@pytest.mark.parametrize("index", [0, 2, 3, 100, -1])
def test_cursors(pair: Pair, topics: list[str], index: int) -> None:
    pair.same(describe(*topics, cursor=(topics[0], index)), 0)
    pair.same(describe(*topics, limit=1, cursor=(topics[2], index)), 0)


def test_a_cursor_at_the_largest_number(pair: Pair, topics: list[str]) -> None:
    wanted = describe(*topics, cursor=(topics[0], 2**31 - 1))
    pair.same(wanted, 0, but="describe topics/cursor at the largest number")


def test_an_empty_name(pair: Pair) -> None:
    pair.same(describe(""), 0, but="describe topics/empty name")


def test_a_cursor_that_is_not_among_the_topics(pair: Pair, topics: list[str]) -> None:
    pair.same(describe(*topics, cursor=("no-such-topic", 0)), 0)
    pair.same(describe(*topics[1:], cursor=(topics[0], 0)), 0)
    pair.same(describe("no-such-topic", topics[0], cursor=("no-such-topic", 0)), 0)


def test_a_cursor_into_all_topics(pair: Pair, topics: list[str]) -> None:
    for start in (0, 2, 9):
        answers = pair.both(describe(limit=2, cursor=(topics[0], start)), 0)
        told = [
            [(topic.name, [it.partition_index for it in topic.partitions]) for topic in answer.topics]
            for answer in answers
        ]
        assert told[0] == told[1]
        assert answers[0].next_cursor == answers[1].next_cursor
    pair.same(describe(cursor=("zzz", -5)), 0)


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_topics_that_are_not_there(pair: Pair, topics: list[str], name: str) -> None:
    pair.same(describe(name), 0)
    pair.same(describe("no-such-topic", name, topics[0]), 0)
    pair.same(describe(topics[0], name, limit=3), 0)
