"""fastlog and Apache Kafka asked the same: what idempotent producers may send."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from fastlog.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.support.pair import Pair
from tests.support.wire import Batch, record

INT_MAX = 2**31 - 1


class Producer:
    """Sends batches of one producer id to both brokers, whose answers must be the same."""

    def __init__(self, pair: Pair, topic: str, producer_id: int) -> None:
        self.pair = pair
        self.topic = topic
        self.producer_id = producer_id

    def send(
        self, sequence: int, *, epoch: int = 0, count: int = 1, value: bytes = b"v", again: bool = False
    ) -> int:
        """The error code that both answered; `again` says that the batch is a duplicate."""
        records = [record(delta, value) for delta in range(count)]
        batch = Batch(
            records, producer_id=self.producer_id, producer_epoch=epoch, base_sequence=sequence
        ).encode()
        data = [PartitionProduceData(0, batch)]
        wanted = ProduceRequest(None, -1, 5_000, [TopicProduceData(name=self.topic, partition_data=data)])
        answer = self.pair.same(wanted, 8, but="produce/sent again" if again else "")[1]
        code: int = answer.responses[0].partition_responses[0].error_code
        return code


@pytest.fixture(scope="module")
def topic(pair: Pair) -> str:
    return pair.topic(f"differential-idempotence-{time.time_ns()}")


@pytest.fixture(scope="module")
def ids() -> Iterator[int]:
    return itertools.count(1_000_000)


@pytest.fixture
def producer(pair: Pair, topic: str, ids: Iterator[int]) -> Producer:
    return Producer(pair, topic, next(ids))


def test_batches_in_order(producer: Producer) -> None:
    assert [producer.send(sequence, count=3) for sequence in range(0, 30, 3)] == [0] * 10


@pytest.mark.parametrize("back", range(1, 8))
def test_a_duplicate_of_the_last_batches_gets_its_first_answer(producer: Producer, back: int) -> None:
    for sequence in range(7):
        producer.send(sequence)
    code = producer.send(7 - back, again=back <= 5)
    assert code == (0 if back <= 5 else 45)
    producer.send(7)


def test_a_duplicate_with_other_records(producer: Producer) -> None:
    producer.send(0, value=b"a")
    assert producer.send(0, value=b"b", again=True) == 0


def test_batches_that_overlap_what_is_there(producer: Producer) -> None:
    producer.send(0, count=5)
    for sequence, count in ((0, 3), (2, 3), (2, 8), (0, 6), (4, 1)):
        producer.send(sequence, count=count)
    assert producer.send(5) == 0


def test_a_duplicate_of_two_batches_together(producer: Producer) -> None:
    producer.send(0, count=2)
    producer.send(2, count=2)
    producer.send(0, count=4)


@pytest.mark.parametrize("sequence", [2, 5, INT_MAX])
def test_a_gap(producer: Producer, sequence: int) -> None:
    producer.send(0)
    assert producer.send(sequence) == 45
    assert producer.send(1) == 0


@pytest.mark.parametrize("sequence", [0, 1, 77, INT_MAX])
def test_a_producer_that_nobody_knows_starts_anywhere(producer: Producer, sequence: int) -> None:
    assert producer.send(sequence) == 0


def test_sequences_wrap_to_0(producer: Producer) -> None:
    producer.send(INT_MAX - 1)
    assert producer.send(INT_MAX) == 0
    assert producer.send(0) == 0
    assert producer.send(1) == 0
    assert producer.send(INT_MAX, again=True) == 0


def test_one_batch_wraps(producer: Producer) -> None:
    producer.send(INT_MAX - 2)
    assert producer.send(INT_MAX - 1, count=4) == 0
    assert producer.send(INT_MAX - 1, count=4, again=True) == 0
    assert producer.send(2) == 0
    producer.send(INT_MAX)


def test_a_new_epoch_starts_at_0(producer: Producer) -> None:
    producer.send(0, epoch=3)
    producer.send(1, epoch=3)
    assert producer.send(2, epoch=4) == 45
    assert producer.send(0, epoch=4) == 0
    assert producer.send(1, epoch=4) == 0


def test_an_old_epoch_is_refused(producer: Producer) -> None:
    producer.send(0, epoch=3)
    for sequence in (0, 1, 7):
        assert producer.send(sequence, epoch=2) == 47
    assert producer.send(1, epoch=3) == 0


def test_an_epoch_that_jumps(producer: Producer) -> None:
    producer.send(0)
    assert producer.send(0, epoch=32_767) == 0


def test_two_producers_do_not_know_each_other(pair: Pair, topic: str, ids: Iterator[int]) -> None:
    first, second = (Producer(pair, topic, next(ids)) for _ in range(2))
    assert [first.send(0), second.send(0), first.send(1), second.send(1), second.send(3)] == [0, 0, 0, 0, 45]


def test_two_partitions_do_not_know_each_other(pair: Pair, topic_name: str, ids: Iterator[int]) -> None:
    pair.topic(topic_name, 2)
    producer_id = next(ids)
    batches = [
        Batch(producer_id=producer_id, producer_epoch=0, base_sequence=sequence).encode()
        for sequence in (0, 5)
    ]
    data = [PartitionProduceData(index, batch) for index, batch in enumerate(batches)]
    wanted = [TopicProduceData(name=topic_name, partition_data=data)]
    pair.same(ProduceRequest(None, -1, 5_000, wanted), 8)
    pair.same(ProduceRequest(None, -1, 5_000, wanted), 8, but="produce/two sent again")


def test_after_all_records_were_deleted(pair: Pair, topic_name: str, ids: Iterator[int]) -> None:
    producer = Producer(pair, pair.topic(topic_name), next(ids))
    for sequence in range(3):
        producer.send(sequence)
    everything = [DeleteRecordsTopic(topic_name, [DeleteRecordsPartition(0, -1)])]
    pair.same(DeleteRecordsRequest(topics=everything, timeout_ms=5_000), 2)
    producer.send(1, again=True)
    producer.send(9)
    producer.send(3)
