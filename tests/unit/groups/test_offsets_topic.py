"""A group belongs to the partition that Kafka's hash says."""

from __future__ import annotations

import pytest

from fastlog.broker.groups.offsets_topic import java_hash, partition_of


# values of Java's String.hashCode
@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0),
        ("a", 97),
        ("console-consumer-12345", 158_455_506),
        ("polygenelubricants", -(2**31)),
        ("ü", 252),
        ("😀", 1_772_899),
        ("the quick brown fox", 1_302_335_171),
    ],
)
def test_the_hash_is_javas(text: str, number: int) -> None:
    assert java_hash(text) == number


def test_the_least_number_has_no_positive_and_is_zero() -> None:
    assert partition_of("polygenelubricants", 50) == 0


def test_partitions_are_spread() -> None:
    assert {partition_of(f"group-{number}", 50) for number in range(1000)} == set(range(50))
