"""Versions, correlation, deadlines and the end of a connection, over a channel in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from fastlog.client.link import Link
from fastlog.errors import UnsupportedVersionError
from fastlog.protocol import codec
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.api_versions import ApiVersion, ApiVersionsResponse
from fastlog.protocol.messages.metadata import MetadataRequest, MetadataResponse
from fastlog.transport.channel import Bytes, ConnectionLostError


class MemoryChannel:
    """A channel whose other end is the test."""

    address = "broker:1"

    def __init__(self) -> None:
        self.connected = True
        self.sent: list[bytes] = []
        self.incoming: list[Bytes] = []
        self.ended = False
        self.closed = False

    def descriptors(self) -> Sequence[tuple[int, int]]:
        return []

    def advance(self) -> None:
        pass

    def send(self, message: Bytes) -> None:
        self.sent.append(bytes(message))

    def receive(self) -> list[Bytes]:
        messages, self.incoming = self.incoming, []
        if self.ended and not messages:
            raise ConnectionLostError("ended")
        return messages

    def pending(self) -> bool:
        return bool(self.incoming)

    def backlog(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True

    def requests(self) -> list[tuple[int, int, int]]:
        """(key, version, correlation id) of what was sent."""
        return [codec.decode_request_header(message)[:3] for message in self.sent]

    def answer(self, response: Any, version: int, correlation_id: int) -> None:
        self.incoming.append(codec.encode_response_frame(response.API_KEY, version, correlation_id, response))


def new_link(channel: MemoryChannel) -> Link:
    return Link(channel, client_id="me", now_ms=0, connect_timeout_ms=100, request_timeout_ms=1000)


def ready_link(channel: MemoryChannel) -> Link:
    link = new_link(channel)
    link.process(0)
    versions = [
        ApiVersion(api_key=3, min_version=0, max_version=9),
        ApiVersion(api_key=0, min_version=3, max_version=13),
        ApiVersion(api_key=60, min_version=2, max_version=2),
    ]
    channel.answer(ApiVersionsResponse(api_keys=versions), 3, 0)
    assert link.process(0) == []
    assert link.ready
    return link


def test_the_highest_common_version_is_used() -> None:
    link = ready_link(MemoryChannel())
    assert link.version(ApiKey.METADATA) == 9
    assert link.version(ApiKey.PRODUCE) == 13
    with pytest.raises(UnsupportedVersionError, match="DESCRIBE_CLUSTER 2-2, this client 0-0"):
        link.version(ApiKey.DESCRIBE_CLUSTER)
    with pytest.raises(UnsupportedVersionError, match="does not know the request DELETE_TOPICS"):
        link.version(ApiKey.DELETE_TOPICS)


def test_a_broker_that_does_not_know_the_version_of_the_greeting_is_asked_again_with_0() -> None:
    channel = MemoryChannel()
    link = new_link(channel)
    link.process(0)
    channel.answer(ApiVersionsResponse(error_code=35), 0, 0)
    link.process(1)
    assert channel.requests() == [(18, 3, 0), (18, 0, 1)]
    channel.answer(ApiVersionsResponse(api_keys=[ApiVersion(api_key=3, min_version=1, max_version=4)]), 0, 1)
    link.process(2)
    assert link.version(ApiKey.METADATA) == 4


def test_answers_are_matched_whatever_their_order() -> None:
    channel = MemoryChannel()
    link = ready_link(channel)
    link.send(MetadataRequest(), 9, "first", 0)
    link.send(MetadataRequest(), 9, "second", 0)
    channel.answer(MetadataResponse(cluster_id="b"), 9, 2)
    channel.answer(MetadataResponse(cluster_id="a"), 9, 1)
    assert [(answer.token, answer.message.cluster_id) for answer in link.process(0)] == [
        ("second", "b"),
        ("first", "a"),
    ]
    assert not link.unanswered


def test_answers_before_the_end_count_and_the_rest_stays_listed() -> None:
    channel = MemoryChannel()
    link = ready_link(channel)
    for token in ("first", "second"):
        link.send(MetadataRequest(), 9, token, 0)
    channel.answer(MetadataResponse(), 9, 1)
    channel.incoming.append(b"\0")
    assert [answer.token for answer in link.process(0)] == ["first"]
    with pytest.raises(ConnectionLostError):
        link.process(0)
    assert [request.token for request in link.unanswered.values()] == ["second"]


def test_a_request_that_is_not_answered_in_time_ends_the_connection() -> None:
    channel = MemoryChannel()
    link = ready_link(channel)
    link.send(MetadataRequest(), 9, "x", 50)
    assert link.next_deadline_ms() == 1050
    assert link.process(1049) == []
    with pytest.raises(ConnectionLostError, match="did not answer METADATA in time"):
        link.process(1050)


def test_a_broker_that_is_silent_at_first_is_given_up() -> None:
    link = new_link(MemoryChannel())
    link.process(99)
    with pytest.raises(ConnectionLostError, match="within 100 ms"):
        link.process(100)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"\0\0", "does not speak Kafka"),
        (b"\0\0\0\x09rest", "never sent"),
        (b"\0\0\0\x01\xff\xff", "cannot be read"),
    ],
)
def test_nonsense_ends_the_connection(answer: bytes, reason: str) -> None:
    channel = MemoryChannel()
    link = ready_link(channel)
    link.send(MetadataRequest(), 9, "x", 0)
    channel.incoming.append(answer)
    with pytest.raises(ConnectionLostError, match=reason):
        link.process(0)
    assert [request.token for request in link.unanswered.values()] == ["x"]
