"""fastlog and Apache Kafka asked the same by topic id: topics that were deleted, and made again under the same name."""

from __future__ import annotations

import pytest

from fastlog.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.support.broker import wait_until
from tests.support.pair import Pair, Side
from tests.support.wire import Batch

GOOD = Batch().encode()
UNKNOWN_TOPIC_ID = 100
SESSION_TOPIC_ID_ERROR = 106


class Recreated:
    """A topic on both sides that there was before under another id."""

    def __init__(self, pair: Pair, name: str) -> None:
        self.pair = pair
        self.name = pair.topic(name)
        self.old: dict[str, bytes] = {}

    def produce(self, version: int = 13, *, old: bool = False, acks: int = -1) -> None:
        """Appends one record."""

        def make(side: Side) -> ProduceRequest:
            data = [PartitionProduceData(0, GOOD)]
            topic = TopicProduceData(name=self.name, topic_id=self.id(side, old), partition_data=data)
            return ProduceRequest(None, acks, 5_000, [topic])

        self.pair.same(make, version)

    def delete(self) -> None:
        """Deletes it by its id."""

        def make(side: Side) -> DeleteTopicsRequest:
            self.old[side.name] = self.pair.topic_id(side, self.name)
            state = DeleteTopicState(name=None, topic_id=self.old[side.name])
            return DeleteTopicsRequest(topics=[state], timeout_ms=10_000)

        self.pair.same(make, 6)
        for side in self.pair.sides:
            # Kafka tells its broker some milliseconds after it told the client
            wait_until("the broker knows", lambda side=side: self.code(side) == UNKNOWN_TOPIC_ID)

    def code(self, side: Side) -> int:
        """What is said of the id that was deleted: by Metadata, and until it says so by Fetch too."""
        wanted = MetadataRequestTopic(topic_id=self.old[side.name], name=None)
        known = side.ask(MetadataRequest([wanted], allow_auto_topic_creation=False), 12).topics[0].error_code
        fetched = side.ask(self.fetch(side, old=True), 13).responses[0].partitions[0].error_code
        return int(fetched if known == UNKNOWN_TOPIC_ID else known)

    def again(self) -> None:
        """Deletes it, and makes one of the same name."""
        self.delete()
        self.pair.topic(self.name)

    def id(self, side: Side, old: bool = False) -> bytes:
        """The id that it has, or had."""
        return self.old[side.name] if old else self.pair.topic_id(side, self.name)

    def fetch(self, side: Side, *, old: bool = False, offset: int = 0, epoch: int = -1) -> FetchRequest:
        """A fetch of its partition; in a session unless `epoch` is -1, and of nothing where the offset is negative."""
        part = FetchPartition(0, fetch_offset=offset, partition_max_bytes=1000)
        topic = {"topic": self.name, "topic_id": self.id(side, old)}
        return FetchRequest(
            session_id=side.notes.get(self.name, 0) if epoch >= 0 else 0,
            session_epoch=epoch,
            topics=[FetchTopic(**topic, partitions=[part])] if offset >= 0 else [],
        )

    def ask(
        self,
        version: int,
        *,
        old: bool = False,
        offset: int = 0,
        epoch: int = -1,
        but: str = "",
    ) -> list[int]:
        """Compares the answers to a fetch; the error codes of the partitions that ours names."""

        def make(side: Side) -> FetchRequest:
            return self.fetch(side, old=old, offset=offset, epoch=epoch)

        answers = self.pair.same(make, version, but=but)
        for side, answer in zip(self.pair.sides, answers, strict=True):
            if epoch == 0:
                side.notes[self.name] = answer.session_id
        ours = answers[1]
        return (
            [ours.error_code] if ours.error_code else [it.partitions[0].error_code for it in ours.responses]
        )


@pytest.fixture
def topic(pair: Pair, topic_name: str) -> Recreated:
    return Recreated(pair, topic_name)


@pytest.mark.parametrize("acks", [-1, 1, 0])
def test_the_old_id_is_not_written_to(topic: Recreated, acks: int) -> None:
    topic.produce()
    topic.delete()
    topic.produce(old=True, acks=acks)
    topic.pair.topic(topic.name)
    topic.produce(old=True, acks=acks)
    topic.produce()
    assert topic.ask(13, offset=1) == [0]
    # the name means the new one
    topic.produce(version=12)
    assert topic.ask(12, offset=2) == [0]


@pytest.mark.parametrize("version", [13, 16, 18])
def test_the_old_id_is_not_read_from(topic: Recreated, version: int) -> None:
    topic.produce()
    topic.again()
    assert topic.ask(version, old=True) == [UNKNOWN_TOPIC_ID]
    assert topic.ask(version) == [0]


def test_metadata_of_the_old_id(topic: Recreated) -> None:
    topic.again()

    def make(side: Side) -> MetadataRequest:
        wanted = [MetadataRequestTopic(topic_id=topic.id(side, old), name=None) for old in (True, False)]
        return MetadataRequest(topics=wanted, allow_auto_topic_creation=False)

    for version in (12, 13):
        topic.pair.same(make, version)


@pytest.mark.parametrize("version", [13, 18])
def test_a_session_goes_on_when_its_topic_is_deleted(topic: Recreated, version: int) -> None:
    topic.produce()
    assert topic.ask(version, epoch=0) == [0]
    topic.delete()
    but = "fetch/deleted id in a session"
    assert topic.ask(version, epoch=1, offset=-1, but=but) == [UNKNOWN_TOPIC_ID]
    topic.pair.topic(topic.name)
    but = "fetch/recreated topic's old id in a session"
    assert topic.ask(version, epoch=2, offset=-1, but=but) == [UNKNOWN_TOPIC_ID]
    # the new one is taken in beside it
    assert sorted(topic.ask(version, epoch=3, but=but)) == [0, UNKNOWN_TOPIC_ID]


@pytest.mark.parametrize("version", [7, 12])
def test_a_session_of_names_goes_on_with_the_new_topic(topic: Recreated, version: int) -> None:
    topic.produce()
    assert topic.ask(version, epoch=0, offset=1) == [0]
    topic.again()
    topic.ask(version, epoch=1, offset=0)
    topic.produce()
    assert topic.ask(version, epoch=2, offset=-1) == [0]


@pytest.mark.parametrize(("first", "then"), [(12, 13), (13, 12), (7, 18), (18, 11)])
@pytest.mark.parametrize("offset", [0, -1], ids=["of a topic", "of nothing new"])
def test_a_session_has_names_or_ids(topic: Recreated, first: int, then: int, offset: int) -> None:
    topic.ask(first, epoch=0)
    assert topic.ask(then, epoch=1, offset=offset) == [SESSION_TOPIC_ID_ERROR]
    # the session is as it was
    assert topic.ask(first, epoch=1, offset=-1) in ([], [0])
    # to end it or to begin another is no mixture
    assert topic.ask(then, epoch=0) == [0]
