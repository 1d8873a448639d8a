"""fastlog and Apache Kafka asked the same: ListOffsets, OffsetForLeaderEpoch, DeleteRecords."""

from __future__ import annotations

import time

import pytest

from fastlog.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from fastlog.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from fastlog.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.support.batches import CODECS, Row, seal
from tests.support.pair import Pair
from tests.support.samples import BASE_TIMESTAMP_MS as T

VERSIONS = range(1, 12)
# out of order within and between batches, and the largest twice
TIMES = ([T + 10, T + 5, T + 20], [T + 1, T + 2], [T + 30, T + 15, T + 30], [T + 25])


def fill(pair: Pair, topic: str, codec: int, *, times: tuple[list[int], ...] = TIMES) -> None:
    for batch in times:
        rows: list[Row] = [(each, b"k", b"v", ()) for each in batch]
        data = [PartitionProduceData(0, seal(rows, codec))]
        wanted = [TopicProduceData(name=topic, partition_data=data)]
        pair.same(ProduceRequest(None, -1, 5_000, wanted), 9)


@pytest.fixture(scope="module", params=["none", "gzip", "zstd"])
def topic(pair: Pair, request: pytest.FixtureRequest) -> str:
    name = pair.topic(f"differential-offsets-{time.time_ns()}")
    fill(pair, name, CODECS[request.param])
    return name


@pytest.fixture(scope="module")
def empty(pair: Pair) -> str:
    return pair.topic(f"differential-empty-{time.time_ns()}")


def ask(
    topic: str, *timestamps: int, epoch: int = -1, isolation: int = 0, replica: int = -1
) -> ListOffsetsRequest:
    partitions = [ListOffsetsPartition(0, epoch, timestamp) for timestamp in timestamps]
    return ListOffsetsRequest(replica, isolation, [ListOffsetsTopic(topic, partitions)])


@pytest.mark.parametrize("isolation", [0, 1])
@pytest.mark.parametrize("timestamp", [-1, -2, -3, -4, -5, -6, -7, -100])
@pytest.mark.parametrize("version", VERSIONS)
def test_ends_and_other_special_timestamps(
    pair: Pair, topic: str, empty: str, version: int, timestamp: int, isolation: int
) -> None:
    pair.same(ask(topic, timestamp, isolation=isolation), version)
    pair.same(ask(empty, timestamp, isolation=isolation), version)


@pytest.mark.parametrize("after", [None, *range(33)])
def test_the_first_record_that_is_not_older(pair: Pair, topic: str, empty: str, after: int | None) -> None:
    for timestamp in (0, 2**63 - 1) if after is None else (T + after,):
        for version in (1, 4, 7, 11):
            pair.same(ask(topic, timestamp), version)
        pair.same(ask(empty, timestamp), 7)


@pytest.mark.parametrize("epoch", [-1, 0, 1, 9, -2])
def test_leader_epochs(pair: Pair, topic: str, epoch: int) -> None:
    for version in (3, 4, 7, 11):
        for timestamp in (-1, -2, T + 5):
            pair.same(ask(topic, timestamp, epoch=epoch), version)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_there(pair: Pair, topic: str, version: int) -> None:
    pair.same(ask("no-such-topic", -1), version)
    pair.same(ask("../x", -1), version)
    pair.same(
        ListOffsetsRequest(-1, 0, [ListOffsetsTopic(topic, [ListOffsetsPartition(5, -1, -1)])]), version
    )
    pair.same(ListOffsetsRequest(-1, 0, []), version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_partition_twice(pair: Pair, topic: str, version: int) -> None:
    pair.same(ask(topic, -1, -2), version)


def test_after_records_were_deleted(pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name)
    fill(pair, topic_name, 0)
    delete(pair, topic_name, 4)
    for timestamp in (-1, -2, -3, -4, -5, -6, 0, T + 1, T + 11, T + 20, T + 30, T + 31):
        pair.same(ask(topic_name, timestamp), 11)
    delete(pair, topic_name, -1)
    for timestamp in (-1, -2, -4, 0, T + 30):
        pair.same(ask(topic_name, timestamp), 11)
    pair.same(ask(topic_name, -3), 7, but="list offsets/largest timestamp of deleted records")


def delete(pair: Pair, topic: str, *offsets: int, partition: int = 0, version: int = 2) -> None:
    wanted = [DeleteRecordsPartition(partition, offset) for offset in offsets]
    pair.same(DeleteRecordsRequest(topics=[DeleteRecordsTopic(topic, wanted)], timeout_ms=5_000), version)


@pytest.mark.parametrize("version", range(3))
def test_delete_records(pair: Pair, topic_name: str, version: int) -> None:
    pair.topic(topic_name)
    fill(pair, topic_name, 0)
    for offset in (0, 4, 2, 10, -2, 9, -1, 9, 3):
        delete(pair, topic_name, offset, version=version)
    delete(pair, topic_name, 1, partition=4, version=version)
    delete(pair, topic_name, 1, partition=-1, version=version)
    delete(pair, "no-such-topic", 1, version=version)
    pair.same(DeleteRecordsRequest(topics=[], timeout_ms=5_000), version)


def test_delete_records_of_a_topic_that_is_only_compacted(pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name, configs={"cleanup.policy": "compact"})
    delete(pair, topic_name, 0)
    delete(pair, topic_name, -1)


def test_delete_records_of_a_topic_that_is_compacted_and_deleted(pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name, configs={"cleanup.policy": "compact,delete"})
    fill(pair, topic_name, 0)
    delete(pair, topic_name, 3)


@pytest.mark.parametrize("current", [-1, 0, 3])
@pytest.mark.parametrize("epoch", [0, 1, 5, -1])
@pytest.mark.parametrize("version", [2, 3, 4])
def test_where_a_leader_epoch_ends(
    pair: Pair, topic: str, empty: str, version: int, epoch: int, current: int
) -> None:
    for name in (topic, empty, "no-such-topic"):
        partitions = [OffsetForLeaderPartition(index, current, epoch) for index in (0, 8)]
        pair.same(OffsetForLeaderEpochRequest(-1, [OffsetForLeaderTopic(name, partitions)]), version)


def test_where_an_impossible_leader_epoch_ends(pair: Pair, topic: str) -> None:
    asked = [OffsetForLeaderTopic(topic, [OffsetForLeaderPartition(0, -1, -2)])]
    pair.same(OffsetForLeaderEpochRequest(-1, asked), 4, but="leader epoch/-2")
