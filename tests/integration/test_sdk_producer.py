"""Our producer against whole brokers: an Apache Kafka over TCP alone, and ours over ZeroMQ; read back by others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer as ConfluentProducer

from fastlog import Admin, Producer
from fastlog.errors import InvalidRecordError, InvalidTimestampError, MessageTooLargeError
from tests.support.broker import BrokerProcess
from tests.support.clients import confluent
from tests.support.samples import COMPRESSIONS, Sample, samples

QUICK: dict[str, Any] = {"linger_ms": 1, "retry_backoff_ms": 10}


@pytest.fixture(params=["kafka", "broker"], ids=["kafka", "ours"])
def bootstrap(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param).bootstrap)


@pytest.fixture
def admin(bootstrap: str) -> Iterator[Admin]:
    with Admin(bootstrap) as client:
        yield client


def new_topic(admin: Admin, name: str, *, partitions: int = 1, **configs: str) -> str:
    dotted = {key.replace("_", "."): value for key, value in configs.items()}
    admin.create_topic(name, partitions=partitions, replication_factor=1, configs=dotted)
    return name


def read_all(bootstrap: str, topic: str, admin: Admin) -> list[Sample]:
    end = admin.list_offsets({(topic, 0): "latest"})[topic, 0].offset
    return confluent.consume(bootstrap, topic, end)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_another_client_reads_what_we_wrote(
    bootstrap: str, admin: Admin, topic_name: str, compression: str
) -> None:
    topic = new_topic(admin, topic_name)
    sent = samples()
    with Producer(bootstrap, compression=compression, **QUICK) as producer:
        deliveries = [
            producer.send(
                topic,
                sample.value,
                key=sample.key,
                headers=sample.headers,
                timestamp_ms=sample.timestamp_ms,
            )
            for sample in sent
        ]
        assert [delivery.result(30).offset for delivery in deliveries] == list(range(len(sent)))
        assert deliveries[0].result().timestamp_ms == sent[0].timestamp_ms
    assert confluent.consume(bootstrap, topic, len(sent)) == sent


@pytest.mark.parametrize("linger_ms", [5, 0])
def test_our_brokers_are_reached_over_zeromq_or_at_once_over_tcp(
    broker: BrokerProcess, topic_name: str, linger_ms: float
) -> None:
    settings = {**QUICK, "linger_ms": linger_ms}
    with Admin(broker.bootstrap) as admin, Producer(broker.bootstrap, **settings) as producer:
        (address,) = admin.describe_cluster().brokers
        assert address.zmq_endpoint == f"127.0.0.1:{broker.zmq_port}"
        new_topic(admin, topic_name)
        assert producer.send(topic_name, b"x").result(30).offset == 0
        (slot,) = producer._sender._links.slots()
        assert slot.address == (f"zmq://127.0.0.1:{broker.zmq_port}" if linger_ms else broker.bootstrap)


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_every_acks_writes(bootstrap: str, admin: Admin, topic_name: str, acks: str | int) -> None:
    topic = new_topic(admin, topic_name)
    with Producer(bootstrap, acks=acks, **QUICK) as producer:
        deliveries = [producer.send(topic, b"%d" % number) for number in range(100)]
        offsets = [delivery.result(30).offset for delivery in deliveries]
        assert offsets == ([-1] * 100 if acks == 0 else list(range(100)))
        deadline = time.monotonic() + 10
        while admin.list_offsets({(topic, 0): "latest"})[topic, 0].offset < 100:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert [sample.value for sample in read_all(bootstrap, topic, admin)] == [b"%d" % n for n in range(100)]


@pytest.mark.parametrize(
    ("ours", "theirs"), [("murmur2", "murmur2_random"), ("consistent", "consistent_random")]
)
def test_keys_go_to_the_partitions_that_other_clients_choose(
    bootstrap: str, admin: Admin, topic_name: str, ours: str, theirs: str
) -> None:
    topic = new_topic(admin, topic_name, partitions=7)
    keys = [b"key-%d" % number for number in range(50)]
    other = ConfluentProducer({"bootstrap.servers": bootstrap, "partitioner": theirs})
    chosen: dict[bytes, int] = {}
    for key in keys:
        other.produce(
            topic,
            b"",
            key,
            on_delivery=lambda _, message: chosen.update({message.key(): message.partition()}),
        )
    other.flush(30)
    with Producer(bootstrap, partitioner=ours, **QUICK) as producer:
        deliveries = [producer.send(topic, b"", key=key) for key in keys]
        assert {key: d.result(30).partition for key, d in zip(keys, deliveries, strict=True)} == chosen


def test_records_without_a_key_are_spread(bootstrap: str, admin: Admin, topic_name: str) -> None:
    topic = new_topic(admin, topic_name, partitions=3)
    with Producer(bootstrap, batch_bytes=2048, **QUICK) as producer:
        deliveries = [producer.send(topic, b"x" * 100) for _ in range(3000)]
        counts = [0, 0, 0]
        for delivery in deliveries:
            counts[delivery.result(30).partition] += 1
    assert min(counts) > 300


def test_broker_time_is_told(bootstrap: str, admin: Admin, topic_name: str) -> None:
    topic = new_topic(admin, topic_name, message_timestamp_type="LogAppendTime")
    with Producer(bootstrap, **QUICK) as producer:
        before = int(time.time() * 1000)
        told = producer.send(topic, b"x", timestamp_ms=before - 1_000_000).result(30).timestamp_ms
    assert before - 5 <= told <= int(time.time() * 1000) + 5


def test_a_record_without_key_in_a_compacted_topic_is_refused_with_its_reason(
    bootstrap: str, admin: Admin, topic_name: str
) -> None:
    topic = new_topic(admin, topic_name, cleanup_policy="compact")
    with Producer(bootstrap, linger_ms=200) as producer:
        good, bad, also_good = (
            producer.send(topic, b"x", key=b"k"),
            producer.send(topic, b"x"),
            producer.send(topic, b"y", key=b"k"),
        )
        producer.flush(30)
        with pytest.raises(InvalidRecordError, match="record 1 of"):
            bad.result(0)
        for delivery in (good, also_good):
            with pytest.raises(InvalidRecordError, match="other records of the batch"):
                delivery.result(0)
        assert producer.send(topic, b"z", key=b"k").result(30).offset == 0


def test_timestamps_far_in_the_future_are_refused(bootstrap: str, admin: Admin, topic_name: str) -> None:
    topic = new_topic(admin, topic_name)
    with Producer(bootstrap, **QUICK) as producer:
        with pytest.raises(InvalidTimestampError):
            producer.send(topic, b"x", timestamp_ms=int(time.time() * 1000) + 86_400_000).result(30)
        assert producer.send(topic, b"x").result(30).offset == 0


def test_batches_too_large_for_the_topic_are_split_and_records_too_large_are_named(
    bootstrap: str, admin: Admin, topic_name: str
) -> None:
    topic = new_topic(admin, topic_name, max_message_bytes="5000")
    with Producer(bootstrap, linger_ms=50, retry_backoff_ms=10) as producer:
        deliveries = [producer.send(topic, b"%04d" % number * 100) for number in range(100)]
        assert [delivery.result(30).offset for delivery in deliveries] == list(range(100))
        with pytest.raises(MessageTooLargeError):
            producer.send(topic, b"x" * 6000).result(30)
        assert producer.send(topic, b"after").result(30).offset == 100
    values = [sample.value for sample in read_all(bootstrap, topic, admin)]
    assert values == [*(b"%04d" % number * 100 for number in range(100)), b"after"]


def test_threads_with_keys_keep_the_order_of_each_key(bootstrap: str, admin: Admin, topic_name: str) -> None:
    topic = new_topic(admin, topic_name)
    with Producer(bootstrap, batch_bytes=4096, **QUICK) as producer:

        def work(worker: int) -> None:
            for number in range(1000):
                producer.send(topic, b"%d" % number, key=b"%d" % worker)

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    written = read_all(bootstrap, topic, admin)
    for worker in range(4):
        mine = [sample.value for sample in written if sample.key == b"%d" % worker]
        assert mine == [b"%d" % number for number in range(1000)]


def test_partitions_added_later_are_used(bootstrap: str, admin: Admin, topic_name: str) -> None:
    topic = new_topic(admin, topic_name)
    with Producer(bootstrap, **QUICK) as producer:
        producer.send(topic, b"x").result(30)
        admin.create_partitions(topic, 3)
        producer._background.request_refresh()
        deadline = time.monotonic() + 10
        while len(producer._accumulator.topics[topic].queues) < 3:
            assert time.monotonic() < deadline
            producer._background.request_refresh()
            time.sleep(0.05)
        assert producer.send(topic, b"x", partition=2).result(30).partition == 2
