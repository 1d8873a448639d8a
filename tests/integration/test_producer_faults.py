"""The whole producer against a broker double that loses requests and answers, moves leaders and refuses batches."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from fastlog import Producer
from fastlog.client.producer import sender
from fastlog.errors import (
    BufferFullError,
    ClosedError,
    DeliveryTimeoutError,
    InvalidRecordError,
    MessageTooLargeError,
    NotReachableError,
    UnknownTopicOrPartitionError,
)
from tests.support.broker import wait_until
from tests.support.fake_broker import FakeBroker, FakeCluster, Fault, MakeCluster

# lingers a little, since it would not take ZeroMQ otherwise
QUICK: dict[str, Any] = {"linger_ms": 0.1, "retry_backoff_ms": 5, "retry_backoff_max_ms": 20}


def producer_for(cluster: FakeCluster, **settings: Any) -> Producer:
    return Producer([broker.bootstrap for broker in cluster.brokers], **{**QUICK, **settings})


@pytest.mark.parametrize("zmq", [False, True], ids=["tcp", "zmq"])
def test_records_arrive_over_the_transport_that_metadata_names(make_cluster: MakeCluster, zmq: bool) -> None:
    cluster = make_cluster(zmq=zmq)
    with producer_for(cluster) as producer:
        metadata = producer.send("t", b"value", key=b"key", timestamp_ms=77).result(10)
        large = producer.send("t", b"x" * 300_000).result(10)
    assert (metadata.topic, metadata.partition, metadata.offset, metadata.timestamp_ms) == ("t", 0, 0, 77)
    assert large.offset == 1
    assert cluster.values("t") == [b"value", b"x" * 300_000]
    assert set(cluster.brokers[0].produced_over) == {"zmq" if zmq else "tcp"}


@pytest.mark.parametrize(
    ("zmq", "linger_ms"), [(False, 0.1), (True, 0.1), (False, 0)], ids=["tcp", "zmq", "inline"]
)
@pytest.mark.parametrize("kind", ["drop before", "drop after"])
def test_a_lost_connection_neither_loses_nor_doubles_records(
    make_cluster: MakeCluster, zmq: bool, linger_ms: float, kind: str
) -> None:
    cluster = make_cluster(zmq=zmq, fault=lambda number: kind if number % 7 == 3 else None)
    with producer_for(cluster, batch_bytes=1024, linger_ms=linger_ms) as producer:
        deliveries = []
        for number in range(300):
            deliveries.append(producer.send("t", b"%06d" % number * 20))
            if number % 10 == 0:
                time.sleep(0.001)
        offsets = [delivery.result(30).offset for delivery in deliveries]
    assert cluster.values("t") == [b"%06d" % number * 20 for number in range(300)]
    assert offsets == list(range(300))


def test_an_unanswered_request_is_sent_again_on_a_new_connection(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(zmq=True, fault=lambda number: "silence" if number == 1 else None)
    with producer_for(cluster, request_timeout_ms=300) as producer:
        offsets = [producer.send("t", b"%d" % number).result(10).offset for number in range(4)]
    assert offsets == [0, 1, 2, 3]
    assert cluster.values("t") == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("code", [2, 3, 5, 6, 7, 19, 20, 56, 74, 75])
def test_retriable_errors_are_retried_in_order(make_cluster: MakeCluster, code: int) -> None:
    cluster = make_cluster(fault=lambda number: code if number % 3 == 1 else None)
    with producer_for(cluster, batch_bytes=1024) as producer:
        deliveries = [producer.send("t", b"%03d" % number * 100) for number in range(100)]
        assert [delivery.result(20).offset for delivery in deliveries] == list(range(100))
    assert cluster.values("t") == [b"%03d" % number * 100 for number in range(100)]


@pytest.mark.parametrize("linger_ms", [1, 0])
def test_random_faults_under_load_keep_every_record_once_and_in_order(
    make_cluster: MakeCluster, linger_ms: float
) -> None:
    dice = random.Random(7)

    def fault(number: int) -> Fault:
        return dice.choice([None] * 12 + ["drop before", "drop after", 6, 19, 7, 2])

    cluster = make_cluster(partitions=4, zmq=True, fault=fault)
    with producer_for(cluster, batch_bytes=2048, linger_ms=linger_ms) as producer:
        deliveries = [
            producer.send("t", b"%d %06d %s" % (number % 4, number, b"x" * 50), partition=number % 4)
            for number in range(4000)
        ]
        for delivery in deliveries:
            delivery.result(60)
    for partition in range(4):
        written = cluster.values("t", partition)
        assert written == [
            b"%d %06d %s" % (partition, number, b"x" * 50) for number in range(partition, 4000, 4)
        ]


def test_a_moved_leader_is_followed(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(brokers=2)
    with producer_for(cluster) as producer:
        first = producer.send("t", b"a").result(10)
        with cluster.lock:
            cluster.leaders["t", 0] = 2
        second = producer.send("t", b"b").result(10)
    assert (first.offset, second.offset) == (0, 1)
    assert cluster.brokers[1].produce_requests == 1


@pytest.mark.parametrize("linger_ms", [0.1, 0])
def test_a_partition_without_a_leader_is_told_as_that(make_cluster: MakeCluster, linger_ms: float) -> None:
    cluster = make_cluster()
    cluster.leaders["t", 0] = -1
    with producer_for(
        cluster, linger_ms=linger_ms, request_timeout_ms=400, delivery_timeout_ms=500
    ) as producer:
        delivery = producer.send("t", b"a")
        with pytest.raises(DeliveryTimeoutError, match="no broker leads the partition now"):
            delivery.result(30)


@pytest.mark.parametrize(
    ("zmq", "linger_ms"), [(False, 0.1), (True, 0.1), (False, 0)], ids=["tcp", "zmq", "inline"]
)
def test_a_leader_that_is_named_is_gone_to_without_metadata(
    make_cluster: MakeCluster, zmq: bool, linger_ms: float
) -> None:
    cluster = make_cluster(brokers=2, partitions=3, zmq=zmq)
    cluster.produce_versions = (3, 12)
    # one that waits before it tries again would wait for longer than the test
    slow = {"retry_backoff_ms": 60_000, "retry_backoff_max_ms": 60_000}
    with producer_for(cluster, linger_ms=linger_ms, **slow) as producer:
        for partition in range(3):
            producer.send("t", b"a", partition=partition).result(10)
        cluster.tells_metadata.clear()
        for leader in (2, 1, 2):
            for partition in range(3):
                cluster.move("t", partition, leader)
            deliveries = [producer.send("t", b"b", partition=partition) for partition in range(3)]
            for delivery in deliveries:
                delivery.result(10)
    for partition in range(3):
        assert cluster.values("t", partition) == [b"a", b"b", b"b", b"b"]


@pytest.mark.parametrize("linger_ms", [0.1, 0], ids=["sender", "inline"])
def test_a_leader_that_is_new_in_the_cluster_is_gone_to_by_its_address(
    make_cluster: MakeCluster, linger_ms: float
) -> None:
    cluster = make_cluster()
    cluster.produce_versions = (3, 12)
    with producer_for(cluster, linger_ms=linger_ms) as producer:
        producer.send("t", b"a").result(10)
        cluster.tells_metadata.clear()
        FakeBroker(cluster)
        cluster.move("t", 0, 2)
        assert producer.send("t", b"b").result(10).offset == 1
    assert cluster.brokers[1].produce_requests == 1


def test_a_leader_that_is_named_by_a_broker_that_lags_behind_is_not_gone_to(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(brokers=2)
    cluster.produce_versions = (3, 12)
    with producer_for(cluster) as producer:
        producer.send("t", b"a").result(10)
        # it says so of the epoch that is known already
        with cluster.lock:
            cluster.leaders["t", 0] = 2
        delivery = producer.send("t", b"b")
        assert delivery.result(10).offset == 1
    assert cluster.values("t") == [b"a", b"b"]


@pytest.mark.parametrize("highest", [9, 10, 11, 12, 13])
def test_every_version_of_produce_is_spoken(make_cluster: MakeCluster, highest: int) -> None:
    cluster = make_cluster(brokers=2)
    cluster.produce_versions = (3, highest)
    with producer_for(cluster) as producer:
        producer.send("t", b"a").result(10)
        cluster.move("t", 0, 2)
        assert producer.send("t", b"b").result(10).offset == 1
    assert cluster.values("t") == [b"a", b"b"]


@pytest.mark.parametrize("linger_ms", [0.1, 0], ids=["sender", "inline"])
def test_what_a_silent_leader_does_not_answer_is_sent_to_the_next_one(
    make_cluster: MakeCluster, linger_ms: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "SILENCE_MS", 50.0)
    monkeypatch.setattr(sender, "SILENCE_INTERVAL_MS", 50.0)
    cluster = make_cluster(brokers=2, fault=lambda number: "silence" if number >= 1 else None)
    cluster.brokers[1].fault = lambda number: None
    with producer_for(cluster, linger_ms=linger_ms, batch_bytes=1024) as producer:
        producer.send("t", b"first").result(10)
        waiting = [producer.send("t", b"%03d" % number * 100) for number in range(20)]
        # the leader that does not answer leads on: it may be waiting for its replicas
        assert waiting_requests(cluster) >= 1
        assert not waiting[0].done()
        with cluster.lock:
            cluster.leaders["t", 0] = 2
        # long before request_timeout_ms, 30 s
        assert [delivery.result(10).offset for delivery in waiting] == list(range(1, 21))
    assert cluster.values("t") == [b"first", *(b"%03d" % number * 100 for number in range(20))]


def waiting_requests(cluster: FakeCluster) -> int:
    """Waits until the first broker keeps a request unanswered; how many."""
    wait_until("a request is unanswered", lambda: cluster.brokers[0].produce_requests >= 2)
    return cluster.brokers[0].produce_requests - 1


def test_a_batch_that_is_too_large_is_halved(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.max_batch_bytes = 3_000
    with producer_for(cluster, linger_ms=50) as producer:
        deliveries = [producer.send("t", b"%04d" % number * 25) for number in range(100)]
        called: list[int] = []
        deliveries[70].add_done_callback(lambda delivery: called.append(delivery.result().offset))
        assert [delivery.result(10).offset for delivery in deliveries] == list(range(100))
    assert cluster.values("t") == [b"%04d" % number * 25 for number in range(100)]
    assert called == [70]


def test_batches_become_as_small_as_the_broker_takes_them(
    make_cluster: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = make_cluster()
    cluster.max_batch_bytes = 3_000
    values = [b"%04d" % number * 25 for number in range(100)]
    with producer_for(cluster, batch_bytes=10_000) as producer:
        for _ in range(5):
            producer.send_many("t", values)
            producer.flush(10)
        assert "too large for the broker" in caplog.text
        caplog.clear()
        producer.send_many("t", values)
        producer.flush(10)
    assert caplog.text == ""
    assert cluster.values("t") == values * 6


def test_a_record_that_is_too_large_for_the_topic_fails_alone(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.max_batch_bytes = 3_000
    with producer_for(cluster) as producer:
        assert producer.send("t", b"a").result(10).offset == 0
        with pytest.raises(MessageTooLargeError, match="1 record"):
            producer.send("t", b"x" * 10_000).result(10)
        assert producer.send("t", b"b").result(10).offset == 1
    assert cluster.values("t") == [b"a", b"b"]


def test_refused_records_fail_and_what_follows_is_written(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(fault=lambda number: 87 if number == 1 else None)
    with producer_for(cluster, batch_bytes=1024) as producer:
        producer.send("t", b"first").result(10)
        deliveries = [producer.send("t", b"%02d" % number * 300) for number in range(10)]
        failed = [number for number, delivery in enumerate(deliveries) if delivery.exception(10)]
        assert isinstance(deliveries[failed[0]].exception(), InvalidRecordError)
        kept = [b"%02d" % number * 300 for number in range(10) if number not in failed]
        assert 1 <= len(failed) < 10
        assert cluster.values("t") == [b"first", *kept]


def test_delivery_times_out_and_says_why(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(fault=lambda number: 19)
    with producer_for(cluster, request_timeout_ms=100, delivery_timeout_ms=300) as producer:
        began = time.monotonic()
        with pytest.raises(DeliveryTimeoutError, match="NOT_ENOUGH_REPLICAS") as caught:
            producer.send("t", b"x").result(10)
        assert 0.25 < time.monotonic() - began < 2
        assert "they are not in the log" in str(caught.value)


def test_a_full_buffer_blocks_and_then_refuses(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(fault=lambda number: "silence")
    with producer_for(
        cluster,
        buffer_bytes=16_384,
        max_request_bytes=8_192,
        batch_bytes=4_096,
        max_block_ms=200,
        request_timeout_ms=400,
        delivery_timeout_ms=800,
    ) as producer:
        with pytest.raises(BufferFullError, match="buffer_bytes=16384"):
            deque((producer.send("t", b"x" * 1000) for _ in range(100)), maxlen=0)
        assert repr(producer).startswith("<Producer fastlog-producer open")
    # all deliveries have failed by now: the room is given back
    assert producer._accumulator.buffered_bytes == 0


def test_room_that_comes_free_unblocks_send(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    with producer_for(
        cluster, buffer_bytes=16_384, max_request_bytes=8_192, batch_bytes=4_096, linger_ms=10_000
    ) as producer:
        deliveries = [producer.send("t", b"x" * 1000) for _ in range(200)]
        producer.flush(10)
        assert all(delivery.done() for delivery in deliveries)
    assert len(cluster.values("t")) == 200


def test_linger_holds_records_back_and_flush_sends_them(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    with producer_for(cluster, linger_ms=60_000, delivery_timeout_ms=120_000) as producer:
        deliveries = [producer.send("t", b"%d" % number) for number in range(50)]
        with pytest.raises(TimeoutError):
            deliveries[0].result(0.1)
        assert not any(delivery.done() for delivery in deliveries)
        producer.flush(10)
        assert all(delivery.done() for delivery in deliveries)
    assert cluster.brokers[0].produce_requests == 1


def test_close_sends_what_is_buffered(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    producer = producer_for(cluster, linger_ms=60_000, delivery_timeout_ms=120_000)
    delivery = producer.send("t", b"x")
    producer.close()
    producer.close()
    assert delivery.result(0).offset == 0
    with pytest.raises(ClosedError):
        producer.send("t", b"y")


def test_close_ends_in_its_time_although_no_broker_answers(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(fault=lambda number: "silence")
    producer = producer_for(cluster)
    delivery = producer.send("t", b"x")
    began = time.monotonic()
    producer.close(0.5)
    assert time.monotonic() - began < 4
    assert isinstance(delivery.exception(0), ClosedError)


def test_threads_and_descriptors_end_with_the_producer(make_cluster: MakeCluster) -> None:
    # those of other tests, which leave producers to the garbage collector
    earlier = set(threading.enumerate())
    cluster = make_cluster(zmq=True)
    with producer_for(cluster) as producer:
        producer.send("t", b"x").result(10)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        with producer_for(cluster) as producer:
            producer.send("t", b"x").result(10)
    del producer

    def is_gone() -> bool:
        now = set(threading.enumerate()) - earlier
        return not [it for it in now if it.name.startswith("fastlog-producer")]

    # closing waits two seconds for them, which a busy machine may not be content with
    wait_until("no thread is left", is_gone)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 8


def test_callbacks_are_called_once_and_their_errors_do_no_harm(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    seen: list[int] = []
    with producer_for(cluster) as producer:
        bad = producer.send("t", b"a")
        bad.add_done_callback(lambda delivery: 1 / 0)
        good = producer.send("t", b"b")
        good.add_done_callback(lambda delivery: seen.append(delivery.result().offset))
        producer.flush(10)
        good.add_done_callback(lambda delivery: seen.append(-1))
        assert producer.send("t", b"c").result(10).offset == 2
    assert seen == [1, -1]


def test_flush_in_a_callback_is_refused(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    refusals: list[BaseException] = []
    with producer_for(cluster, linger_ms=20) as producer:

        def callback(_: object) -> None:
            try:
                producer.flush()
            except RuntimeError as error:
                refusals.append(error)

        producer.send("t", b"a").add_done_callback(callback)
        producer.flush(10)
    assert len(refusals) == 1


def test_acks_0_is_done_when_it_is_sent(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(zmq=True)
    with producer_for(cluster, acks=0) as producer:
        assert producer.send("t", b"x").result(10).offset == -1
        deadline = time.monotonic() + 5
        while cluster.values("t") != [b"x"] and time.monotonic() < deadline:
            time.sleep(0.01)
    assert cluster.values("t") == [b"x"]


def test_an_unknown_topic_and_an_unreachable_cluster_are_named(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    with producer_for(cluster, max_block_ms=200) as producer:
        with pytest.raises(UnknownTopicOrPartitionError, match="'nowhere' does not exist"):
            producer.send("nowhere", b"x")
        with pytest.raises(TypeError, match=r"encode it"):
            producer.send("t", "text")  # type: ignore[arg-type]
    with (
        Producer("127.0.0.1:1", max_block_ms=200) as producer,
        pytest.raises(NotReachableError, match=r"127\.0\.0\.1:1"),
    ):
        producer.send("t", b"x")


@pytest.mark.parametrize("linger_ms", [1, 0])
def test_many_threads_share_a_producer(make_cluster: MakeCluster, linger_ms: float) -> None:
    cluster = make_cluster(partitions=3, zmq=True)
    with producer_for(cluster, batch_bytes=4096, linger_ms=linger_ms) as producer:

        def work(worker: int) -> None:
            for number in range(500):
                producer.send("t", b"%d %d" % (worker, number), key=b"%d" % worker)

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        producer.flush(20)
    for worker in range(6):
        mine = [
            value
            for partition in range(3)
            for value in cluster.values("t", partition)
            if value is not None and value.startswith(b"%d " % worker)
        ]
        assert mine == [b"%d %d" % (worker, number) for number in range(500)]


def test_a_forked_child_is_told_to_make_its_own(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    with producer_for(cluster) as producer:
        producer.send("t", b"x").result(10)
        child = os.fork()
        if child == 0:
            try:
                producer.send("t", b"y")
            except ClosedError as error:
                os._exit(0 if "fork" in str(error) else 3)
            except BaseException:
                os._exit(2)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert producer.send("t", b"z").result(10).offset == 1


def test_producers_that_come_and_go_leave_no_fork_hook_each(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = []
    register = os.register_at_fork

    def spy(**functions: Any) -> None:
        hooks.append(functions)
        register(**functions)

    monkeypatch.setattr(os, "register_at_fork", spy)
    for _ in range(5):
        Producer().close()
    assert len(hooks) <= 1
