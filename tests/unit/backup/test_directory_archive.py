"""Backups in a directory: what is kept is kept, whoever else writes there, dies, or has no room."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fastlog.backup.directory_archive import DirectoryArchive
from fastlog.errors import BackupError, UnreadableBackupError

NAME = "chunks/t/0/a"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "place"


def files(place: Path) -> list[str]:
    return sorted(str(it.relative_to(place)) for it in place.rglob("*") if it.is_file())


def test_only_one_backup_at_a_time_is_taken_into_a_place(place: Path) -> None:
    one, two = DirectoryArchive(place), DirectoryArchive(place)
    with one.claimed():
        with pytest.raises(
            BackupError, match=r"another backup is being taken into .*place; give the command"
        ):
            two.claimed().__enter__()
        # who reads is not in the way
        assert two.sizes("manifests/") == {}
    with two.claimed():
        pass


def test_two_that_write_the_same_object_do_not_take_it_from_each_other(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on file systems that have no locks: the second one begins when the first one has written, and not renamed."""
    DirectoryArchive(place).put("chunks/t/0/before", b"")
    fsync = os.fsync
    has_begun = False

    def second_comes(descriptor: int) -> None:
        nonlocal has_begun
        if not has_begun:
            has_begun = True
            DirectoryArchive(place).put(NAME, b"data")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", second_comes)
    DirectoryArchive(place).put(NAME, b"data")
    assert has_begun
    assert files(place) == [NAME, "chunks/t/0/before"]
    assert DirectoryArchive(place).get(NAME, 4) == b"data"


def test_directories_that_are_made_are_there_after_a_power_cut(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    DirectoryArchive(place).put(NAME, b"data")
    made = [place.parent, place, place / "chunks", place / "chunks/t", place / "chunks/t/0"]
    for folder in made:
        assert folder.parent in synced
    assert synced[-1] == made[-1], "the object's own name is last"


@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.ENOSPC, "make room there"), (errno.EROFS, "how it is mounted"), (errno.EIO, "look at the disk")],
)
def test_a_disk_that_takes_nothing_is_told_with_what_to_do(
    place: Path, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    archive = DirectoryArchive(place)
    archive.put(NAME, b"before")

    def fails(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", fails)
        with pytest.raises(BackupError, match=rf"^writing .*/{NAME} failed: {os.strerror(code)}; .*{advice}"):
            archive.put(NAME, b"after")
    assert files(place) == [NAME]
    assert archive.get(NAME, 6) == b"before"


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        archive = DirectoryArchive(place)
        with pytest.raises(BackupError, match="no directory is in the way"):
            archive.put(NAME, b"data")
        with pytest.raises(BackupError, match="no directory is in the way"):
            archive.claimed().__enter__()
        assert archive.sizes("manifests/") == {}


def test_what_a_backup_that_died_left_half_written_goes_with_the_next_one(place: Path) -> None:
    archive = DirectoryArchive(place)
    archive.put(NAME, b"data")
    for left in ("chunks/t/0/b.0123456789abcdef.partial", "chunks/t/0/of-an-earlier-version.partial"):
        (place / left).write_bytes(b"ha")
    (place / "mine.partial").write_bytes(b"of somebody else")
    with archive.claimed():
        assert files(place) == [NAME, "lock", "mine.partial"]


def test_no_more_is_read_than_asked_for_and_one_byte(place: Path) -> None:
    archive = DirectoryArchive(place)
    archive.put(NAME, bytes(1000))
    assert len(archive.get(NAME, 1000)) == 1000
    assert len(archive.get(NAME, 10)) == 11
    with pytest.raises(UnreadableBackupError, match=r"b is missing; was the archive copied whole"):
        archive.get("chunks/t/0/b", 10)
    with pytest.raises(UnreadableBackupError, match="look at the disk"):
        archive.get("chunks/t/0", 10)


def test_what_is_created_is_never_written_over(place: Path) -> None:
    archive = DirectoryArchive(place)
    with archive.claimed():
        assert archive.create("manifests/1.json", b"one")
        assert not archive.create("manifests/1.json", b"another")
    assert archive.get("manifests/1.json", 3) == b"one"
