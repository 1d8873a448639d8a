"""Which topics the producer's thread asks for: one more of thousands is not to cost an answer about all."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from fastlog.client.backoff import Backoff
from fastlog.client.metadata import BrokerAddress, ClusterImage, PartitionImage, TopicImage
from fastlog.client.producer.background import Background
from fastlog.errors import NotReachableError
from tests.support.broker import wait_until


class Cluster:
    """A Metadata whose every topic has one partition; notes what was asked for."""

    bootstrap_text = "nowhere:9092"

    def __init__(self) -> None:
        self.image = ClusterImage()
        self.asked: list[set[str]] = []
        self.fails = 0

    def refresh(self, topics: Collection[str], *, timeout_ms: float, create: bool) -> ClusterImage:
        self.asked.append(set(topics))
        if self.fails:
            self.fails -= 1
            raise NotReachableError("nobody answers")
        made = {name: TopicImage(name, bytes(16), (PartitionImage(0, 1, 0),)) for name in topics}
        brokers = {1: BrokerAddress(1, "nowhere", 9092)}
        self.image = ClusterImage("c", 1, brokers, self.image.topics.with_topics(made))
        return self.image

    def abort(self) -> None:
        """There is nothing to end."""

    close = abort


class Threads:
    """A Background on a Cluster; notes which topics each image was about."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.told: list[set[str]] = []
        metadata: Any = self.cluster
        self.background = Background(
            metadata,
            backoff=Backoff(1, 1, lambda: 0.5),
            clock_ms=lambda: 0.0,
            on_image=lambda image, topics: self.told.append(set(topics)),
            on_identity=lambda: None,
        )


@pytest.fixture
def running() -> Iterator[Threads]:
    threads = Threads()
    threads.background.start()
    yield threads
    threads.background.close()
    threads.background.join()


def test_a_first_use_asks_for_that_topic_alone(running: Threads) -> None:
    for name in ("a", "b", "c"):
        assert running.background.topic(name, 1000).name == name
    assert running.cluster.asked == [{"a"}, {"b"}, {"c"}]
    assert running.told == running.cluster.asked
    assert sorted(running.background.image.topics) == ["a", "b", "c"]


def test_a_refresh_asks_for_all_that_are_in_use(running: Threads) -> None:
    running.background.topic("a", 1000)
    running.background.topic("b", 1000)
    running.background.request_refresh()
    wait_until("all were asked for", lambda: running.cluster.asked[-1] == {"a", "b"})
    wait_until("and told of", lambda: running.told[-1] == {"a", "b"})


def test_what_nobody_answered_is_asked_for_again(running: Threads) -> None:
    running.background.topic("a", 1000)
    running.cluster.fails = 2
    assert running.background.topic("b", 1000).name == "b"
    assert running.cluster.asked[1] == {"b"}
    assert all("b" in asked for asked in running.cluster.asked[1:])


def test_topics_that_several_threads_wait_for_come_together_or_one_by_one(running: Threads) -> None:
    names = [f"t{number}" for number in range(8)]
    threads = [threading.Thread(target=running.background.topic, args=(name, 1000)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set().union(*running.cluster.asked) == set(names)
    assert sum(len(asked) for asked in running.cluster.asked) <= 2 * len(names)
