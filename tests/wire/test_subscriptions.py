"""Subscriptions of a consumer without a group: by pattern, given up, and changed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastlog.client.consumer import Consumer
from fastlog.errors import ConfigError
from fastlog.native._records import Record
from tests.support.broker import wait_until
from tests.support.fake_cluster import FakeCluster

MakeConsumer = Callable[..., Consumer]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as running:
        yield running


@pytest.fixture
def make_consumer(cluster: FakeCluster) -> Iterator[MakeConsumer]:
    made = []

    def make(**options: Any) -> Consumer:
        settings = {"fetch_max_wait_ms": 50, "retry_backoff_ms": 10, "metadata_max_age_ms": 50, **options}
        made.append(Consumer(cluster.bootstrap, **settings))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()


def read(consumer: Consumer, count: int) -> list[Record]:
    """`count` records; fewer fail the test."""
    records: list[Record] = []
    deadline = time.monotonic() + 10
    while len(records) < count and time.monotonic() < deadline:
        records += consumer.poll(count - len(records), timeout=0.2)
    assert len(records) == count
    return records


def test_a_pattern_reads_what_matches_as_a_whole(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    for name in ("orders-eu", "orders-us", "my-orders-eu", "orders-eu-old"):
        cluster.create(name)[0].append(name.encode())
    consumer = make_consumer(topics=re.compile("orders-[a-z]{2}"), auto_offset_reset="earliest")
    assert consumer.positions() == {("orders-eu", 0): 0, ("orders-us", 0): 0}
    assert sorted(record.topic for record in read(consumer, 2)) == ["orders-eu", "orders-us"]


def test_a_topic_that_matches_later_is_read_from_its_start(
    cluster: FakeCluster, make_consumer: MakeConsumer
) -> None:
    cluster.create("t1")[0].append(b"before")
    consumer = make_consumer(topics=re.compile("t[0-9]"), auto_offset_reset="latest")
    assert consumer.positions() == {("t1", 0): 1}
    cluster.create("t2")[0].append(b"new")
    cluster.create("u3")[0].append(b"other")
    assert [(record.topic, record.value) for record in read(consumer, 1)] == [("t2", b"new")]
    del cluster.topics["t1"]
    wait_until("the topic that is gone is dropped", lambda: consumer.assignment() == {("t2", 0)})


def test_a_pattern_that_matches_nothing_yet_waits(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    consumer = make_consumer(topics=re.compile("t.*"), auto_offset_reset="latest")
    assert consumer.poll(timeout=0.2) == []
    cluster.create("t1")[0].append(b"new")
    assert read(consumer, 1)[0].value == b"new"


def test_a_subscription_is_changed_and_given_up(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    for name in ("a", "b", "c"):
        cluster.create(name)[0].append(name.encode())
    consumer = make_consumer(topics=re.compile("[ab]"), auto_offset_reset="earliest")
    assert {record.topic for record in read(consumer, 2)} == {"a", "b"}
    consumer.subscribe("c")
    assert read(consumer, 1)[0].topic == "c"
    assert consumer.assignment() == {("c", 0)}
    consumer.unsubscribe()
    assert consumer.assignment() == set()
    assert consumer.poll(timeout=0.1) == []
    consumer.assign([("a", 0)])
    assert read(consumer, 1)[0].topic == "a"


def test_an_assigned_partition_of_a_topic_that_is_known_needs_no_wait(
    cluster: FakeCluster, make_consumer: MakeConsumer
) -> None:
    first, second = cluster.create("t", 2)
    first.append(b"0")
    second.append(b"1")
    consumer = make_consumer(auto_offset_reset="earliest", metadata_max_age_ms=60_000)
    for number in (0, 1, 0):
        consumer.assign([("t", number)])
        start = time.monotonic()
        assert read(consumer, 1)[0].partition == number
        assert time.monotonic() - start < 5


def test_bytes_are_no_pattern() -> None:
    with pytest.raises(ConfigError, match="pattern as text"):
        Consumer(topics=re.compile(b"t"))  # type: ignore[arg-type]


def test_lag_is_what_the_broker_last_told(cluster: FakeCluster, make_consumer: MakeConsumer) -> None:
    (partition,) = cluster.create("t")
    partition.append(*[b"x"] * 10)
    consumer = make_consumer(topics="t", auto_offset_reset="earliest")
    assert set(consumer.lag().values()) <= {None}
    read(consumer, 4)
    assert consumer.lag() == {("t", 0): 6}
    read(consumer, 6)
    assert consumer.lag() == {("t", 0): 0}
