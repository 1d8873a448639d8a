"""`compression.type`: in which codec a topic's batches are stored, whatever their producers use."""

from __future__ import annotations

import itertools

import pytest

import fastlog
from fastlog.protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.support.admin import create_topic
from tests.support.batches import CODECS, NOW_MS, Row, seal, with_fields
from tests.support.broker import BrokerProcess
from tests.support.pair import Side

CODEC_BITS = 7
ROWS: list[Row] = [
    (NOW_MS + number * 7 % 5, b"k%d" % number, b"v" * 300, (("h", None),)) for number in range(20)
]
WORDS = {"uncompressed": "none"} | {name: name for name in ("gzip", "snappy", "lz4", "zstd")}
_ids = itertools.count(7_000_000)


def send(side: Side, topic: str, batch: bytes, version: int = 8) -> tuple[int, int]:
    """Error and base offset of the answer to a batch."""
    data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(0, batch)])
    answer = side.ask(ProduceRequest(None, -1, 5_000, [data]), version)
    result = answer.responses[0].partition_responses[0]
    return result.error_code, result.base_offset


def stored(broker: BrokerProcess, topic: str) -> list[tuple[int, int, int]]:
    """(base offset, codec, bytes) of each batch in the first segment."""
    data = (broker.data_dir / f"{topic}-0" / f"{0:020}.log").read_bytes()
    found = []
    while data:
        size = 12 + int.from_bytes(data[8:12], "big")
        found.append((int.from_bytes(data[:8], "big"), data[22] & CODEC_BITS, size))
        data = data[size:]
    return found


def read(broker: BrokerProcess, topic: str, count: int) -> list[fastlog.Record]:
    with fastlog.Consumer(broker.bootstrap, topics=topic, auto_offset_reset="earliest") as consumer:
        found: list[fastlog.Record] = []
        while len(found) < count:
            records = consumer.poll(timeout=20)
            assert records, f"{len(found)} of {count} records came"
            found += records
        return found


@pytest.fixture
def side(broker: BrokerProcess) -> Side:
    return Side("fastlog", broker.tcp_port)


@pytest.mark.parametrize("word", WORDS)
def test_batches_are_stored_in_the_topic_s_codec(
    broker: BrokerProcess, side: Side, topic_name: str, word: str
) -> None:
    create_topic(broker.bootstrap, topic_name, config={"compression.type": word})
    for number, codec in enumerate(CODECS.values()):
        assert send(side, topic_name, seal(ROWS, codec)) == (0, number * len(ROWS))
    batches = stored(broker, topic_name)
    assert [codec for _, codec, _ in batches] == [CODECS[WORDS[word]]] * len(CODECS)
    records = read(broker, topic_name, len(ROWS) * len(CODECS))
    assert [record.offset for record in records] == list(range(len(records)))
    told = [(it.timestamp_ms, it.key, it.value, it.headers) for it in records]
    assert told == ROWS * len(CODECS)


def test_a_batch_in_the_topic_s_codec_stays_as_it_came(
    broker: BrokerProcess, side: Side, topic_name: str
) -> None:
    create_topic(broker.bootstrap, topic_name, config={"compression.type": "gzip"})
    batch = seal(ROWS, CODECS["gzip"])
    send(side, topic_name, batch)
    data = (broker.data_dir / f"{topic_name}-0" / f"{0:020}.log").read_bytes()
    # offset and epoch are the broker's
    assert data[16:] == batch[16:]


def test_sequences_hold_for_what_is_compressed_anew(
    broker: BrokerProcess, side: Side, topic_name: str
) -> None:
    create_topic(broker.bootstrap, topic_name, config={"compression.type": "zstd"})
    producer_id = next(_ids)
    first = with_fields(seal(ROWS), producer_id=producer_id, producer_epoch=0, base_sequence=0)
    assert send(side, topic_name, first) == (0, 0)
    assert send(side, topic_name, first) == (0, 0)
    later = with_fields(seal(ROWS), producer_id=producer_id, producer_epoch=0, base_sequence=30)
    assert send(side, topic_name, later)[0] == 45
    assert len(stored(broker, topic_name)) == 1
    wanted = DescribeProducersRequest([TopicRequest(topic_name, [0, 1])])
    known, absent = side.ask(wanted, 0).topics[0].partitions
    assert [(it.producer_id, it.producer_epoch, it.last_sequence) for it in known.active_producers] == [
        (producer_id, 0, 19)
    ]
    assert absent.error_code == 3


def test_the_largest_batch_is_that_which_is_stored(
    broker: BrokerProcess, side: Side, topic_name: str
) -> None:
    config = {"compression.type": "uncompressed", "max.message.bytes": "2000"}
    create_topic(broker.bootstrap, topic_name, config=config)
    assert send(side, topic_name, seal(ROWS, CODECS["gzip"]))[0] == 10
    assert stored(broker, topic_name) == []
    assert send(side, topic_name, seal(ROWS[:2], CODECS["gzip"])) == (0, 0)


def test_the_broker_s_time_is_kept_with_another_codec(
    broker: BrokerProcess, side: Side, topic_name: str
) -> None:
    config = {"compression.type": "lz4", "message.timestamp.type": "LogAppendTime"}
    create_topic(broker.bootstrap, topic_name, config=config)
    assert send(side, topic_name, seal(ROWS, CODECS["snappy"])) == (0, 0)
    assert stored(broker, topic_name)[0][1] == CODECS["lz4"]
    assert {it.timestamp_ms > NOW_MS + 1000 for it in read(broker, topic_name, len(ROWS))} == {True}


def test_codec_and_level_are_changed_while_it_runs(
    broker: BrokerProcess, side: Side, topic_name: str
) -> None:
    create_topic(broker.bootstrap, topic_name)
    rows: list[Row] = [(NOW_MS, None, str(number).encode() * 20, ()) for number in range(500)]
    with fastlog.Admin(broker.bootstrap) as admin:
        for settings in (
            {},
            {"compression.type": "gzip", "compression.gzip.level": "1"},
            {"compression.gzip.level": "9"},
            {"compression.type": "zstd", "compression.zstd.level": "-1000"},
            {"compression.zstd.level": "19"},
        ):
            if settings:
                admin.alter_configs(settings, topic=topic_name)
            assert send(side, topic_name, seal(rows))[0] == 0
    batches = stored(broker, topic_name)
    assert [codec for _, codec, _ in batches] == [0, 1, 1, 4, 4]
    assert batches[2][2] < batches[1][2]
    assert batches[4][2] < batches[3][2]
