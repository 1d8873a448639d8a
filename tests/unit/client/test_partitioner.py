"""Partitioners agree with Java's and librdkafka's."""

from __future__ import annotations

import zlib

import pytest

from fastlog.client.producer.partitioner import consistent, murmur2, resolve_partitioner
from fastlog.errors import ConfigError
from fastlog.native._builder import murmur2 as murmur2_hash


# from the tests of org.apache.kafka.common.utils.Utils.murmur2
@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    ],
)
def test_keys_are_hashed_as_in_java(key: bytes, value: int) -> None:
    assert murmur2_hash(key) == value
    assert murmur2(key, 1000) == (value & 0x7FFFFFFF) % 1000


def test_an_empty_key_is_hashed_and_none_is_not() -> None:
    assert murmur2(b"", 10) is not None
    assert murmur2(None, 10) is None


def test_consistent_is_crc32_as_in_librdkafka() -> None:
    assert consistent(b"key", 7) == zlib.crc32(b"key") % 7
    assert consistent(b"", 7) is None
    assert consistent(None, 7) is None


def test_names_and_functions_are_taken_and_others_refused() -> None:
    assert resolve_partitioner("murmur2") is murmur2
    assert resolve_partitioner("consistent") is consistent
    own = resolve_partitioner(lambda key, count: int(key or b"0"))
    assert own(b"1", 3) == 1
    with pytest.raises(ConfigError, match="chose 7"):
        own(b"7", 3)
    with pytest.raises(ConfigError, match="librdkafka"):
        resolve_partitioner("random")
