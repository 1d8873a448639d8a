"""fastlog and Apache Kafka asked the same: Fetch without sessions."""

from __future__ import annotations

import time

import pytest

from fastlog.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.support.batches import CODECS, seal
from tests.support.pair import Pair
from tests.support.samples import BASE_TIMESTAMP_MS
from tests.support.wire import Batch, record

VERSIONS = range(4, 19)
BATCHES = [Batch([record(delta, b"x" * 100) for delta in range(3)]).encode() for _ in range(4)]
SIZE = len(BATCHES[0])
BIG = 1 << 20


def fill(pair: Pair, topic: str, *batches: bytes, partition: int = 0) -> None:
    for batch in batches:
        data = [TopicProduceData(name=topic, partition_data=[PartitionProduceData(partition, batch)])]
        for answer in pair.both(ProduceRequest(None, -1, 5_000, data), 9):
            assert answer.responses[0].partition_responses[0].error_code == 0


def at(
    offset: int, *, partition: int = 0, max_bytes: int = BIG, epoch: int = -1, fetched: int = -1
) -> FetchPartition:
    return FetchPartition(
        partition,
        current_leader_epoch=epoch,
        fetch_offset=offset,
        last_fetched_epoch=fetched,
        partition_max_bytes=max_bytes,
    )


def fetch(topic: str, *partitions: FetchPartition, max_bytes: int = BIG, **options: int) -> FetchRequest:
    wanted = [FetchTopic(topic=topic, partitions=list(partitions))]
    return FetchRequest(max_bytes=max_bytes, topics=wanted, **options)


@pytest.fixture(scope="module")
def topic(pair: Pair) -> str:
    """12 records in four batches of the same size on partition 0, three more in partition 1, none in 2."""
    name = pair.topic(f"differential-fetch-{time.time_ns()}", 3)
    fill(pair, name, *BATCHES)
    fill(pair, name, BATCHES[0], partition=1)
    return name


@pytest.mark.parametrize("offset", [0, 1, 2, 3, 11, 12, 13, 2**63 - 1, -1, -2])
@pytest.mark.parametrize("version", VERSIONS)
def test_from_offsets_below_in_at_and_above_the_log(
    pair: Pair, topic: str, version: int, offset: int
) -> None:
    pair.same(fetch(topic, at(offset)), version)


@pytest.mark.parametrize("limit", [0, 1, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE, 3 * SIZE + 7, BIG])
@pytest.mark.parametrize("version", [4, 12])
def test_no_more_than_the_partition_s_limit_but_one_batch(
    pair: Pair, topic: str, version: int, limit: int
) -> None:
    pair.same(fetch(topic, at(4, max_bytes=limit)), version)


@pytest.mark.parametrize("limit", [0, 1, SIZE, SIZE + 1, 2 * SIZE, 4 * SIZE + 1, 5 * SIZE])
@pytest.mark.parametrize("version", [4, 12])
def test_no_more_than_the_request_s_limit_but_one_batch(
    pair: Pair, topic: str, version: int, limit: int
) -> None:
    pair.same(fetch(topic, at(0), at(0, partition=1), max_bytes=limit), version)
    pair.same(fetch(topic, at(0, partition=2), at(0, partition=1), at(3), max_bytes=limit), version)


def test_negative_limits(pair: Pair, topic: str) -> None:
    pair.same(fetch(topic, at(9, max_bytes=-1)), 12, but="fetch/negative limit of a partition")
    pair.same(fetch(topic, at(9), max_bytes=-1), 12, but="fetch/negative limit")


@pytest.mark.parametrize("version", VERSIONS)
def test_partitions_and_topics_that_are_not_there(pair: Pair, topic: str, version: int) -> None:
    pair.same(fetch(topic, at(0), at(0, partition=7), at(0, partition=-1)), version)
    for name in ("no-such-topic", "", "../x"):
        pair.same(fetch(name, at(0)), version)


def test_the_same_partition_twice(pair: Pair, topic: str) -> None:
    pair.same(fetch(topic, at(12), at(12)), 12, but="fetch/partition twice")


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_asked_for(pair: Pair, version: int) -> None:
    pair.same(FetchRequest(), version)


