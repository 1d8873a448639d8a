"""fastlog and Apache Kafka asked the same: fetch sessions."""

from __future__ import annotations

import pytest

from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.support.pair import IDS_FROM, Pair, Side
from tests.support.wire import Batch

GOOD = Batch().encode()


class Sessions:
    """One session on each side, which must answer alike."""

    def __init__(self, pair: Pair, topic: str, version: int) -> None:
        self.pair = pair
        self.topic = topic
        self.version = version

    def ask(
        self,
        epoch: int,
        *offsets: tuple[int, int],
        forget: tuple[int, ...] = (),
        strange: int = 0,
        but: str = "",
    ) -> None:
        """Fetches (partition, offset) pairs; the ids are each side's own plus `strange`."""
        partitions = [
            FetchPartition(index, fetch_offset=offset, partition_max_bytes=1000) for index, offset in offsets
        ]
        topics = [FetchTopic(topic=self.topic, partitions=partitions)] if partitions else []
        forgotten = [ForgottenTopic(topic=self.topic, partitions=list(forget))] if forget else []

        def make(side: Side) -> FetchRequest:
            wanted = FetchRequest(
                session_id=side.notes.get(self.topic, 0) + strange,
                session_epoch=epoch,
                topics=topics,
                forgotten_topics_data=forgotten,
            )
            return self.pair.by_id(wanted)(side) if self.version >= IDS_FROM else wanted

        answers = self.pair.same(make, self.version, but=but)
        for side, answer in zip(self.pair.sides, answers, strict=True):
            if epoch == 0 and not strange:
                side.notes[self.topic] = answer.session_id

    def produce(self, partition: int) -> None:
        """Appends one record."""
        data = [TopicProduceData(name=self.topic, partition_data=[PartitionProduceData(partition, GOOD)])]
        self.pair.same(ProduceRequest(None, -1, 5_000, data), 9)


@pytest.fixture(params=[7, 11, 12, 18])
def sessions(pair: Pair, topic_name: str, request: pytest.FixtureRequest) -> Sessions:
    return Sessions(pair, pair.topic(topic_name, 3), request.param)


def test_a_session_names_what_changed(sessions: Sessions) -> None:
    sessions.ask(0, (0, 0), (1, 0), (2, 0))
    sessions.ask(1)
    sessions.produce(1)
    sessions.ask(2)
    sessions.ask(3)
    sessions.ask(4, (1, 1))
    sessions.ask(5)
    sessions.produce(0)
    sessions.produce(2)
    sessions.ask(6)


def test_the_high_watermark_alone_moved(sessions: Sessions) -> None:
    sessions.produce(0)
    sessions.ask(0, (0, 1), (1, 0))
    sessions.produce(0)
    sessions.ask(1, (0, 2))
    sessions.ask(2)


def test_partitions_are_added_and_forgotten(sessions: Sessions) -> None:
    sessions.ask(0, (0, 0))
    sessions.ask(1, (1, 0))
    sessions.ask(2, forget=(0,))
    sessions.produce(0)
    sessions.produce(1)
    sessions.ask(3)
    sessions.ask(4, (0, 0), forget=(1,))
    sessions.ask(5, (2, 0), forget=(2,))


def test_the_last_partition_is_forgotten(sessions: Sessions) -> None:
    sessions.ask(0, (0, 0))
    sessions.ask(1, forget=(0,))
    sessions.ask(2)


@pytest.mark.parametrize("epoch", [0, 2, 3, 100, 2**31 - 1, -2])
def test_another_epoch_than_the_next(sessions: Sessions, epoch: int) -> None:
    sessions.ask(0, (0, 0))
    if epoch != 0:
        sessions.ask(epoch)
    sessions.ask(1)
    sessions.ask(1)


def test_an_id_that_is_not_known(sessions: Sessions) -> None:
    sessions.ask(0, (0, 0))
    for epoch in (1, 0, -1):
        sessions.ask(epoch, (0, 0), strange=1)
    sessions.ask(1)


def test_a_session_is_closed(sessions: Sessions) -> None:
    sessions.ask(0, (0, 0))
    sessions.ask(-1)
    sessions.ask(1)


def test_a_session_is_closed_with_a_last_full_fetch(sessions: Sessions) -> None:
    sessions.ask(0, (0, 0))
    sessions.ask(-1, (0, 0), (1, 0))
    sessions.ask(1, (0, 0))


def test_a_session_is_replaced_by_a_new_one(sessions: Sessions) -> None:
    sessions.ask(0, (0, 0))
    sessions.ask(0, (1, 0))
    sessions.ask(1)


def test_a_session_of_nothing_is_none(sessions: Sessions) -> None:
    sessions.ask(0, but="fetch/session of nothing")


@pytest.mark.parametrize(
    "wrong", [(0, 99), (9, 0), (0, -1)], ids=["above the log", "unknown partition", "below the log"]
)
def test_an_error_is_told_again_and_again(sessions: Sessions, wrong: tuple[int, int]) -> None:
    sessions.ask(0, (0, 0), (1, 0))
    sessions.ask(1, wrong)
    sessions.ask(2)
    sessions.ask(3, (0, 0))
    sessions.ask(4)


def test_partitions_of_unknown_topics(pair: Pair, sessions: Sessions) -> None:
    unknown = Sessions(pair, f"{sessions.topic}-none", sessions.version)
    unknown.ask(0, (0, 0))
    unknown.ask(1)
    unknown.ask(2)


@pytest.mark.parametrize("version", [4, 6])
def test_there_are_no_sessions_before_version_7(pair: Pair, topic_name: str, version: int) -> None:
    Sessions(pair, pair.topic(topic_name), version).ask(0, (0, 0))
