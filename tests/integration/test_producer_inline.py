"""Records that leave on the thread which calls `send`: `linger_ms=0`, and nothing under way."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fastlog import Producer
from fastlog.client.producer import requests
from fastlog.client.producer.batch import Batch
from fastlog.errors import UnsupportedVersionError
from fastlog.native._sending import Delivery
from fastlog.transport.tcp import TcpChannel
from tests.support.fake_broker import FakeCluster, MakeCluster


@pytest.fixture
def cluster(make_cluster: MakeCluster) -> FakeCluster:
    return make_cluster(partitions=1)


@pytest.fixture
def producer(cluster: FakeCluster) -> Iterator[Producer]:
    """One that is connected and has nothing under way."""
    with Producer(cluster.brokers[0].bootstrap, linger_ms=0, retry_backoff_ms=5) as made:
        made.send("t", b"first").result(10)
        fall_asleep(made)
        yield made


def fall_asleep(producer: Producer) -> None:
    """Waits until the sending thread sleeps, and will look after deadlines by itself."""
    deadline = time.monotonic() + 10
    while not producer._accumulator.is_asleep(time.monotonic() * 1000 + 100):
        assert time.monotonic() < deadline
        # the first record made it sleep for ever; one that is sent inline makes it look again
        producer.send("t", b"again").result(10)


def test_a_lone_record_leaves_on_the_caller_s_thread(
    producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    send = TcpChannel.send

    def noted(channel: TcpChannel, message: bytes) -> None:
        threads.append(threading.current_thread().name)
        send(channel, message)

    monkeypatch.setattr(TcpChannel, "send", noted)
    delivery = producer.send("t", b"value")
    assert threads == [threading.current_thread().name]
    assert delivery.result(10).offset >= 1


def test_what_follows_an_unanswered_record_is_in_order_behind_it(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    with Producer(cluster.brokers[0].bootstrap, linger_ms=0) as producer:
        producer.send("t", b"first").result(10)
        values = [b"%d" % number for number in range(500)]
        for value in values:
            producer.send("t", value)
        producer.flush(10)
    assert cluster.values("t") == [b"first", *values]


def test_a_callback_may_send(producer: Producer, cluster: FakeCluster) -> None:
    answered = threading.Event()

    def send_more(_: Delivery) -> None:
        producer.send("t", b"from a callback").add_done_callback(lambda _: answered.set())

    producer.send("t", b"value").add_done_callback(send_more)
    assert answered.wait(10)
    assert cluster.values("t")[-1] == b"from a callback"


def test_what_cannot_be_sent_fails_on_the_sender_s_thread(
    producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UnsupportedVersionError("no version of Produce")

    threads: list[str] = []
    fail = Batch.fail

    def noted(*arguments: Any) -> None:
        threads.append(threading.current_thread().name)
        fail(*arguments)

    monkeypatch.setattr("fastlog.client.link.common_version", refuse)
    monkeypatch.setattr(Batch, "fail", noted)
    delivery = producer.send("t", b"value")
    with pytest.raises(UnsupportedVersionError):
        delivery.result(10)
    assert threads == ["fastlog-producer"]


@pytest.mark.parametrize("place", ["seal", "send"])
def test_a_signal_in_the_middle_loses_nothing(
    producer: Producer, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    send, seal = TcpChannel.send, requests.seal
    if place == "send":
        monkeypatch.setattr(TcpChannel, "send", lambda *args: (interrupt(), send(*args))[1])
    else:
        monkeypatch.setattr(requests, "seal", lambda *args: (interrupt(), seal(*args))[1])
    before = cluster.values("t")
    with pytest.raises(KeyboardInterrupt):
        producer.send("t", b"interrupted")
    producer.send("t", b"after").result(10)
    assert cluster.values("t") == [*before, b"interrupted", b"after"]


def test_a_connection_that_was_lost_meanwhile_is_made_again(producer: Producer, cluster: FakeCluster) -> None:
    broker = cluster.brokers[0]
    for _ in range(20):
        for connection in list(broker.connections):
            broker._drop(connection)
        producer.send("t", b"value").result(10)
    assert cluster.values("t").count(b"value") == 20


def test_a_silent_broker_is_asked_again_although_nothing_was_sent_for_long(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(fault=lambda number: "silence" if number == 1 else None)
    bootstrap = cluster.brokers[0].bootstrap
    with Producer(bootstrap, linger_ms=0, request_timeout_ms=50, retry_backoff_ms=5) as producer:
        producer.send("t", b"first").result(10)
        deadline = time.monotonic() + 10
        while producer._accumulator.is_asleep(deadline * 1000) or not producer._accumulator.is_asleep(
            math.inf
        ):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        producer.send("t", b"second").result(10)
    assert cluster.values("t") == [b"first", b"second"]
