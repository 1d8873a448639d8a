"""Bytes that are not what they should be, for every API and version: refused by name, at no cost."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastlog.errors import MalformedMessageError
from fastlog.protocol import codec
from fastlog.protocol.api import FLEXIBLE_FROM, ApiKey
from tests.wire.kio_mirror import all_versions, entities, kio_bytes, kio_class

DECODE = {"request": codec.decode_request, "response": codec.decode_response}
MESSAGES = [
    pytest.param(kind, id=f"{key.name}-{version}-{direction}")
    for key, version in all_versions()
    for direction in ("request", "response")
    if (kind := kio_class(key, version, direction)) is not None
]
# what lengths and counts are tempted with: ten million, the largest, negative ones
CLAIMS = [n.to_bytes(4, "big") for n in (0, 1, 10_000_000, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)]
MIB = 1 << 20


def read_or_refuse(kind: Any, body: bytes) -> bool:
    """Whether the bytes were read; any exception but the one that callers expect fails the test."""
    direction = kind.__type__.name
    with contextlib.suppress(MalformedMessageError):
        DECODE[direction](kind.__api_key__, kind.__version__, body)
        return True
    return False


def spoil(body: bytearray, source: random.Random) -> None:
    place = source.randrange(len(body))
    match source.randrange(3):
        case 0:
            body[place] ^= 1 << source.randrange(8)
        case 1:
            body[place] = source.randrange(256)
        case _:
            claim = source.choice(CLAIMS)[: len(body) - place]
            body[place : place + len(claim)] = claim


@pytest.mark.parametrize("kind", MESSAGES)
def test_prefixes_and_spoilt_messages_are_read_or_refused(kind: Any) -> None:
    @settings(max_examples=3, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(entities(kind), st.randoms(use_true_random=False))
    def run(message: Any, source: random.Random) -> None:
        body = kio_bytes(message)
        for end in range(len(body)):
            assert not read_or_refuse(kind, body[:end]), f"cut at {end}: {body.hex()}"
        for _ in range(20 if body else 0):
            spoilt = bytearray(body)
            for _ in range(source.randrange(1, 4)):
                spoil(spoilt, source)
            read_or_refuse(kind, bytes(spoilt))

    run()


def peak_bytes() -> int:
    """The largest virtual size of this process so far; memory asked for but never touched counts."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmPeak:"))
    return int(line.split()[1]) * 1024


def uvarint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@pytest.mark.parametrize("claim", [10_000_000, 2**31 - 1, 2**32 - 2])
def test_claimed_counts_cost_no_memory(claim: int) -> None:
    before = peak_bytes()
    for key, version in all_versions():
        flexible = version >= FLEXIBLE_FROM.get(key, 2**15)
        count = uvarint(claim + 1) if flexible else claim.to_bytes(4, "big")
        # the claim at each of the first places, before it zeros, which are empty strings or small numbers
        for place in range(24):
            for decode in DECODE.values():
                # where the place is a number's, the bytes may be a message after all
                with contextlib.suppress(MalformedMessageError):
                    decode(key, version, bytes(place) + count)
    assert peak_bytes() - before < 8 * MIB


def test_ten_million_names_and_tags_are_refused_before_they_are_read() -> None:
    names = (10_000_000).to_bytes(4, "big") + bytes(20_000_000)
    tags = b"\x01" + bytes([1, 0, 0]) + uvarint(12_000_000) + bytes(24_000_000)
    before = peak_bytes()
    with pytest.raises(MalformedMessageError, match="claims 10000000 elements, at most 200000 can follow"):
        codec.decode_request(ApiKey.METADATA, 4, names)
    with pytest.raises(MalformedMessageError, match="claims 12000000 tagged fields, at most 64 are read"):
        codec.decode_request(ApiKey.METADATA, 9, tags)
    assert peak_bytes() - before < 8 * MIB


@pytest.mark.parametrize("size", [0, 1, 7, 9])
def test_a_header_cut_short_is_refused(size: int) -> None:
    with pytest.raises(MalformedMessageError, match="the request header does not parse"):
        codec.decode_request_header(b"\x00\x03\x00\x09\x00\x00\x00\x01\x00\x05"[:size])


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for key, version in all_versions():
        for decode in DECODE.values():
            with contextlib.suppress(MalformedMessageError):
                decode(key, version, body)
