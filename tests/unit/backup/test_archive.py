"""Archives and manifests: what is kept is found again, and what is not one is refused."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import msgspec
import pytest

from fastlog.backup.archive import (
    MANIFEST_BYTES_MAX,
    manifest_of,
    manifests_of,
    newest,
    open_archive,
    taken,
)
from fastlog.backup.directory_archive import DirectoryArchive
from fastlog.backup.manifest import FORMAT, GroupBackup, Manifest, Position, decode, encode
from fastlog.errors import BackupError, UnreadableBackupError


def manifest(name: str) -> Manifest:
    return Manifest(taken=name, cluster_id="c", topics=(), groups=())


def keep(archive: DirectoryArchive, *names: str) -> None:
    for name in names:
        one = manifest(name)
        archive.put(one.object_name, encode(one))


def test_objects_are_whole_or_not_there(tmp_path: Path) -> None:
    archive = DirectoryArchive(tmp_path / "deep" / "place")
    assert archive.sizes("chunks/t/0/") == {}
    archive.put("chunks/t/0/b", b"1")
    archive.put("chunks/t/0/a", b"2")
    archive.put("chunks/t/0/a", b"3")
    # what a crash leaves of a third one
    (tmp_path / "deep" / "place" / "chunks/t/0/c.partial").write_bytes(b"ha")
    assert list(archive.sizes("chunks/t/0/").items()) == [("chunks/t/0/a", 1), ("chunks/t/0/b", 1)]
    assert archive.get("chunks/t/0/a", 9) == b"3"
    with pytest.raises(BackupError, match="c is missing"):
        archive.get("chunks/t/0/c", 9)


def test_the_newest_backup_is_taken_unless_one_is_named(tmp_path: Path) -> None:
    archive = DirectoryArchive(tmp_path)
    with pytest.raises(BackupError, match="there is no backup in"):
        manifest_of(archive)
    keep(archive, "2", "1", "3")
    assert taken(archive) == ["1", "2", "3"]
    assert manifest_of(archive).taken == "3"
    assert manifest_of(archive, "1").taken == "1"
    with pytest.raises(BackupError, match=r"there is no backup 4 in .*; there are 1, 2, 3"):
        manifest_of(archive, "4")


def test_a_manifest_that_cannot_be_read_hides_no_other_and_is_not_passed_over_in_silence(
    tmp_path: Path,
) -> None:
    archive = DirectoryArchive(tmp_path)
    names = [f"2026010{day}T000000.000000Z" for day in range(1, 6)]
    keep(archive, *names)
    paths = [tmp_path / "manifests" / f"{name}.json" for name in names]
    good = paths[4].read_bytes()
    paths[4].write_bytes(good.replace(b'"c"', b'"d"'))
    paths[3].write_bytes(good.replace(b'"format": 1', b'"format": 3'))
    with paths[2].open("wb") as file:
        file.truncate(MANIFEST_BYTES_MAX + 1)
    found = dict(manifests_of(archive))
    assert list(found) == names[::-1]
    whys = [str(it) for it in found.values() if isinstance(it, BackupError)]
    assert [("damaged" in it, "newer version" in it, "no manifest" in it) for it in whys] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]
    told: list[str] = []
    last = newest(archive, told.append)
    assert last is not None
    assert (last.taken, told) == (names[1], whys)
    with pytest.raises(
        UnreadableBackupError, match=rf"the newest backup cannot be read: .*--taken {names[1]} takes it"
    ):
        manifest_of(archive)
    assert manifest_of(archive, names[1]).taken == names[1]
    with pytest.raises(UnreadableBackupError, match="is damaged"):
        manifest_of(archive, names[4])
    for path in paths:
        path.write_bytes(b"")
    assert newest(archive, told.append) is None
    with pytest.raises(UnreadableBackupError, match="none of the others can be read"):
        manifest_of(archive)


def test_a_place_that_cannot_be_reached_has_no_damaged_backups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = DirectoryArchive(tmp_path)
    keep(archive, "1")

    def away(_name: str, _size_max: int) -> bytes:
        raise BackupError("it is away")

    monkeypatch.setattr(archive, "get", away)
    with pytest.raises(BackupError, match="it is away"):
        newest(archive, lambda _message: None)


def test_what_is_no_manifest_is_refused() -> None:
    good = encode(manifest("1"))
    assert decode(good, "it").taken == "1"
    newer = msgspec.json.encode({**msgspec.json.decode(good), "format": FORMAT + 1, "topics": "elsewhere"})
    with pytest.raises(BackupError, match="newer version of fastlog"):
        decode(newer, "it")
    for bad in (b"", b"{}", b"[]", good[:-20], good.replace(b'"c"', b"7")):
        with pytest.raises(BackupError, match="it is not a manifest"):
            decode(bad, "it")


def test_a_bit_that_turned_in_a_manifest_is_noticed() -> None:
    position = Position(topic="t", partition=0, offset=7, metadata="m")
    group = GroupBackup(group_id="g", positions=(position,))
    one = Manifest(taken="1", cluster_id="c", topics=(), groups=(group,))
    good = encode(one)
    assert msgspec.structs.replace(decode(good, "it"), sha256="") == one
    for place, bit in itertools.product(range(len(good)), range(8)):
        bad = good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :]
        with contextlib.suppress(BackupError):
            found = decode(bad, "it")
            # its checksum is called something else, and then it is one of before there were checksums
            assert msgspec.structs.replace(found, sha256="") == one


def test_a_manifest_from_before_checksums_is_read() -> None:
    older = msgspec.json.decode(encode(manifest("1")))
    del older["sha256"]
    assert decode(msgspec.json.encode(older), "it").taken == "1"
    later = {**msgspec.json.decode(encode(manifest("1"))), "sha256": "0" * 64}
    with pytest.raises(BackupError, match="it is damaged"):
        decode(msgspec.json.encode(later), "it")


def test_a_place_is_a_directory_or_the_url_of_a_store(tmp_path: Path) -> None:
    for place in (str(tmp_path / "a"), f"file://{tmp_path}/b"):
        archive = open_archive(place)
        keep_one = manifest("1")
        archive.put(keep_one.object_name, encode(keep_one))
        assert (tmp_path / place[-1] / keep_one.object_name).is_file()
    with pytest.raises(BackupError, match=r"^what://ever is no place for backups"):
        open_archive("what://ever")
    with pytest.raises(BackupError, match="the place for backups is empty"):
        open_archive("")
