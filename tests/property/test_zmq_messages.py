"""The ZeroMQ listener against any bytes in any parts: what is a request is answered as if it had come in one part, what
is none is dropped, and the next request of the same peer is answered.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

import fastlog
from tests.support.wire import (
    API_VERSIONS,
    CREATE_TOPICS,
    FETCH,
    METADATA,
    PRODUCE,
    Batch,
    produce_request,
    request,
)

WAIT_MS = 20_000
# of the control plane, which answers in order: all answers have come when this one has
PROBE_ID = 2**31 - 1
NO_TOPICS = struct.pack(">ii?", 0, 1000, True)
PROBE = request(CREATE_TOPICS, 2, NO_TOPICS, correlation_id=PROBE_ID)
# whatever comes of them, the broker is as it was
HARMLESS = [
    request(API_VERSIONS, 0, b""),
    request(API_VERSIONS, 99, b""),
    request(METADATA, 1, struct.pack(">i", 0)),
    request(METADATA, 4, struct.pack(">i?", -1, False)),
    request(FETCH, 4, struct.pack(">iiiibi", -1, 0, 1, 1000, 0, 0)),
    request(CREATE_TOPICS, 2, NO_TOPICS),
    produce_request("no-such-topic", Batch().encode()),
    request(PRODUCE, 3, b"\xff" * 20),
]


@st.composite
def messages(draw: st.DrawFn) -> list[bytes]:
    """The parts of one message: a good request, a spoilt one, or anything."""
    whole = bytearray(draw(st.sampled_from(HARMLESS) | st.binary(max_size=60)))
    for _ in range(draw(st.integers(0, 3)) if whole else 0):
        whole[draw(st.integers(0, len(whole) - 1))] = draw(st.integers(0, 255))
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    return [bytes(whole[start:end]) for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    listeners = "PLAINTEXT://127.0.0.1:0,ZMQ://127.0.0.1:0"
    with fastlog.Broker(listeners=listeners, auto_create_topics_enable="false") as broker:
        assert broker.zmq_endpoint is not None
        yield broker.zmq_endpoint


def answers(endpoint: str, sent: list[list[bytes]]) -> list[bytes]:
    """What one peer is answered, until a good request after all others is; in an order of our own."""
    found = []
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(endpoint)
        for parts in [*sent, [PROBE]]:
            dealer.send_multipart(parts)
        while True:
            assert dealer.poll(WAIT_MS), f"no answer to a good request after {sent}"
            answer = b"".join(dealer.recv_multipart())
            found.append(answer)
            if answer.startswith(PROBE_ID.to_bytes(4)):
                return sorted(found)


@settings(max_examples=60, deadline=None)
@given(sent=st.lists(messages(), max_size=12))
def test_parts_are_one_request_and_garbage_stops_nobody(endpoint: str, sent: list[list[bytes]]) -> None:
    in_parts = answers(endpoint, sent)
    assert in_parts == answers(endpoint, [[b"".join(parts)] for parts in sent])
