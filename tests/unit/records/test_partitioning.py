"""Keys go to the partitions that Java's clients choose."""

from __future__ import annotations

import pytest
from kafka.partitioner.default import murmur2 as python_murmur2

from fastlog.native._records import murmur2, partition_for_key


# the vectors of Apache Kafka's own test (UtilsTest.testMurmur2)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_javas(key: bytes, value: int) -> None:
    assert murmur2(key) == value
    assert partition_for_key(key, 7) == (value & 0x7FFFFFFF) % 7


def test_murmur2_is_kafka_pythons() -> None:
    for length in range(70):
        key = bytes((at * 37 + length * 11) % 256 for at in range(length))
        assert murmur2(key) & 0xFFFFFFFF == python_murmur2(key) & 0xFFFFFFFF


def test_what_has_no_partition() -> None:
    for partitions in (0, -1):
        with pytest.raises(ValueError, match="at least one partition"):
            partition_for_key(b"key", partitions)
    for key in ("text", None):
        with pytest.raises(TypeError):
            partition_for_key(key, 3)  # type: ignore[arg-type]
