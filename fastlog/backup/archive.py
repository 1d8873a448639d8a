"""Where backups are kept: named objects that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fastlog.backup.directory_archive import DirectoryArchive
from fastlog.backup.manifest import MANIFESTS, SUFFIX, Manifest, decode
from fastlog.errors import BackupError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

FILE_URL = "file://"
#: of a manifest, which has some 250 bytes for each 32 MiB of records; a store may send what it likes
MANIFEST_BYTES_MAX = 1 << 30


class Archive(Protocol):
    """Objects by name. All calls block."""

    def claimed(self) -> AbstractContextManager[None]:
        """For the time that a backup is taken; raises BackupError where the place knows that one is being taken."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Keeps an object durably, in the place of one that has the name."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Keeps an object durably; False where there is another one by the name, which stays."""
        ...

    def get(self, name: str, size_max: int) -> bytes:
        """An object, or the first `size_max` + 1 bytes of one that has more.

        Raises UnreadableBackupError where there is none.
        """
        ...

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Name -> bytes of the objects whose names begin with `prefix`, which ends with a slash, in order."""
        ...


def open_archive(place: str) -> Archive:
    """The archive at a path, or at the URL of an object store; raises BackupError where there can be none."""
    if "://" not in place:
        return DirectoryArchive(Path(place))
    if place.startswith(FILE_URL):
        return DirectoryArchive(Path(place.removeprefix(FILE_URL)))
    from fastlog.backup.object_archive import ObjectArchive

    return ObjectArchive(place)


def taken(archive: Archive) -> list[str]:
    """The names of the backups in an archive, the oldest first."""
    return [
        name.removeprefix(MANIFESTS).removesuffix(SUFFIX)
        for name in archive.sizes(MANIFESTS)
        if name.endswith(SUFFIX)
    ]


def manifest_of(archive: Archive, name: str | None = None) -> Manifest:
    """The backup `name`, or the newest one; raises BackupError where there is none."""
    known = taken(archive)
    if not known:
        raise BackupError(f"there is no backup in {archive}")
    if name is None:
        name = known[-1]
    if name not in known:
        raise BackupError(f"there is no backup {name} in {archive}; there are {', '.join(known)}")
    path = f"{MANIFESTS}{name}{SUFFIX}"
    return decode(archive.get(path, MANIFEST_BYTES_MAX), f"{path} in {archive}")
