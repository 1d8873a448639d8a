"""The consumer against scripted brokers that fail, move, vanish or lie."""

from __future__ import annotations

import _thread
import gc
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastlog.client.consumer import Consumer, TopicPartition, driver
from fastlog.errors import (
    ClosedError,
    NotReachableError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
)
from fastlog.native._records import Record
from tests.support.broker import wait_until
from tests.support.fake_cluster import FETCH, METADATA, FakeCluster

MakeConsumer = Callable[..., Consumer]


@pytest.fixture
def make_consumer() -> Iterator[MakeConsumer]:
    made = []

    def make(cluster: FakeCluster | str, **options: Any) -> Consumer:
        bootstrap = cluster if isinstance(cluster, str) else cluster.bootstrap
        options = {
            "auto_offset_reset": "earliest",
            "fetch_max_wait_ms": 50,
            "retry_backoff_ms": 10,
            **options,
        }
        made.append(Consumer(bootstrap, **options))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()


def read(consumer: Consumer, count: int, seconds: float = 10.0) -> list[Record]:
    """`count` records; fewer fail the test."""
    records: list[Record] = []
    deadline = time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        records += consumer.poll(count - len(records), timeout=0.2)
    assert len(records) == count
    return records


def numbers(start: int, stop: int) -> list[bytes]:
    return [b"%d" % n for n in range(start, stop)]


