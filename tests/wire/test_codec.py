"""What callers of `fastlog.protocol.codec` rely on; the layouts themselves are judged against other codecs."""

from __future__ import annotations

import pytest

from fastlog.errors import MalformedMessageError, UnsupportedVersionError
from fastlog.protocol import codec
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from fastlog.protocol.messages.metadata import MetadataRequest, MetadataResponse, MetadataResponseBroker
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

JOIN = JoinGroupRequest(
    group_id="g",
    session_timeout_ms=30_000,
    rebalance_timeout_ms=60_000,
    member_id="m",
    group_instance_id="static",
    protocol_type="consumer",
    protocols=[JoinGroupRequestProtocol("range", b"\x00\x01")],
    reason="why not",
)


def test_a_request_comes_back_as_it_was() -> None:
    body = codec.encode_request(JOIN, 9)
    assert codec.decode_request(ApiKey.JOIN_GROUP, 9, body) == JOIN


def test_fields_that_a_version_lacks_get_their_defaults() -> None:
    read = codec.decode_request(ApiKey.JOIN_GROUP, 0, codec.encode_request(JOIN, 0))
    assert (read.rebalance_timeout_ms, read.group_instance_id, read.reason) == (-1, None, None)
    assert read.protocols == JOIN.protocols


def test_a_request_frame_has_a_header_that_names_where_the_body_starts() -> None:
    frame = codec.encode_request_frame(JOIN, 9, correlation_id=7, client_id="me")
    key, version, correlation_id, client_id, start = codec.decode_request_header(frame)
    assert (key, version, correlation_id, client_id) == (11, 9, 7, "me")
    assert codec.decode_request(key, version, frame, start) == JOIN


def test_a_header_of_an_unknown_api_can_be_read() -> None:
    assert codec.decode_request_header(b"\x03\xe7\x00\x05\x00\x00\x00\x01\xff\xff") == (999, 5, 1, None, 10)


@pytest.mark.parametrize(("version", "header"), [(5, b"\x00\x00\x00\x07"), (6, b"\x00\x00\x00\x07\x00")])
def test_a_response_frame_has_tagged_fields_in_its_header_from_the_first_flexible_version(
    version: int, header: bytes
) -> None:
    response = JoinGroupResponse(error_code=27, protocol_name="range")
    frame = codec.encode_response_frame(ApiKey.JOIN_GROUP, version, 7, response)
    assert frame.startswith(header)
    assert codec.decode_response_frame(ApiKey.JOIN_GROUP, version, frame) == (7, response)


def test_records_are_written_from_any_buffer_and_read_as_bytes() -> None:
    for records in (b"records", bytearray(b"records"), memoryview(b"records")):
        data = [TopicProduceData(name="t", partition_data=[PartitionProduceData(0, records)])]
        body = codec.encode_request(ProduceRequest(acks=-1, topic_data=data), 9)
        read = codec.decode_request(ApiKey.PRODUCE, 9, bytearray(body))
        assert read.topic_data[0].partition_data[0].records == b"records"


def test_null_and_empty_are_different() -> None:
    for topics in (None, []):
        body = codec.encode_request(MetadataRequest(topics=topics), 9)
        assert codec.decode_request(ApiKey.METADATA, 9, body).topics == topics


def test_our_endpoint_rides_in_metadata_from_version_9_on() -> None:
    response = MetadataResponse(brokers=[MetadataResponseBroker(1, "h", 9092, None, "h:9192")])
    for version in range(14):
        read = codec.decode_response(ApiKey.METADATA, version, codec.encode_response(response, version))
        assert read.brokers[0].zmq_endpoint == ("h:9192" if version >= 9 else None)


def test_defaults_are_not_shared_between_messages() -> None:
    body = codec.encode_response(MetadataResponse(), 9)
    one, other = (codec.decode_response(ApiKey.METADATA, 9, body) for _ in range(2))
    one.topics.append(None)
    assert other.topics == []


@pytest.mark.parametrize(
    ("message", "version", "error", "text"),
    [
        (
            JoinGroupRequest(protocols=[JoinGroupRequestProtocol(3)]),
            9,
            TypeError,
            r"protocols\[0\].name: expected str, got int",
        ),  # type: ignore[arg-type]
        (
            JoinGroupRequest(session_timeout_ms=1 << 40),
            9,
            ValueError,
            "session_timeout_ms: expected an int of 32 bits",
        ),
        (JoinGroupRequest(session_timeout_ms="3"), 9, TypeError, "session_timeout_ms"),  # type: ignore[arg-type]
        (JoinGroupRequest(member_id=None), 9, ValueError, "member_id: None is not allowed in version 9"),  # type: ignore[arg-type]
        (JoinGroupRequest(group_id="x" * 40_000), 5, ValueError, "group_id: a length of 40000 does not fit"),
        (JoinGroupRequest(protocols=["range"]), 9, TypeError, "expected JoinGroupRequestProtocol, got str"),  # type: ignore[list-item]
        (JoinGroupResponse(), 9, TypeError, "expected JoinGroupRequest, got JoinGroupResponse"),
        (MetadataRequest(topics=None), 0, ValueError, "topics: None is not allowed in version 0"),
    ],
)
def test_a_value_that_cannot_be_written_names_its_field(message, version, error, text) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=text):
        codec.encode_request(message, version)


def test_bytes_that_are_no_message_name_the_field() -> None:
    body = codec.encode_request(JOIN, 9)
    with pytest.raises(
        MalformedMessageError, match=r"JoinGroupRequest version 9, reason: the message is cut short"
    ):
        codec.decode_request(ApiKey.JOIN_GROUP, 9, body[:-3])
    with pytest.raises(MalformedMessageError, match="1 bytes are left"):
        codec.decode_request(ApiKey.JOIN_GROUP, 9, body + b"x")
    with pytest.raises(MalformedMessageError, match="starts at byte 9999"):
        codec.decode_request(ApiKey.JOIN_GROUP, 9, body, 9999)


def test_apis_and_versions_outside_the_table_are_refused() -> None:
    with pytest.raises(UnsupportedVersionError, match="JoinGroup has versions 0 to 9, not 10"):
        codec.decode_request(ApiKey.JOIN_GROUP, 10, b"")
    with pytest.raises(UnsupportedVersionError, match="the API key 7 is not one"):
        codec.decode_request(7, 0, b"")


@pytest.mark.parametrize("version", [3, 9, 11])
def test_a_request_in_parts_is_the_same_and_copies_no_large_records(version: int) -> None:
    batches = [bytes(20_000), bytearray(b"small"), memoryview(bytearray(b"x" * 16_384)), b"y" * 16_383]
    topics = [
        TopicProduceData(
            name=name, partition_data=[PartitionProduceData(n, batch) for n, batch in enumerate(batches)]
        )
        for name in ("one", "two")
    ]
    request = ProduceRequest(acks=-1, timeout_ms=1, topic_data=topics)
    parts = codec.encode_request_parts(request, version, 7, "me")
    assert b"".join(parts) == codec.encode_request_frame(request, version, 7, "me")
    left = [part for part in parts if any(part is batch for batch in batches)]
    assert [id(part) for part in left] == [id(batches[0]), id(batches[2])] * 2
    assert codec.encode_request_parts(JOIN, 9, 7, "me") == [codec.encode_request_frame(JOIN, 9, 7, "me")]
