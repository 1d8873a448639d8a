"""Who is asked for damaged records, what is done with the answers, and what is told."""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from fastlog.broker.peers.messages import AskVerified
from fastlog.broker.replicas.following import FETCH_VERSION
from fastlog.broker.replicas.mending import BYTES_MAX, RETRY_MS, VERIFY_AGAIN_MS, Mender
from fastlog.broker.replicas.settings import ReplicaSettings
from fastlog.broker.replicas.view import View
from fastlog.errors import InvalidRequestError, KafkaStorageError
from fastlog.ports import PartitionState, Registration, Topic
from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import decode_request, decode_request_header, encode_response_frame
from fastlog.protocol.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from fastlog.transport.channel import ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ME = 1
TOPIC = UUID(int=7)
OFFSET, NEXT = 40, 42


def batch(offset: int) -> bytes:
    """As much of one as is looked at: one record at the offset."""
    return struct.pack(">qi11xi34x", offset, 49, 0)


class World:
    """An engine with one damaged range, and other brokers that answer at once."""

    def __init__(self) -> None:
        self.found = 0
        self.left = True
        self.size_bytes = 2 * len(batch(0))
        self.mended: list[bytes] = []
        self.asked: list[tuple[int, int]] = []
        self.holds: dict[int, dict[int, bytes] | Exception] = {}
        self.now_ms = 0
        self.address = "zmq://other"
        self.has_room = True
        self.verified: list[int] = []
        self._at = 0
        self._answers: list[bytes] = []

    # --- the engine ---

    def damages_found(self) -> int:
        return self.found

    def damaged(self) -> list[tuple[str, bytes, int, int, int, int, str]]:
        damaged = ("t", TOPIC.bytes, 0, OFFSET, NEXT, self.size_bytes, "it is damaged")
        return [damaged] if self.left else []

    def verify(self, topic: str, topic_id: bytes, partition: int, offset: int) -> bool:
        assert (topic, topic_id, partition) == ("t", TOPIC.bytes, 0)
        self.verified.append(offset)
        return self.has_room

    def mend(self, topic: str, topic_id: bytes, partition: int, offset: int, records: bytes) -> None:
        assert (topic, topic_id, partition, offset) == ("t", TOPIC.bytes, 0, OFFSET)
        if records != batch(OFFSET) + batch(OFFSET + 1):
            raise InvalidRequestError("they do not fit")
        self.mended.append(records)
        self.left = False

    # --- the clock ---

    def monotonic_ms(self) -> int:
        return self.now_ms

    # --- the channels ---

    def open(self, host: str, port: int) -> World:
        self._at = port
        return self

    def advance(self) -> None: ...
    def close(self) -> None: ...

    def send(self, *parts: bytes) -> None:
        frame = b"".join(parts)
        key, version, correlation_id, _, body = decode_request_header(frame)
        assert (key, version) == (ApiKey.FETCH, FETCH_VERSION)
        request = decode_request(key, version, frame, body)
        assert request.replica_state.replica_id == -1, "it does not count as a follower's fetch"
        offset = request.topics[0].partitions[0].fetch_offset
        self.asked.append((self._at, offset))
        held = self.holds.get(self._at, {})
        if isinstance(held, Exception):
            raise held
        data = PartitionData(records=held.get(offset))
        if offset not in held:
            data.error_code = KafkaStorageError.code
        topics = [FetchableTopicResponse(topic_id=TOPIC.bytes, partitions=[data])]
        response = FetchResponse(responses=topics)
        self._answers.append(encode_response_frame(key, FETCH_VERSION, correlation_id, response))

    def receive(self) -> Sequence[bytes]:
        answers, self._answers = self._answers, []
        return answers


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def mender(world: World) -> Iterator[Mender]:
    state = PartitionState(replicas=(4, 1, 2, 3), leader=3, leader_epoch=0, isr=(3, 1, 2))
    topic = Topic(name="t", topic_id=TOPIC, partitions=(state,))
    brokers = {
        it: Registration(
            broker_id=it, broker_epoch=it, incarnation=TOPIC, endpoints={"BROKER": ("127.0.0.1", it)}
        )
        for it in (1, 2, 3, 4)
    }
    view = View(by_id={TOPIC: topic}, brokers=brokers)
    engine: Any = world
    made = Mender(ME, engine, lambda: view, engine.open, ReplicaSettings(), engine)
    yield made
    made.close()


def test_nothing_is_looked_at_before_damage_is_found(world: World, mender: Mender) -> None:
    mender.mend_all()
    assert world.asked == []


def test_the_leader_is_asked_first_and_one_answer_after_the_other_is_taken(
    world: World, mender: Mender
) -> None:
    # the second answer has more than was wanted, and a part of a batch
    world.holds[3] = {OFFSET: batch(OFFSET), OFFSET + 1: batch(OFFSET + 1) + batch(NEXT)[:30]}
    world.found = 1
    mender.mend_all()
    assert world.asked == [(3, OFFSET), (3, OFFSET + 1)]
    assert world.mended == [batch(OFFSET) + batch(OFFSET + 1)]
    mender.mend_all()
    assert len(world.asked) == 2, "nothing is left"


def test_whoever_has_it_is_found(world: World, mender: Mender) -> None:
    world.holds |= {
        2: ConnectionLostError("it is away"),
        3: {OFFSET: batch(OFFSET + 7), OFFSET + 8: batch(OFFSET + 8)},
        4: {OFFSET: batch(OFFSET) + batch(OFFSET + 1)},
    }
    world.found = 1
    mender.mend_all()
    assert [at for at, _ in world.asked] == [3, 2, 4], "the leader, those in sync, the others"
    assert len(world.mended) == 1


def test_what_nobody_has_is_told_once_and_tried_again(
    world: World, mender: Mender, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    world.found = 1
    mender.mend_all()
    asked = len(world.asked)
    assert asked == 3
    world.now_ms += RETRY_MS - 1
    mender.mend_all()
    assert len(world.asked) == asked
    world.now_ms += 1
    mender.mend_all()
    assert len(world.asked) == 2 * asked
    assert len([it for it in caplog.records if "could not be mended" in it.getMessage()]) == 1
    world.holds[2] = {OFFSET: batch(OFFSET) + batch(OFFSET + 1)}
    world.now_ms += RETRY_MS
    mender.mend_all()
    assert len(world.mended) == 1


def test_too_much_is_not_fetched_into_memory(world: World, mender: Mender) -> None:
    world.size_bytes = BYTES_MAX + 1
    world.found = 1
    mender.mend_all()
    assert world.asked == []


def test_after_a_stop_nothing_begins(world: World, mender: Mender) -> None:
    world.found = 1
    mender.stop()
    mender.mend_all()
    assert world.asked == []


def test_what_followers_report_is_looked_at_once_in_a_while_and_again_where_too_much_waited(
    world: World, mender: Mender
) -> None:
    report = AskVerified(topic_id=TOPIC, partition=0, offset=OFFSET)
    world.has_room = False
    for count in (1, 2):
        mender.report(report, lambda _: None)
        mender.mend_all()
        assert world.verified == [OFFSET] * count
    world.has_room = True
    for _ in range(3):
        mender.report(report, lambda _: None)
        mender.mend_all()
    assert world.verified == [OFFSET] * 3
    world.now_ms = VERIFY_AGAIN_MS
    mender.report(report, lambda _: None)
    mender.mend_all()
    assert world.verified == [OFFSET] * 4
