"""Batches that `send` opens without Python are the same as those that Python opens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlog.errors import BufferFullError, ClosedError, MessageTooLargeError
from tests.support.sending import TOPIC, StillProducer

SENDS = st.lists(
    st.tuples(
        st.sampled_from((0, 1, 90, 400, 900, 2_000)),
        st.sampled_from((None, b"", b"k", b"another key")),
        st.none() | st.integers(0, 39),
        st.sampled_from((None, [("name", b"content")])),
    ),
    max_size=120,
)


def shape(producer: StillProducer) -> list[Any]:
    """All batches, with what each holds of the buffer, and the room that is left."""
    return [
        [
            (batch.builder.count, batch.size_bytes, batch.builder.limit_bytes, batch.reserved_bytes)
            for batch in queue.waiting
        ]
        for queue in producer.queues.queues
    ] + [producer.accumulator.buffered_bytes]


@given(SENDS, st.sampled_from((1, 3, 40)), st.sampled_from((8_000, 40_000, 1 << 20)))
def test_they_are_the_same(sends: list[Any], partitions: int, buffer_bytes: int) -> None:
    natively, plainly = (
        StillProducer(partitions, opens_natively=opens, buffer_bytes=buffer_bytes) for opens in (True, False)
    )

    def send(producer: StillProducer, size: int, key: Any, partition: Any, headers: Any) -> Any:
        try:
            delivery = producer.send(
                TOPIC, b"x" * size, key=key, partition=partition, headers=headers, timestamp_ms=7
            )
        except BufferFullError as error:
            return str(error)
        return delivery.batch.partition, delivery.index

    for size, key, partition, headers in sends:
        to = None if partition is None else partition % partitions
        assert send(natively, size, key, to, headers) == send(plainly, size, key, to, headers)
        assert shape(natively) == shape(plainly)
    assert natively.settle() == plainly.settle()


def test_what_needs_a_word_is_left_to_python() -> None:
    producer = StillProducer(1, opens_natively=True, buffer_bytes=3_000)
    with pytest.raises(MessageTooLargeError, match="max_request_bytes=5000"):
        producer.send(TOPIC, bytes(6_000))
    with pytest.raises(TypeError, match="not str: encode it"):
        producer.send(TOPIC, "text")  # type: ignore[arg-type]
    assert producer.accumulator.buffered_bytes == 0
    producer.send(TOPIC, bytearray(900))
    producer.send(TOPIC, memoryview(bytes(900)))
    with pytest.raises(BufferFullError, match="buffer_bytes=3000"):
        producer.send(TOPIC, bytes(900))
    producer.accumulator.refuse(ClosedError("over"))
    with pytest.raises(ClosedError, match="over"):
        producer.send(TOPIC, b"x")
