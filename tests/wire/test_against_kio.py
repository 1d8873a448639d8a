"""Every API and version, byte for byte against kio, an independent codec made from Kafka's schemas."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastlog.protocol import codec
from fastlog.protocol.api import ApiKey
from tests.wire.kio_mirror import all_versions, entities, kio_bytes, kio_class, mirror, our_class

ENCODE = {"request": codec.encode_request, "response": codec.encode_response}
DECODE = {"request": codec.decode_request, "response": codec.decode_response}

# versions of Kafka 4.4 that kio, made from 4.3, does not have
UNKNOWN_TO_KIO = {(ApiKey.API_VERSIONS, 5), (ApiKey.DELETE_GROUPS, 3), (ApiKey.TXN_OFFSET_COMMIT, 6)}
JUDGED = [
    pytest.param(key, version, direction, id=f"{key.name}-{version}-{direction}")
    for key, version in all_versions()
    for direction in ("request", "response")
    if (key, version) not in UNKNOWN_TO_KIO
]


def compare(key: ApiKey, version: int, direction: str, message: Any) -> None:
    expected = mirror(message, our_class(key, direction))
    body = kio_bytes(message)
    assert ENCODE[direction](expected, version) == body
    assert DECODE[direction](key, version, body) == expected


def judge(key: ApiKey, version: int, direction: str, examples: int) -> None:
    kind = kio_class(key, version, direction)
    assert kind is not None

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(entities(kind))
    def run(message: Any) -> None:
        compare(key, version, direction, message)

    run()


@pytest.mark.parametrize(("key", "version", "direction"), JUDGED)
def test_random_messages_are_the_same_bytes(key: ApiKey, version: int, direction: str) -> None:
    judge(key, version, direction, examples=12)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("key", "version", "direction"), JUDGED)
def test_many_random_messages_are_the_same_bytes(key: ApiKey, version: int, direction: str) -> None:
    judge(key, version, direction, examples=100)


def test_kio_judges_all_versions_but_those_named_here() -> None:
    unknown = {
        (key, version) for key, version in all_versions() if kio_class(key, version, "request") is None
    }
    assert unknown == UNKNOWN_TO_KIO


@pytest.mark.parametrize(("key", "version"), [v for v in all_versions() if v not in UNKNOWN_TO_KIO])
@given(correlation_id=st.integers(-(2**31), 2**31 - 1), client_id=st.none() | st.text(max_size=8))
@settings(max_examples=4, deadline=None)
def test_request_headers_are_the_same_bytes(
    key: ApiKey, version: int, correlation_id: int, client_id: str | None
) -> None:
    request = our_class(key, "request")()
    kind = kio_class(key, version, "request").__header_schema__  # type: ignore[union-attr]
    fields = {"request_api_key": key, "request_api_version": version, "correlation_id": correlation_id}
    header = kio_bytes(kind(client_id=client_id, **fields))
    frame = codec.encode_request_frame(request, version, correlation_id, client_id)
    assert frame == header + codec.encode_request(request, version)
    assert codec.decode_request_header(frame) == (key, version, correlation_id, client_id, len(header))


@pytest.mark.parametrize(("key", "version"), [v for v in all_versions() if v not in UNKNOWN_TO_KIO])
def test_response_headers_are_the_same_bytes(key: ApiKey, version: int) -> None:
    response = our_class(key, "response")()
    kind = kio_class(key, version, "response").__header_schema__  # type: ignore[union-attr]
    frame = codec.encode_response_frame(key, version, 7, response)
    assert frame == kio_bytes(kind(correlation_id=7)) + codec.encode_response(response, version)
    assert codec.decode_response_frame(key, version, frame) == (7, response)