@pytest.mark.parametrize("code", [3, 5, 6, 9, 56, 74, 75, 78, -1])
def test_errors_that_pass_are_waited_out(code: int, make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        (partition,) = cluster.create("t")
        partition.append(*numbers(0, 5))
        partition.fetch_errors.extend([code, code])
        partition.lookup_errors.extend([6, 78])
        consumer = make_consumer(cluster, topics="t")
        assert [record.offset for record in read(consumer, 5)] == list(range(5))


def test_a_silent_leader_is_left_when_another_one_leads(make_consumer: MakeConsumer) -> None:
    with FakeCluster(2) as cluster:
        (partition,) = cluster.create("t")
        partition.append(*numbers(0, 5))
        consumer = make_consumer(cluster, topics="t")
        read(consumer, 5)
        # its connections stay open, as those of a process that is stopped
        cluster.brokers[0].answering.clear()
        partition.leader, partition.leader_epoch = 1, 1
        partition.append(*numbers(5, 8))
        # long before request_timeout_ms, 30 s
        assert [record.value for record in read(consumer, 3)] == numbers(5, 8)


def test_records_that_were_lost_and_written_anew_are_read_from_where_the_logs_part(
    make_consumer: MakeConsumer, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeCluster(2) as cluster:
        (partition,) = cluster.create("t")
        for number in range(10):
            partition.append(b"old %d" % number, partition_leader_epoch=0)
        consumer = make_consumer(cluster, topics="t")
        read(consumer, 10)
        # elected uncleanly: the next leader has less, and by now as many other records
        partition.leader = -1
        partition.truncate(6)
        partition.leader_epoch = 1
        for number in range(6, 12):
            partition.append(b"new %d" % number, partition_leader_epoch=1)
        partition.leader = 1
        assert [record.value for record in read(consumer, 6)] == [b"new %d" % n for n in range(6, 12)]
        assert "the log of t-0 was cut at offset 6" in caplog.text


def test_an_error_that_stays_is_raised(make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        (partition,) = cluster.create("t")
        partition.append(b"x")
        partition.fetch_errors.append(29)
        consumer = make_consumer(cluster, topics="t")
        for _ in range(2):
            with pytest.raises(TopicAuthorizationFailedError, match="t-0"):
                read(consumer, 1)
        consumer.seek(("t", 0), 0)
        assert read(consumer, 1)[0].value == b"x"


@pytest.mark.parametrize("code", [70, 71])
def test_a_lost_fetch_session_is_made_again(code: int, make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        (partition,) = cluster.create("t")
        partition.append(*numbers(0, 5))
        cluster.fetch_errors.append(code)
        assert len(read(make_consumer(cluster, topics="t"), 5)) == 5


def test_a_partition_is_followed_to_its_new_leader_without_loss_or_duplicate(
    make_consumer: MakeConsumer,
) -> None:
    with FakeCluster(3) as cluster:
        (partition,) = cluster.create("t")
        consumer = make_consumer(cluster, topics="t", max_partition_fetch_bytes=2_000)
        offsets: list[int] = []
        for move in range(6):
            for _ in range(50):
                partition.append(*numbers(0, 10))
            offsets += [record.offset for record in read(consumer, 250)]
            partition.leader, partition.leader_epoch = (partition.leader + 1) % 3, partition.leader_epoch + 1
            offsets += [record.offset for record in read(consumer, 250)]
            assert offsets == list(range(500 * (move + 1)))


def test_a_leader_that_is_named_is_gone_to_without_metadata(make_consumer: MakeConsumer) -> None:
    with FakeCluster(3) as cluster:
        cluster.offered[FETCH] = (4, 17)
        partitions = cluster.create("t", 4)
        consumer = make_consumer(cluster, topics="t")
        for partition in partitions:
            partition.append(*numbers(0, 5))
        read(consumer, 20)
        silent = threading.Event()
        cluster.more[METADATA] = lambda broker_id, asked: (
            silent.wait() and cluster.brokers[broker_id]._metadata(asked)
        )
        try:
            for partition in partitions:
                partition.leader, partition.leader_epoch = (partition.leader + 1) % 3, 1
                partition.append(*numbers(5, 8))
            assert len(read(consumer, 12)) == 12
        finally:
            silent.set()


def test_a_newer_epoch_of_the_same_leader_is_taken_from_its_answer(make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        cluster.offered[FETCH] = (4, 17)
        (partition,) = cluster.create("t")
        partition.append(*numbers(0, 5))
        consumer = make_consumer(cluster, topics="t")
        read(consumer, 5)
        asked = cluster.requests[METADATA]
        partition.leader_epoch = 3
        partition.append(*numbers(5, 8))
        assert [record.value for record in read(consumer, 3)] == numbers(5, 8)
        (wanted,) = cluster.fetches[-1].topics[0].partitions
        assert wanted.current_leader_epoch == 3
        # the rest of the picture follows, once
        deadline = time.monotonic() + 10
        while cluster.requests[METADATA] == asked and time.monotonic() < deadline:
            time.sleep(0.01)
        assert cluster.requests[METADATA] > asked


@pytest.mark.parametrize("highest", [4, 11, 12, 13, 15, 16, 17, 18])
def test_every_version_of_fetch_is_spoken(make_consumer: MakeConsumer, highest: int) -> None:
    with FakeCluster(2) as cluster:
        cluster.offered[FETCH] = (4, highest)
        (partition,) = cluster.create("t")
        partition.append(*numbers(0, 5))
        consumer = make_consumer(cluster, topics="t")
        read(consumer, 5)
        partition.leader, partition.leader_epoch = 1, 1
        partition.append(*numbers(5, 8))
        assert [record.value for record in read(consumer, 3)] == numbers(5, 8)


def test_a_broker_that_restarts_is_found_again(make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        (partition,) = cluster.create("t")
        partition.append(*numbers(0, 5))
        consumer = make_consumer(cluster, topics="t")
        read(consumer, 5)
        cluster.brokers[0].stop()
        assert consumer.poll(timeout=0.5) == []
        partition.append(*numbers(5, 10))
        cluster.brokers[0].start()
        assert [record.offset for record in read(consumer, 5)] == list(range(5, 10))


def test_dropped_connections_lose_nothing(make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        (partition,) = cluster.create("t")
        consumer = make_consumer(cluster, topics="t", max_partition_fetch_bytes=1_000)
        offsets = []
        for _ in range(10):
            for _ in range(20):
                partition.append(*numbers(0, 5))
            offsets += [record.offset for record in read(consumer, 50)]
            cluster.brokers[0].drop_connections()
            offsets += [record.offset for record in read(consumer, 50)]
        assert offsets == list(range(1000))


@pytest.mark.parametrize("highest", [12, 17], ids=["by name", "by id"])
def test_a_topic_that_is_made_anew_is_read_from_its_start(make_consumer: MakeConsumer, highest: int) -> None:
    with FakeCluster() as cluster:
        cluster.offered[FETCH] = (4, highest)
        (partition,) = cluster.create("t")
        partition.leader_epoch = 5
        partition.append(*numbers(0, 5))
        consumer = make_consumer(cluster, topics="t", auto_offset_reset="latest")
        assert consumer.position(("t", 0)) == 5
        (partition,) = cluster.create("t")
        partition.append(*numbers(0, 8))
        assert [record.offset for record in read(consumer, 8)] == list(range(8))


def test_partitions_added_later_are_read_from_their_start(make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        partitions = cluster.create("t", 1)
        partitions[0].append(b"old")
        consumer = make_consumer(cluster, topics="t", auto_offset_reset="latest", metadata_max_age_ms=100)
        assert consumer.positions() == {TopicPartition("t", 0): 1}
        more = type(partitions[0])()
        more.append(b"new")
        cluster.topics["t"].partitions.append(more)
        (record,) = read(consumer, 1)
        assert (record.partition, record.value) == (1, b"new")
        assert consumer.assignment() == {TopicPartition("t", 0), TopicPartition("t", 1)}


def test_the_nearest_replica_is_read_from_and_left_when_it_fails(make_consumer: MakeConsumer) -> None:
    with FakeCluster(2) as cluster:
        (partition,) = cluster.create("t")
        partition.append(*numbers(0, 5))
        partition.preferred_replica = 1
        cluster.offered[FETCH] = (4, 12)
        consumer = make_consumer(cluster, topics="t", rack="here")
        assert len(read(consumer, 5)) == 5
        assert cluster.fetches[-1].rack_id == "here"
        partition.fetch_errors.append(78)
        partition.append(*numbers(5, 10))
        assert len(read(consumer, 5)) == 5
        partition.preferred_replica = -1
        partition.append(*numbers(10, 15))
        assert len(read(consumer, 5)) == 5


@pytest.fixture
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic that is not there is missed sooner than usual."""
    monkeypatch.setattr(driver, "UNKNOWN_TOPIC_GRACE_MS", 200)


@pytest.mark.usefixtures("_short_grace")
def test_an_unknown_topic_is_named(make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        consumer = make_consumer(cluster, topics="nope")
        with pytest.raises(UnknownTopicOrPartitionError, match="'nope' does not exist"):
            read(consumer, 1)
        cluster.create("nope")[0].append(b"x")
        assert len(read(consumer, 1)) == 1


@pytest.mark.usefixtures("_short_grace")
def test_an_unknown_partition_is_named(make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        cluster.create("t")
        consumer = make_consumer(cluster)
        consumer.assign([("t", 0), ("t", 7)])
        with pytest.raises(UnknownTopicOrPartitionError, match="partitions 7 of topic 't'"):
            read(consumer, 1)


def test_a_topic_that_is_made_after_the_subscription_is_found(make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        consumer = make_consumer(cluster, topics="t")
        assert consumer.poll(timeout=0.3) == []
        cluster.create("t")[0].append(b"x")
        assert len(read(consumer, 1)) == 1


def test_no_broker_is_an_error_with_the_addresses_tried(make_consumer: MakeConsumer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    consumer = make_consumer(f"127.0.0.1:{port}", topics="t", bootstrap_timeout_ms=300)
    with pytest.raises(NotReachableError, match=f"127.0.0.1:{port}"):
        read(consumer, 1, seconds=20)


def test_a_broker_that_speaks_no_common_version_is_an_error(make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        cluster.create("t")[0].append(b"x")
        cluster.offered[FETCH] = (30, 31)
        consumer = make_consumer(cluster, topics="t")
        with pytest.raises(UnsupportedVersionError, match="Fetch versions 30 to 31"):
            read(consumer, 1)


def test_metadata_is_not_asked_for_in_a_hurry(make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        (partition,) = cluster.create("t")
        partition.fetch_errors.extend([6] * 1000)
        consumer = make_consumer(cluster, topics="t", retry_backoff_ms=100)
        assert consumer.poll(timeout=1.0) == []
        assert cluster.requests[METADATA] < 15
        assert cluster.requests[FETCH] < 30


def test_close_is_quick_whatever_the_brokers_do(make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        cluster.create("t")[0].append(b"x")
        consumer = make_consumer(cluster, topics="t", fetch_max_wait_ms=30_000)
        read(consumer, 1)
        cluster.answering.clear()
        started = time.monotonic()
        consumer.close()
        consumer.close()
        assert time.monotonic() - started < 2
        with pytest.raises(ClosedError):
            consumer.poll()
        assert list(consumer) == []


def test_close_from_another_thread_ends_an_iteration(make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        cluster.create("t")[0].append(b"x")
        consumer = make_consumer(cluster, topics="t")
        threading.Timer(0.3, consumer.close).start()
        started = time.monotonic()
        assert [record.value for record in consumer] == [b"x"]
        assert time.monotonic() - started < 5


def test_a_poll_is_interrupted_by_ctrl_c_and_loses_nothing(make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        (partition,) = cluster.create("t")
        consumer = make_consumer(cluster, topics="t")
        threading.Timer(0.3, _thread.interrupt_main).start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            consumer.poll(timeout=20)
        assert time.monotonic() - started < 5
        partition.append(*numbers(0, 5))
        assert len(read(consumer, 5)) == 5


def test_an_iteration_is_interrupted_by_ctrl_c_and_a_new_one_goes_on(make_consumer: MakeConsumer) -> None:
    with FakeCluster() as cluster:
        (partition,) = cluster.create("t")
        partition.append(*numbers(0, 3))
        consumer = make_consumer(cluster, topics="t")
        threading.Timer(0.5, _thread.interrupt_main).start()
        seen = []
        with pytest.raises(KeyboardInterrupt):
            seen.extend(record.offset for record in consumer)
        partition.append(*numbers(3, 5))
        for record in consumer:
            seen.append(record.offset)
            if record.offset == 4:
                break
        assert seen == list(range(5))


def test_a_consumer_that_is_dropped_leaves_no_threads() -> None:
    with FakeCluster() as cluster:
        cluster.create("t")[0].append(b"x")
        # those of other tests, which leave clients to the garbage collector
        earlier = set(threading.enumerate())
        consumer = Consumer(cluster.bootstrap, topics="t", auto_offset_reset="earliest")
        read(consumer, 1)
        del consumer
        gc.collect()
        wait_until(
            "its thread ends",
            lambda: "fastlog-consumer" not in {it.name for it in set(threading.enumerate()) - earlier},
        )


def test_a_program_that_forgets_to_close_ends_all_the_same() -> None:
    with FakeCluster() as cluster:
        cluster.create("t")[0].append(b"x")
        program = (
            "import sys; from fastlog.client.consumer import Consumer\n"
            "consumer = Consumer(sys.argv[1], topics='t', auto_offset_reset='earliest')\n"
            "print(consumer.poll(timeout=10)[0].value)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, cluster.bootstrap],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "b'x'\n", "")


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x00\x04\x00\x00\x00\x07", b"\x7f\xff\xff\xff", b""],
)
def test_what_is_no_broker_is_survived(garbage: bytes, make_consumer: MakeConsumer) -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(1024)
                connection.sendall(garbage)

    threading.Thread(target=answer, daemon=True).start()
    consumer = make_consumer(
        f"127.0.0.1:{server.getsockname()[1]}", topics="t", bootstrap_timeout_ms=300, connect_timeout_ms=500
    )
    with pytest.raises(NotReachableError):
        read(consumer, 1, seconds=20)
    server.shutdown(socket.SHUT_RDWR)
    server.close()
