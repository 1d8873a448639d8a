"""Partitions by the ids of their topics, as the records of consumer groups write them: sorted, topic by topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state.records.primitives import NO_TAGS, Reader, compact_array, int32, one_tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Partition = tuple[bytes, int]
"""The id of a topic, 16 bytes, and the number of the partition."""
Epochs = dict[Partition, int]
UUID_BYTES = 16
EPOCHS_TAG = 0
UNKNOWN = -1


def by_topic(partitions: Iterable[Partition]) -> dict[bytes, list[int]]:
    """The numbers of each topic, both sorted."""
    found: dict[bytes, list[int]] = {}
    for topic_id, number in sorted(partitions):
        found.setdefault(topic_id, []).append(number)
    return found


def write_partitions(partitions: Iterable[Partition]) -> bytes:
    """An array with an element for each topic."""
    return compact_array(
        [topic_id + _numbers(numbers) + NO_TAGS for topic_id, numbers in by_topic(partitions).items()]
    )


def read_partitions(reader: Reader) -> list[Partition]:
    """What `write_partitions` wrote; a tag with epochs is passed over."""
    return list(read_epochs(reader))


def write_epochs(partitions: Mapping[Partition, int]) -> bytes:
    """As `write_partitions`, with the epoch of each partition in a tag."""
    elements = []
    for topic_id, numbers in by_topic(partitions).items():
        epochs = [partitions[topic_id, number] for number in numbers]
        elements.append(topic_id + _numbers(numbers) + one_tag(EPOCHS_TAG, _numbers(epochs)))
    return compact_array(elements)


def read_epochs(reader: Reader) -> Epochs:
    """What `write_epochs` wrote; -1 for partitions of which no epoch is told."""
    found: Epochs = {}
    for _ in range(reader.count()):
        topic_id = reader.raw(UUID_BYTES)
        numbers = _read_numbers(reader)
        tag = reader.tags().get(EPOCHS_TAG)
        epochs = [] if tag is None else _read_numbers(_flexible(tag))
        if len(epochs) != len(numbers):
            epochs = [UNKNOWN] * len(numbers)
        found.update(zip(((topic_id, number) for number in numbers), epochs, strict=True))
    return found


def _numbers(numbers: list[int]) -> bytes:
    return compact_array([int32(number) for number in numbers])


def _read_numbers(reader: Reader) -> list[int]:
    return [reader.int32() for _ in range(reader.count())]


def _flexible(raw: bytes) -> Reader:
    reader = Reader(raw)
    reader.is_flexible = True
    return reader
