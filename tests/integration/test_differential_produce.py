"""fastlog and Apache Kafka asked the same: Produce, right and wrong batches."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable

import pytest

from fastlog.protocol.codec import encode_request_frame
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.support.batches import CODECS, Row, seal, with_fields
from tests.support.pair import Pair
from tests.support.samples import BASE_TIMESTAMP_MS
from tests.support.wire import Batch, record, varint

VERSIONS = range(3, 14)
HOUR_MS = 3_600_000
GOOD = Batch().encode()


def produce(topic: str, *records: bytes | None, acks: int = -1, partition: int = 0) -> ProduceRequest:
    data = [PartitionProduceData(partition, each) for each in records]
    return ProduceRequest(None, acks, 5_000, [TopicProduceData(name=topic, partition_data=data)])


def fetch(topic: str, offset: int = 0) -> FetchRequest:
    partition = FetchPartition(0, fetch_offset=offset, partition_max_bytes=1 << 20)
    return FetchRequest(topics=[FetchTopic(topic=topic, partitions=[partition])])


def rows(count: int, timestamp_ms: int = BASE_TIMESTAMP_MS) -> list[Row]:
    return [(timestamp_ms + at, b"key-%d" % at, b"value-%d" % at, ()) for at in range(count)]


@pytest.fixture(scope="module")
def topic(pair: Pair) -> str:
    return pair.topic(f"differential-produce-{time.time_ns()}")


@pytest.mark.parametrize("acks", [-1, 1])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_batch_gets_its_offsets(pair: Pair, topic: str, version: int, acks: int) -> None:
    pair.same(produce(topic, GOOD, acks=acks), version)


@pytest.mark.parametrize("codec", CODECS)
def test_what_was_written_is_read_byte_for_byte(pair: Pair, topic_name: str, codec: str) -> None:
    pair.topic(topic_name)
    rich: list[Row] = [
        (BASE_TIMESTAMP_MS, None, None, ()),
        (BASE_TIMESTAMP_MS - 5, b"", b"", (("h", None), ("h", b""), ("", b"x"))),
        (BASE_TIMESTAMP_MS + 9, b"k", b"v" * 5_000, ()),
    ]
    for version in (7, 9):
        pair.same(produce(topic_name, seal(rich, CODECS[codec])), version)
    for version in (10, 12):
        pair.same(fetch(topic_name), version)


@pytest.mark.parametrize("acks", [5, -2, 2])
@pytest.mark.parametrize("version", [3, 7, 9])
def test_acks_that_mean_nothing(pair: Pair, topic: str, version: int, acks: int) -> None:
    pair.same(produce(topic, GOOD, acks=acks), version)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda topic: produce(topic, GOOD, acks=0), id="written"),
        pytest.param(lambda topic: produce(topic, Batch(crc=1).encode(), acks=0), id="wrong checksum"),
        pytest.param(lambda topic: produce(topic, GOOD, acks=0, partition=9), id="no such partition"),
        pytest.param(lambda topic: produce(f"{topic}-none", GOOD, acks=0), id="no such topic"),
        pytest.param(lambda topic: ProduceRequest(None, 0, 1, []), id="nothing to write"),
    ],
)
def test_acks_0_has_no_answer(pair: Pair, topic: str, make: Callable[[str], ProduceRequest]) -> None:
    pair.same_frame(encode_request_frame(make(topic), 7, 7, "differential"))


@pytest.mark.parametrize("version", VERSIONS)
def test_topics_and_partitions_that_are_not_there(pair: Pair, topic: str, version: int) -> None:
    pair.same(produce("no-such-topic", GOOD), version)
    for partition in (1, -1, 2**31 - 1):
        pair.same(produce(topic, GOOD, partition=partition), version)
    for name in ("../x", "", "a b", "x" * 250):
        pair.same(produce(name, GOOD), version)


def test_right_and_wrong_partitions_in_one_request(pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name, 3)
    data = [PartitionProduceData(index, GOOD) for index in (0, 2, 5)]
    data.append(PartitionProduceData(1, Batch(crc=1).encode()))
    wanted = [TopicProduceData(name=topic_name, partition_data=data)]
    wanted.append(TopicProduceData(name="no-such-topic", partition_data=data[:1]))
    for version in (3, 8, 9):
        pair.same(ProduceRequest(None, -1, 5_000, wanted), version)


def test_a_request_without_topics(pair: Pair) -> None:
    for version in VERSIONS:
        pair.same(ProduceRequest(None, -1, 5_000, []), version)


def _records(*deltas: int) -> list[bytes]:
    return [record(delta, b"v") for delta in deltas]


# a case without a difference in the table has the same answer on both sides
BATCHES = {
    "wrong checksum": Batch(crc=1).encode(),
    "empty bytes": b"",
    "null": None,
    "cut by one byte": GOOD[:-1],
    "cut in its header": GOOD[:40],
    "cut in its length": GOOD[:10],
    "two batches": GOOD + GOOD,
    "a batch and zeros": GOOD + b"\0" * 30,
    "a batch and one byte": GOOD + b"\0",
    "negative length": Batch(batch_length=-1).encode(),
    "length 0": Batch(batch_length=0).encode(),
    "huge length": Batch(batch_length=2**31 - 1).encode(),
    "magic 0": Batch(magic=0).encode(),
    "magic 1": Batch(magic=1).encode(),
    "magic 3": Batch(magic=3).encode(),
    "count too high": Batch(count=2).encode(),
    "count too low": Batch(records=_records(0, 1), count=1).encode(),
    "count 0": Batch(records=[], count=0, last_offset_delta=0).encode(),
    "count -1": Batch(count=-1, last_offset_delta=0).encode(),
    "two billion records": Batch(count=2**31 - 1).encode(),
    "last offset delta 5": Batch(last_offset_delta=5).encode(),
    "last offset delta -1": Batch(last_offset_delta=-1).encode(),
    "offset deltas 0 0 2": Batch(records=_records(0, 0, 2)).encode(),
    "offset deltas 0 2 1": Batch(records=_records(0, 2, 1)).encode(),
    "offset deltas in gzip": Batch(
        records=_records(0, 0, 2), payload=gzip.compress(b"".join(_records(0, 0, 2))), attributes=1
    ).encode(),
    "base offset 7": with_fields(GOOD, base_offset=7),
    "varint overflow": Batch(records=[b"\xff" * 20]).encode(),
    "record longer than the batch": Batch(records=[varint(500) + b"\0" * 9]).encode(),
    "record of length 0": Batch(records=[varint(0)]).encode(),
    "bytes left over in a record": Batch(
        records=[varint(12) + record(0, b"v")[1:] + b"\0" * (13 - len(record(0, b"v")))]
    ).encode(),
    "no records inside": Batch(payload=b"", count=1).encode(),
    "codec 5": Batch(attributes=5).encode(),
    "codec 7": Batch(attributes=7).encode(),
    "junk as gzip": Batch(attributes=1, payload=b"junk" * 9).encode(),
    "junk as snappy": Batch(attributes=2, payload=b"junk" * 9).encode(),
    "junk as lz4": Batch(attributes=3, payload=b"junk" * 9).encode(),
    "junk as zstd": Batch(attributes=4, payload=b"junk" * 9).encode(),
    "gzip cut": Batch(attributes=1, payload=gzip.compress(record(0, b"v" * 500))[:-20]).encode(),
    "gzip of too few": Batch(
        attributes=1, payload=gzip.compress(record(0, b"v")), count=3, last_offset_delta=2
    ).encode(),
    "gzip of too many": Batch(
        attributes=1, payload=gzip.compress(b"".join(_records(0, 1))), count=1, last_offset_delta=0
    ).encode(),
    "control batch": Batch(attributes=0x20).encode(),
    "transactional without a producer": Batch(attributes=0x10).encode(),
    "timestamp type LogAppendTime": Batch(attributes=0x08).encode(),
    "delete horizon": Batch(attributes=0x40).encode(),
    "unused attribute bits": Batch(attributes=0x80).encode(),
    "two hours ahead": Batch(base_timestamp=BASE_TIMESTAMP_MS + 2 * HOUR_MS).encode(),
    "half an hour ahead": Batch(base_timestamp=BASE_TIMESTAMP_MS + HOUR_MS // 2).encode(),
    "a year ago": Batch(base_timestamp=BASE_TIMESTAMP_MS - 365 * 24 * HOUR_MS).encode(),
    "no timestamp": Batch(base_timestamp=-1).encode(),
    "timestamp -2": Batch(base_timestamp=-2).encode(),
    "max timestamp is wrong": with_fields(GOOD, max_timestamp=BASE_TIMESTAMP_MS + 77),
    "too large": Batch(records=[record(0, b"v" * (1 << 20))]).encode(),
    "as large as may be": Batch(records=[record(0, b"v" * (1_048_588 - 61 - 13))]).encode(),
    "producer without an epoch": Batch(producer_id=4_000_000, base_sequence=0).encode(),
    "producer without a sequence": Batch(producer_id=4_000_001, producer_epoch=0).encode(),
    "sequence without a producer": Batch(base_sequence=3).encode(),
}


@pytest.mark.parametrize("case", BATCHES)
def test_a_batch_with(pair: Pair, topic_name: str, case: str) -> None:
    pair.topic(topic_name)
    pair.same(produce(topic_name, BATCHES[case]), 9, but=f"produce/{case}")


def test_a_record_without_a_key_in_a_compacted_topic(pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name, configs={"cleanup.policy": "compact"})
    mixed: list[Row] = [
        (BASE_TIMESTAMP_MS, b"k", b"v", ()),
        (BASE_TIMESTAMP_MS, None, b"v", ()),
        (BASE_TIMESTAMP_MS, b"", b"v", ()),
        (BASE_TIMESTAMP_MS, None, b"v", ()),
    ]
    for codec in CODECS.values():
        for version in (7, 8, 9):
            pair.same(produce(topic_name, seal(mixed, codec)), version)
    pair.same(produce(topic_name, seal(rows(3))), 9)


@pytest.mark.parametrize("codec", CODECS)
def test_a_topic_that_takes_the_broker_s_time(pair: Pair, topic_name: str, codec: str) -> None:
    pair.topic(topic_name, configs={"message.timestamp.type": "LogAppendTime"})
    old = seal(rows(3, BASE_TIMESTAMP_MS - 9 * HOUR_MS), CODECS[codec])
    answers = pair.same(produce(topic_name, old), 9)
    for side, answer in zip(pair.sides, answers, strict=True):
        stamped = answer.responses[0].partition_responses[0].log_append_time_ms
        stored = side.ask(fetch(topic_name), 12).responses[0].partitions[0].records
        sent = with_fields(old, attributes=CODECS[codec] | 0x08, max_timestamp=stamped)
        assert stored[12:16] == bytes(4), "leader epoch 0"
        assert stored[:12] + stored[16:] == sent[:12] + sent[16:], side.name


def test_timestamps_that_the_topic_does_not_take(pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name, configs={"message.timestamp.before.max.ms": "3600000"})
    mixed: list[Row] = [
        (BASE_TIMESTAMP_MS, b"k", b"v", ()),
        (BASE_TIMESTAMP_MS - 2 * HOUR_MS, b"k", b"v", ()),
        (BASE_TIMESTAMP_MS + 3 * HOUR_MS, b"k", b"v", ()),
    ]
    for codec in (0, 1):
        for version in (7, 8):
            pair.same(produce(topic_name, seal(mixed, codec)), version)


@pytest.mark.parametrize("version", VERSIONS)
def test_zstd_is_for_produce_7_and_up(pair: Pair, topic: str, version: int) -> None:
    pair.same(produce(topic, seal(rows(3), CODECS["zstd"])), version)


@pytest.mark.parametrize("acks", [0, 1, -1])
@pytest.mark.parametrize("topic_id", [bytes(16), b"\xee" * 16])
def test_a_topic_id_that_is_not_there(pair: Pair, topic_id: bytes, acks: int) -> None:
    data = [TopicProduceData(name="", topic_id=topic_id, partition_data=[PartitionProduceData(0, GOOD)])]
    pair.same(ProduceRequest(None, acks, 5_000, data), 13)


def test_a_batch_that_is_larger_than_the_topic_takes(pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name, configs={"max.message.bytes": "200"})
    for value in (b"v" * 100, b"v" * 200, b"v" * 2_000):
        for codec in (0, 1):
            pair.same(produce(topic_name, seal([(BASE_TIMESTAMP_MS, b"k", value, ())], codec)), 9)


def test_a_transactional_id_without_a_transaction(pair: Pair, topic: str) -> None:
    wanted = produce(topic, GOOD)
    wanted.transactional_id = "mine"
    pair.same(wanted, 9)
