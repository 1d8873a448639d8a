"""send_many against whole brokers, an Apache Kafka and ours, read back by another client and by our batches."""

from __future__ import annotations

import array
import itertools
from collections.abc import Iterator

import pytest

from fastlog import Admin, BulkDelivery, Column, Consumer, Producer, TopicPartition
from fastlog.client.producer.partitioner import murmur2
from fastlog.errors import BulkDeliveryError, InvalidRecordError
from tests.support.clients import confluent
from tests.support.samples import COMPRESSIONS, Sample

NOW_MS = 1_750_000_000_000
VALUES = [b"value %05d" % number + b"." * (number % 90) for number in range(20_000)]
KEYS = [b"key-%d" % (number % 101) for number in range(20_000)]


def column(values: list[bytes]) -> Column:
    return Column(b"".join(values), array.array("q", itertools.accumulate(map(len, values), initial=0)))


@pytest.fixture(params=["kafka", "broker"], ids=["kafka", "ours"])
def bootstrap(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param).bootstrap)


@pytest.fixture
def admin(bootstrap: str) -> Iterator[Admin]:
    with Admin(bootstrap) as client:
        yield client


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_another_client_reads_a_list_as_it_was(
    bootstrap: str, admin: Admin, topic_name: str, compression: str
) -> None:
    # its timestamps are old, and a check of retention may come before the reader
    admin.create_topic(topic_name, partitions=1, replication_factor=1, configs={"retention.ms": "-1"})
    with Producer(bootstrap, compression=compression, batch_bytes=16_384) as producer:
        delivery = producer.send_many(
            topic_name, VALUES, KEYS, headers=[("source", b"list")], timestamp_ms=NOW_MS
        )
        assert delivery.result(30).offsets == {0: (range(len(VALUES)),)}
    read = confluent.consume(bootstrap, topic_name, len(VALUES))
    assert [(one.key, one.value) for one in read] == list(zip(KEYS, VALUES, strict=True))
    assert {(one.timestamp_ms, tuple(one.headers)) for one in read} == {(NOW_MS, (("source", b"list"),))}


def test_columns_with_keys_are_spread_as_by_other_clients_and_come_back_as_columns(
    bootstrap: str, admin: Admin, topic_name: str
) -> None:
    admin.create_topic(topic_name, partitions=3, replication_factor=1)
    with Producer(bootstrap, batch_bytes=16_384) as producer:
        metadata = producer.send_many(topic_name, column(VALUES), column(KEYS)).result(30)
    expected: dict[int, list[tuple[bytes, bytes]]] = {0: [], 1: [], 2: []}
    for key, value in zip(KEYS, VALUES, strict=True):
        expected[murmur2(key, 3) or 0].append((key, value))
    assert metadata.offsets == {at: (range(len(rows)),) for at, rows in expected.items()}
    read: dict[int, list[tuple[bytes, bytes]]] = {0: [], 1: [], 2: []}
    positions = {TopicPartition(topic_name, at): 0 for at in range(3)}
    with Consumer(bootstrap) as consumer:
        consumer.assign(positions=positions)
        for batch in consumer.batches(timeout=20):
            keys, values = batch.keys(), batch.values()
            assert batch.offsets() == list(
                range(len(read[batch.partition]), len(read[batch.partition]) + len(batch))
            )
            assert batch.headers() == [()] * len(batch)
            assert len(batch.timestamps_ms()) == len(batch)
            read[batch.partition] += zip(keys, values, strict=True)  # type: ignore[arg-type]
            if sum(map(len, read.values())) == len(VALUES):
                break
    assert read == expected


def test_more_than_the_buffer_holds_waits_for_the_broker(
    bootstrap: str, admin: Admin, topic_name: str
) -> None:
    admin.create_topic(topic_name, partitions=2, replication_factor=1)
    with Producer(bootstrap, buffer_bytes=1 << 20, batch_bytes=65_536) as producer:
        delivery = producer.send_many(topic_name, (b"%010d" % number * 10 for number in range(100_000)))
        metadata = delivery.result(60)
    assert metadata.count == len(delivery) == 100_000
    ends = admin.list_offsets({(topic_name, at): "latest" for at in range(2)})
    assert {at: ends[topic_name, at].offset for at in metadata.counts} == metadata.counts


def test_the_record_that_a_compacted_topic_refuses_is_named(
    bootstrap: str, admin: Admin, topic_name: str
) -> None:
    admin.create_topic(topic_name, partitions=1, replication_factor=1, configs={"cleanup.policy": "compact"})
    with Producer(bootstrap, linger_ms=200) as producer:
        delivery: BulkDelivery = producer.send_many(topic_name, [b"a", b"b", b"c"], [b"k", None, b"k"])
        with pytest.raises(
            BulkDeliveryError, match=r"3 of 3 records for .* failed.* Record 1: .*record 1 of"
        ) as caught:
            delivery.result(30)
        assert set(map(type, caught.value.errors.values())) == {InvalidRecordError}
        assert producer.send_many(topic_name, [b"z"], [b"k"]).result(30).offsets == {0: (range(1),)}


def test_what_is_written_by_send_and_send_many_keeps_its_order(
    bootstrap: str, admin: Admin, topic_name: str
) -> None:
    admin.create_topic(topic_name, partitions=1, replication_factor=1)
    with Producer(bootstrap, batch_bytes=4096) as producer:
        for start in range(0, 3000, 300):
            producer.send(topic_name, VALUES[start])
            producer.send_many(topic_name, VALUES[start + 1 : start + 300])
    read: list[Sample] = confluent.consume(bootstrap, topic_name, 3000)
    assert [one.value for one in read] == VALUES[:3000]
