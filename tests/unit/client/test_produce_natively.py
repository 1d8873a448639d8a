"""Produce requests that are written, sealed and answered without an object for each batch: the same as by the codec."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastlog.client.producer.accumulator import Accumulator
from fastlog.client.producer.batch import Batch
from fastlog.client.producer.partition_queue import PartitionQueue
from fastlog.client.producer.requests import Entry, ProduceToken, produce_request
from fastlog.native._builder import BatchBuilder
from fastlog.native._engine import seal_batch
from fastlog.native._produce import acknowledge, read_written, seal_plain
from fastlog.native._sending import Delivery, Lock
from fastlog.protocol import codec
from fastlog.protocol.messages.produce import (
    BatchIndexAndErrorMessage,
    LeaderIdAndEpoch,
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from tests.support.sending import StillProducer

LOCK = Lock()
VERSIONS = st.integers(9, 13)
#: topic, partition, and the sizes of a batch's values; one of 17,000 bytes is not copied
PLACES = st.dictionaries(
    st.tuples(st.sampled_from(("a", "topic-b", "größe", "t" * 200)), st.integers(0, 3)),
    st.lists(st.sampled_from((0, 5, 300, 17_000)), min_size=1, max_size=3),
    min_size=1,
    max_size=8,
)


def id_of(topic: str) -> bytes:
    return topic.encode()[:1] * 16


def entry(topic: str, partition: int, sizes: list[int]) -> Entry:
    """A batch that was taken, as the sender has it."""
    queue = PartitionQueue(
        topic, partition, idempotent=True, in_flight_max=5, retriable=bool, retry_delay_ms=lambda attempt: 0
    )
    queue.adopt(2**40 + 7, 3)
    builder = BatchBuilder(1 << 20)
    for number, size in enumerate(sizes):
        builder.append(b"v" * size, b"k" if number else None, [("h", b"x")], 1_000_000 + number)
    batch = Batch(topic, partition, builder, LOCK, created_ms=0)
    batch.count = len(sizes)
    queue.waiting.append(batch)
    return queue, queue.take()


def token_of(places: dict[tuple[str, int], list[int]]) -> ProduceToken:
    token = ProduceToken([entry(*place, sizes) for place, sizes in places.items()])
    assert not token.seal(0)
    return token


def request_of(token: ProduceToken, version: int) -> tuple[Any, int]:
    return token.request(-1, 30_000, version, {batch.topic: id_of(batch.topic) for _, batch in token.entries})


@settings(max_examples=40)
@given(PLACES)
def test_batches_are_sealed_alike(places: dict[tuple[str, int], list[int]]) -> None:
    for place, sizes in places.items():
        (queue, batch), (_, other) = entry(*place, sizes), entry(*place, sizes)
        assert seal_plain([(queue, batch)]) == []
        sealed = seal_batch(other.builder, producer_id=2**40 + 7, producer_epoch=3, base_sequence=0)
        assert bytes(batch.sealed) == bytes(sealed)
        assert batch.sealed_as == batch.identity


@settings(max_examples=40)
@given(PLACES, VERSIONS, st.sampled_from((None, "", "a client")))
def test_requests_are_what_the_codec_writes(places: Any, version: int, client_id: str | None) -> None:
    token = token_of(places)
    request, spoken = request_of(token, version)
    assert spoken == version
    parts = request.encode_parts(version, 77, client_id)
    plain = produce_request([batch for _, batch in token.entries], -1, 30_000)
    for topic in plain.topic_data:
        topic.topic_id = id_of(topic.name)
    assert b"".join(parts) == b"".join(codec.encode_request_parts(plain, version, 77, client_id))


def response_of(token: ProduceToken) -> ProduceResponse:
    """One that has all batches in the log, in the order of the request."""
    topics: dict[str, TopicProduceResponse] = {}
    for number, (_, batch) in enumerate(token.entries):
        topic = topics.setdefault(
            batch.topic,
            TopicProduceResponse(name=batch.topic, topic_id=id_of(batch.topic), partition_responses=[]),
        )
        topic.partition_responses.append(
            PartitionProduceResponse(
                index=batch.partition, base_offset=2**33 + number, log_append_time_ms=number - 1
            )
        )
    return ProduceResponse(responses=list(topics.values()), throttle_time_ms=5)


@settings(max_examples=40)
@given(PLACES, VERSIONS)
def test_an_answer_that_all_is_in_the_log_is_read(places: Any, version: int) -> None:
    token = token_of(places)
    request, _ = request_of(token, version)
    request.encode_parts(version, 77, None)
    frame = codec.encode_response_frame(0, version, 77, response_of(token))
    written = request.read_answer(version, frame)
    assert written is not None
    assert len(written) == len(token.entries)
    assert [written.place(index) for index in range(len(written))] == [
        (2**33 + index, index - 1) for index in range(len(token.entries))
    ]
    with pytest.raises(IndexError):
        written.place(len(written))


def spoil(response: ProduceResponse, how: str) -> None:
    topic = response.responses[-1]
    last = topic.partition_responses[-1]
    match how:
        case "refused":
            last.error_code = 6
        case "refused records":
            last.record_errors = [BatchIndexAndErrorMessage(0, "no")]
        case "a message":
            last.error_message = "no"
        case "another partition":
            last.index += 1
        case "another topic":
            topic.name, topic.topic_id = "other", b"o" * 16
        case "a batch left out":
            topic.partition_responses.pop()
        case "a batch more":
            topic.partition_responses.append(last)
        case "a topic more":
            response.responses.append(topic)


HOWS = (
    "refused",
    "refused records",
    "a message",
    "another partition",
    "another topic",
    "a batch left out",
    "a batch more",
    "a topic more",
)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("version", [9, 12, 13])
def test_any_other_answer_is_left_to_the_codec(how: str, version: int) -> None:
    token = token_of({("a", 0): [5], ("b", 0): [5], ("b", 1): [5]})
    request, _ = request_of(token, version)
    request.encode_parts(version, 77, None)
    response = response_of(token)
    spoil(response, how)
    assert request.read_answer(version, codec.encode_response_frame(0, version, 77, response)) is None


def test_a_leader_beside_an_error_is_left_to_the_codec() -> None:
    token = token_of({("a", 0): [5]})
    request, _ = request_of(token, 12)
    response = response_of(token)
    response.responses[0].partition_responses[0].current_leader = LeaderIdAndEpoch(2, 3)
    assert request.read_answer(12, codec.encode_response_frame(0, 12, 77, response)) is None


@settings(max_examples=40)
@given(VERSIONS, st.data())
def test_bytes_that_are_no_answer_are_left_to_the_codec(version: int, data: st.DataObject) -> None:
    token = token_of({("a", 0): [5], ("b", 0): [5], ("b", 1): [5]})
    request, _ = request_of(token, version)
    frame = codec.encode_response_frame(0, version, 77, response_of(token))
    cut = data.draw(st.integers(0, len(frame) - 1))
    assert request.read_answer(version, frame[:cut]) is None
    assert request.read_answer(version, frame + b"\0") is None
    at, bit = data.draw(st.integers(4, len(frame) - 1)), data.draw(st.integers(0, 7))
    flipped = bytearray(frame)
    flipped[at] ^= 1 << bit
    written = request.read_answer(version, flipped)
    if written is not None:
        # the codec finds the same there
        _, response = codec.decode_response_frame(0, version, bytes(flipped))
        said = [partition for topic in response.responses for partition in topic.partition_responses]
        assert [(one.base_offset, one.log_append_time_ms) for one in said] == [
            written.place(index) for index in range(len(written))
        ]
        assert not any(one.error_code for one in said)


def test_topics_without_known_ids_go_by_their_names() -> None:
    token = token_of({("a", 0): [5]})
    _, version = token.request(-1, 30_000, 13, None)
    assert version == 12
    assert read_written(token.entries, {}, 8, b"") is None


def test_those_that_somebody_is_to_be_told_of_are_named() -> None:
    accumulator: Accumulator = StillProducer(1).accumulator
    token = token_of({("a", 0): [5], ("a", 1): [5], ("a", 2): [5]})
    (plain, called, abandoned) = (batch for _, batch in token.entries)
    called.add_callback(lambda delivery: None, Delivery(called, 0, -1))
    abandoned.abandoned = True
    request, _ = request_of(token, 9)
    written = request.read_answer(9, codec.encode_response_frame(0, 9, 77, response_of(token)))
    with accumulator.lock:
        assert acknowledge(accumulator, token.entries, written, 8.0) == [1, 2]
    assert (plain.done, called.done, abandoned.done) == (True, False, False)
    assert plain.base_offset == 2**33
    assert [queue.in_flight for queue, _ in token.entries] == [[], [called], [abandoned]]
