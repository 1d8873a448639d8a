"""Which kept chunks are read again: each in its turn, however much is read in one run."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from fastlog.backup.directory_archive import DirectoryArchive
from fastlog.backup.kept import CIRCLE, Turn, trouble
from fastlog.backup.manifest import Chunk

DATA = b"some batches"
CHUNKS = [
    Chunk(
        name=f"chunks/t/0/{number}",
        start=number,
        end=number + 1,
        size_bytes=len(DATA),
        sha256=hashlib.sha256(b"%d" % number).hexdigest(),
        leader_epoch=0,
    )
    for number in range(1000)
]


@pytest.mark.parametrize("percents", [[100], [1] * 100, [0, 60, 0, 40], [30, 50, 20]])
def test_each_chunk_has_its_turn_once_in_a_round(percents: list[float]) -> None:
    read: Counter[str] = Counter()
    begin = CIRCLE * 2 // 3
    for percent in percents:
        turn = Turn.of(begin, percent)
        chosen = [it.name for it in CHUNKS if turn.has(it)]
        assert len(chosen) == pytest.approx(10 * percent, abs=60)
        read.update(chosen)
        begin = turn.end
    assert len(read) >= 999, "but for what rounding leaves to the next round"
    assert max(read.values()) == 1


def test_what_is_wrong_with_a_chunk_is_said(tmp_path: Path) -> None:
    archive = DirectoryArchive(tmp_path)
    chunk = Chunk(
        name="chunks/t/0/a",
        start=0,
        end=1,
        size_bytes=len(DATA),
        sha256=hashlib.sha256(DATA).hexdigest(),
        leader_epoch=0,
    )
    all_of_it, nothing = Turn.of(7, 100), Turn.of(7, 0)

    def says(turn: Turn) -> str:
        return trouble(archive, chunk, archive.sizes("chunks/t/0/"), turn)

    assert says(nothing) == "missing"
    archive.put(chunk.name, DATA)
    assert says(nothing) == says(all_of_it) == ""
    archive.put(chunk.name, DATA.upper())
    assert (says(nothing), says(all_of_it)) == ("", "damaged")
    archive.put(chunk.name, DATA[:5])
    assert says(nothing) == "of 5 bytes, which were 12"
    sizes = {chunk.name: len(DATA)}
    (tmp_path / chunk.name).unlink()
    assert trouble(archive, chunk, sizes, all_of_it).startswith("not to be read (")
