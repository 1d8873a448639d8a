"""The consumer against real servers: Apache Kafka and fastlog, with records that other clients wrote."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

import fastlog
from fastlog.errors import OffsetOutOfRangeError
from tests.support.broker import wait_until
from tests.support.clients import aio, confluent, pure
from tests.support.samples import COMPRESSIONS, Sample, samples

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_positions.py"


@pytest.fixture(params=["kafka", "broker"])
def bootstrap(request: pytest.FixtureRequest) -> str:
    """The address of Apache Kafka, then of fastlog."""
    address: str = request.getfixturevalue(request.param).bootstrap
    return address


def create(bootstrap: str, topic: str, partitions: int = 1) -> None:
    with fastlog.Admin(bootstrap) as admin:
        admin.create_topic(topic, partitions=partitions)


def produce(bootstrap: str, topic: str, count: int, *, partitions: int = 1, first: int = 0) -> None:
    """Values 0, 1, … round robin over the partitions."""
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    for number in range(first, first + count):
        while True:
            try:
                producer.produce(topic, b"%d" % number, b"k%d" % (number % 5), number % partitions)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(30) == 0


def read(consumer: fastlog.Consumer, count: int, seconds: float = 30.0) -> list[fastlog.Record]:
    """`count` records; fewer fail the test."""
    records: list[fastlog.Record] = []
    deadline = time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        records += consumer.poll(count - len(records), timeout=0.5)
    assert len(records) == count
    return records


@pytest.mark.parametrize("client", [confluent, pure, aio], ids=["confluent", "kafka-python", "aiokafka"])
def test_what_other_clients_wrote_is_read_whole(bootstrap: str, topic_name: str, client: Any) -> None:
    create(bootstrap, topic_name)
    written: list[Sample] = []
    for compression in COMPRESSIONS:
        client.produce(bootstrap, topic_name, samples(120), compression)
        written += samples(120)
    with fastlog.Consumer(bootstrap, topics=topic_name, auto_offset_reset="earliest") as consumer:
        records = read(consumer, len(written))
    found = [Sample(one.key, one.value, one.headers, one.timestamp_ms) for one in records]
    assert found == written
    assert [one.offset for one in records] == list(range(len(written)))


def test_many_partitions_are_read_whole(bootstrap: str, topic_name: str) -> None:
    create(bootstrap, topic_name, 20)
    produce(bootstrap, topic_name, 20_000, partitions=20)
    with fastlog.Consumer(bootstrap, topics=topic_name, auto_offset_reset="earliest") as consumer:
        records = read(consumer, 20_000)
        assert sorted(int(one.value or b"") for one in records) == list(range(20_000))
        assert set(consumer.positions().values()) == {1000}
        assert consumer.poll(timeout=0.3) == []


def test_new_records_arrive_while_waiting(bootstrap: str, topic_name: str) -> None:
    create(bootstrap, topic_name)
    with fastlog.Consumer(bootstrap, topics=topic_name) as consumer:
        assert consumer.positions() == {fastlog.TopicPartition(topic_name, 0): 0}
        for number in range(5):
            produce(bootstrap, topic_name, 1, first=number)
            assert [one.value for one in read(consumer, 1)] == [b"%d" % number]


def test_seeks(bootstrap: str, topic_name: str) -> None:
    create(bootstrap, topic_name)
    written = samples(100)
    confluent.produce(bootstrap, topic_name, written, "lz4")
    tp = fastlog.TopicPartition(topic_name, 0)
    with fastlog.Consumer(bootstrap) as consumer:
        consumer.assign([tp])
        assert consumer.position(tp) == 100
        consumer.seek(tp, 42)
        assert read(consumer, 1)[0].offset == 42
        consumer.seek_to_beginning(tp)
        assert read(consumer, 1)[0].offset == 0
        timestamp_ms = written[50].timestamp_ms or 0
        consumer.seek_to_timestamp(timestamp_ms, tp)
        record = read(consumer, 1)[0]
        assert (record.offset, record.timestamp_ms) == (50, timestamp_ms)
        consumer.seek_to_timestamp(timestamp_ms + 10**9)
        assert consumer.position(tp) == 100


def test_records_that_were_deleted_are_passed_over_by_the_policy(bootstrap: str, topic_name: str) -> None:
    create(bootstrap, topic_name)
    produce(bootstrap, topic_name, 100)
    with fastlog.Admin(bootstrap) as admin:
        admin.delete_records({(topic_name, 0): 60})
    with fastlog.Consumer(bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign(positions={(topic_name, 0): 10})
        assert read(consumer, 1)[0].offset == 60
    with fastlog.Consumer(bootstrap, auto_offset_reset="none") as consumer:
        consumer.assign(positions={(topic_name, 0): 10})
        with pytest.raises(OffsetOutOfRangeError):
            read(consumer, 1)


def test_a_topic_that_is_deleted_and_made_anew_is_read_from_its_start(
    bootstrap: str, topic_name: str
) -> None:
    create(bootstrap, topic_name)
    produce(bootstrap, topic_name, 10)
    with fastlog.Consumer(bootstrap, topics=topic_name, auto_offset_reset="earliest") as consumer:
        read(consumer, 10)
        with fastlog.Admin(bootstrap) as admin:
            admin.delete_topic(topic_name)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                create(bootstrap, topic_name)
                break
            except fastlog.errors.TopicAlreadyExistsError:
                time.sleep(0.2)
        produce(bootstrap, topic_name, 30, first=100)
        assert [int(one.value or b"") for one in read(consumer, 30)] == list(range(100, 130))


def test_partitions_that_are_added_are_read(bootstrap: str, topic_name: str) -> None:
    create(bootstrap, topic_name)
    with fastlog.Consumer(bootstrap, topics=topic_name, metadata_max_age_ms=300) as consumer:
        consumer.positions()
        with fastlog.Admin(bootstrap) as admin:
            admin.create_partitions(topic_name, 3)
        produce(bootstrap, topic_name, 30, partitions=3)
        assert sorted(int(one.value or b"") for one in read(consumer, 30)) == list(range(30))


def test_read_committed_sees_what_a_confluent_consumer_sees(kafka: Any, topic_name: str) -> None:
    bootstrap = kafka.bootstrap
    create(bootstrap, topic_name)
    chances = random.Random(7)
    committed, everything = [], []
    producers = []
    for index in range(3):
        config = {"bootstrap.servers": bootstrap, "transactional.id": f"{topic_name}-{index}"}
        producers.append(confluent_kafka.Producer(config))
        producers[-1].init_transactions(30)
    for number in range(30):
        producer = chances.choice(producers)
        batch = [b"%d-%d" % (number, i) for i in range(chances.randint(1, 5))]
        producer.begin_transaction()
        for value in batch:
            producer.produce(topic_name, value, partition=0)
        producer.flush(30)
        everything += batch
        if chances.random() < 0.5:
            producer.commit_transaction(30)
            committed += batch
        else:
            producer.abort_transaction(30)
    with fastlog.Consumer(
        bootstrap, topics=topic_name, auto_offset_reset="earliest", isolation_level="read_committed"
    ) as consumer:
        assert [one.value for one in read(consumer, len(committed))] == committed
        assert consumer.poll(timeout=0.5) == []
        # 30 markers have offsets too, and the position is past the last one
        assert list(consumer.positions().values()) == [len(everything) + 30]
    with fastlog.Consumer(bootstrap, topics=topic_name, auto_offset_reset="earliest") as consumer:
        assert [one.value for one in read(consumer, len(everything))] == everything


def test_a_killed_broker_is_waited_out(make_broker: Any, topic_name: str) -> None:
    broker = make_broker()
    create(broker.bootstrap, topic_name)
    produce(broker.bootstrap, topic_name, 5000)
    with fastlog.Consumer(
        broker.bootstrap, topics=topic_name, auto_offset_reset="earliest", max_partition_fetch_bytes=4096
    ) as consumer:
        offsets = [one.offset for one in read(consumer, 2000)]
        broker.kill()
        offsets += [one.offset for one in consumer.poll(100, timeout=0.5)]
        broker.start()
        offsets += [one.offset for one in read(consumer, 5000 - len(offsets))]
    assert offsets == list(range(5000))


def test_own_positions_survive_kill_9_without_loss_or_duplicates(
    bootstrap: str, topic_name: str, tmp_path: Path
) -> None:
    create(bootstrap, topic_name, 3)
    file = tmp_path / "counts.db"
    where = ["--bootstrap", bootstrap, "--topic", topic_name, "--file", str(file), "--batch", "20"]
    command = [sys.executable, str(EXAMPLE), *where]
    seed = os.getpid()
    print("seed", seed)
    chances = random.Random(seed)
    killed = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        # records come until the last kill, so that none of them finds the program done, however slow the machine is
        written = pool.submit(produce_ahead, bootstrap, topic_name, file, killed)
        try:
            for _ in range(8):
                kill_at_work(command, file, chances.random() * 0.05)
        finally:
            killed.set()
        total = written.result(30)
    done = subprocess.run([*command, "--exit-at-end"], capture_output=True, text=True, timeout=60, check=True)
    counts = dict(line.split("\t") for line in done.stdout.splitlines())
    expected = Counter(f"k{number % 5}" for number in range(total))
    assert {key: int(value) for key, value in counts.items()} == expected


def produce_ahead(bootstrap: str, topic: str, file: Path, over: threading.Event) -> int:
    """Keeps 2,000 records ready beyond those that the example has counted until `over` is set; the number of all."""
    count = 0
    while not over.wait(0.01):
        if count < counted(file) + 2000:
            produce(bootstrap, topic, 500, partitions=3, first=count)
            count += 500
    return count


def kill_at_work(command: list[str], file: Path, seconds: float) -> None:
    """Starts the example, and kills it `seconds` after it counted more than before."""
    before = counted(file)
    with subprocess.Popen(command) as running:
        try:
            wait_until("records are counted", lambda: counted(file) > before, seconds=30)
            time.sleep(seconds)
        finally:
            running.kill()


def counted(file: Path) -> int:
    """The records counted in the example's file so far."""
    if not file.exists():
        return 0
    database = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)
    try:
        (records,) = database.execute("SELECT coalesce(sum(records), 0) FROM counts").fetchone()
    except sqlite3.OperationalError:
        return 0  # the program has not made its tables yet
    finally:
        database.close()
    return int(records)