@pytest.mark.parametrize("topic_id", [bytes(16), b"\xee" * 16])
@pytest.mark.parametrize("version", [13, 18])
def test_a_topic_id_that_is_not_there(pair: Pair, version: int, topic_id: bytes) -> None:
    wanted = [FetchTopic(topic="", topic_id=topic_id, partitions=[at(0)])]
    pair.same(FetchRequest(topics=wanted), version)


@pytest.mark.parametrize("epoch", [-1, 0, 1, 7, -2])
@pytest.mark.parametrize("version", [8, 9, 11, 12, 13, 15, 16, 18])
def test_leader_epochs(pair: Pair, topic: str, version: int, epoch: int) -> None:
    pair.same(fetch(topic, at(0, epoch=epoch)), version)


@pytest.mark.parametrize("offset", [0, 12, 13, 50])
@pytest.mark.parametrize("fetched", [-1, 0, 1, 9, -5])
def test_the_epoch_of_the_last_record_that_was_fetched(
    pair: Pair, topic: str, fetched: int, offset: int
) -> None:
    pair.same(fetch(topic, at(offset, fetched=fetched)), 12)


@pytest.mark.parametrize("isolation", [0, 1])
@pytest.mark.parametrize("version", VERSIONS)
def test_isolation_levels(pair: Pair, topic: str, version: int, isolation: int) -> None:
    pair.same(fetch(topic, at(0), isolation_level=isolation), version)


@pytest.mark.parametrize("isolation", [7, -1])
def test_an_unknown_isolation_level(pair: Pair, topic: str, isolation: int) -> None:
    pair.same(fetch(topic, at(12), isolation_level=isolation), 12, but="fetch/unknown isolation level")


@pytest.mark.parametrize("wait", [0, 100, -1])
@pytest.mark.parametrize("least", [0, 1, 10 * SIZE, -1])
def test_waiting_for_more_ends(pair: Pair, topic: str, least: int, wait: int) -> None:
    pair.same(fetch(topic, at(0), min_bytes=least, max_wait_ms=wait), 11)
    pair.same(fetch(topic, at(12), min_bytes=least, max_wait_ms=wait), 11)


def test_an_error_does_not_wait(pair: Pair, topic: str) -> None:
    for wanted in (at(99), at(12, epoch=5), at(13, fetched=0)):
        pair.same(fetch(topic, at(3, partition=1), wanted, min_bytes=1, max_wait_ms=30_000), 12)


@pytest.mark.parametrize("offset", range(7))
def test_after_records_were_deleted(pair: Pair, topic_name: str, offset: int) -> None:
    pair.topic(topic_name)
    fill(pair, topic_name, *BATCHES)
    wanted = [DeleteRecordsTopic(topic_name, [DeleteRecordsPartition(0, 4)])]
    pair.same(DeleteRecordsRequest(topics=wanted, timeout_ms=5_000), 2)
    for version in (4, 5, 12):
        pair.same(fetch(topic_name, at(offset)), version)


@pytest.mark.parametrize("version", [5, 9, 10, 12])
def test_zstd_is_for_fetch_10_and_up(pair: Pair, topic_name: str, version: int) -> None:
    pair.topic(topic_name, configs={"compression.type": "producer"})
    rows = [(BASE_TIMESTAMP_MS, b"k", b"v" * 100, ())]
    fill(pair, topic_name, BATCHES[0], seal(rows, CODECS["zstd"]), BATCHES[0])
    for offset, but in ((0, "fetch/zstd behind others"), (3, "fetch/zstd first"), (4, "")):
        pair.same(fetch(topic_name, at(offset)), version, but=but if version < 10 else "")


@pytest.mark.parametrize("replica", [1, 2, 99])
def test_a_client_that_says_it_is_a_broker(pair: Pair, topic: str, replica: int) -> None:
    pair.same(fetch(topic, at(12), replica_id=replica), 4, but=f"fetch/as replica {replica}")
