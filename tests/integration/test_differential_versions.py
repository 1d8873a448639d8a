"""fastlog and Apache Kafka asked the same: which APIs and versions there are, and what does not parse."""

from __future__ import annotations

import struct

import pytest

from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import decode_response_frame
from fastlog.protocol.messages.api_versions import ApiVersionsRequest
from tests.support.pair import Pair, differences, plain
from tests.support.wire import request, string

GROUPS = "group.version"


@pytest.mark.parametrize("version", range(5))
def test_each_api_that_is_there_has_the_versions_of_kafka(pair: Pair, version: int) -> None:
    told = ApiVersionsRequest("differential", "1.0")
    kafka, fastlog = pair.both(told, version)
    assert kafka.error_code == fastlog.error_code == 0
    theirs = {row.api_key: (row.min_version, row.max_version) for row in kafka.api_keys}
    ours = {row.api_key: (row.min_version, row.max_version) for row in fastlog.api_keys}
    for key, (low, high) in ours.items():
        assert (low, high) == theirs[key], ApiKey(key).name


@pytest.mark.parametrize("version", [0, 2, 3, 4])
def test_groups_of_the_consumer_protocol_are_announced_as_by_kafka(pair: Pair, version: int) -> None:
    told = ApiVersionsRequest("differential", "1.0")
    features = [
        (
            [(it.min_version, it.max_version) for it in answer.supported_features if it.name == GROUPS],
            [
                (it.min_version_level, it.max_version_level)
                for it in answer.finalized_features
                if it.name == GROUPS
            ],
            answer.finalized_features_epoch >= 0,
        )
        for answer in pair.both(told, version)
    ]
    assert features[0] == features[1]
    assert bool(features[1][1]) == (version >= 3)


@pytest.mark.parametrize("version", [5, 6, 99, 32767, -1])
def test_an_unknown_version_of_api_versions_gets_version_0_with_error_35(pair: Pair, version: int) -> None:
    found = []
    for side in pair.sides:
        answer = side.ask_frame(request(ApiKey.API_VERSIONS, version, b"\0\x02a\x02b\0"))
        assert isinstance(answer, bytes), f"{side.name}: {answer}"
        response = decode_response_frame(ApiKey.API_VERSIONS, 0, answer)[1]
        rows = {row.api_key: row.min_version for row in response.api_keys}
        found.append((response.error_code, rows[ApiKey.API_VERSIONS]))
    assert found == [(35, 0), (35, 0)]


@pytest.mark.parametrize("name", ["", "-x", "x-", "a b", "a_b", "ü", "x" * 300])
def test_names_of_client_software(pair: Pair, name: str) -> None:
    answers = pair.both(ApiVersionsRequest(name, "1.0"), 3)
    assert len({answer.error_code for answer in answers}) == 1, [it.error_code for it in answers]
    assert len({bool(answer.api_keys) for answer in answers}) == 1


def test_answers_are_compared_field_by_field() -> None:
    """The comparison itself: it finds what differs, and what it masks."""
    left = plain(ApiVersionsRequest("a", "1"))
    right = plain(ApiVersionsRequest("b", "1"))
    assert differences(left, right) == [("answer.client_software_name", "a", "b")]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(request(1000, 0, b""), id="unknown API"),
        pytest.param(request(-1, 0, b""), id="negative API"),
        pytest.param(request(ApiKey.METADATA, 99, b""), id="Metadata 99"),
        pytest.param(request(ApiKey.PRODUCE, 2, struct.pack(">hii", 1, 1000, 0)), id="Produce 2, removed"),
        pytest.param(request(ApiKey.FETCH, 3, b"\0" * 20), id="Fetch 3, removed"),
        pytest.param(request(ApiKey.LIST_OFFSETS, 0, b"\0" * 8), id="ListOffsets 0, removed"),
        pytest.param(request(ApiKey.CREATE_TOPICS, 1, b"\0" * 9), id="CreateTopics 1, removed"),
        pytest.param(request(4, 7, b"\0" * 9), id="LeaderAndIsr, for brokers once"),
        pytest.param(request(ApiKey.METADATA, 1, b""), id="body is missing"),
        pytest.param(request(ApiKey.METADATA, 1, b"\0\0\0\x02" + string("a")), id="array is cut"),
        pytest.param(request(ApiKey.METADATA, 1, b"\x7f\xff\xff\xff"), id="array of two billion"),
        pytest.param(request(ApiKey.METADATA, 0, b"\0\0\0\0" + b"\0" * 5), id="bytes are left over"),
        pytest.param(b"\0\x03", id="header is cut"),
        pytest.param(b"", id="empty frame"),
    ],
)
def test_what_is_no_request(pair: Pair, frame: bytes) -> None:
    pair.same_frame(frame)


def test_a_client_id_may_be_null(pair: Pair) -> None:
    pair.same_frame(request(ApiKey.API_VERSIONS, 0, b"", client_id=None))
