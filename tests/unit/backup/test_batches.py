"""Batches of a backup: checked, cut, marked, made."""

from __future__ import annotations

import pytest

from fastlog.backup.batches import KEEPS_OFFSETS, RESTORED_IDS, SPAN_MAX, checked, fillers, marked, whole
from fastlog.errors import BackupError
from fastlog.protocol.batch import read_batches
from tests.support.batches import NOW_MS, seal, with_fields


def moved(batch: bytes, base_offset: int) -> bytes:
    """The batch at an offset of its own, which lies outside of its checksum."""
    return base_offset.to_bytes(8, "big") + batch[8:]


ONE = seal([(NOW_MS, None, b"a", ()), (NOW_MS, None, b"b", ())])


def test_whole_batches_in_order_pass() -> None:
    data = moved(ONE, 5) + moved(ONE, 9)
    assert [(it.base_offset, it.last_offset) for it in checked(memoryview(data), "t-0")] == [(5, 6), (9, 10)]


def test_what_a_fetch_has_cut_is_left_out() -> None:
    data = moved(ONE, 5) + moved(ONE, 7)
    for length in range(len(ONE), len(data)):
        assert bytes(whole(memoryview(data[:length]))) == data[: len(ONE)]
    assert bytes(whole(memoryview(data))) == data
    assert not whole(memoryview(b""))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (ONE[:-1] + bytes([ONE[-1] ^ 1]), "damaged"),
        (moved(ONE, 5) + moved(ONE, 6), "offset 6 comes after offset 6"),
        (ONE + ONE[:70], "is cut"),
        (b"x" * 100, "no batch"),
    ],
)
def test_damage_is_named(data: bytes, says: str) -> None:
    with pytest.raises(BackupError, match=f"^t-0: .*{says}"):
        list(checked(memoryview(data), "t-0"))


def test_a_marked_batch_has_only_another_epoch() -> None:
    (batch,) = read_batches(memoryview(moved(ONE, 5)))
    (again,) = checked(memoryview(marked(batch)), "t-0")
    assert again.leader_epoch == KEEPS_OFFSETS
    assert (again.base_offset, again.crc, bytes(again.data[16:])) == (5, batch.crc, bytes(batch.data[16:]))


def test_a_marked_batch_has_a_producer_that_no_cluster_knows() -> None:
    (batch,) = read_batches(memoryview(with_fields(ONE, producer_id=7, base_sequence=3)))
    once = marked(batch)
    (again,) = checked(memoryview(once), "t-0")
    assert (again.producer_id, again.base_sequence) == (RESTORED_IDS + 7, 3)
    assert marked(again) == once, "of a backup of what was restored"


@pytest.mark.parametrize("count", [1, 2, SPAN_MAX, SPAN_MAX + 1, 3 * SPAN_MAX + 7])
def test_fillers_cover_a_gap_without_records(count: int) -> None:
    made = list(fillers(100, 100 + count))
    position = 100
    for batch in checked(memoryview(b"".join(made)), "t-0"):
        assert (batch.base_offset, batch.count, batch.producer_id) == (position, 0, -1)
        position = batch.last_offset + 1
    assert position == 100 + count
    assert list(fillers(100, 100)) == []
