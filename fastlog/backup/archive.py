"""Where backups are kept: named objects that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fastlog.backup.manifest import MANIFESTS, SUFFIX, Manifest, decode
from fastlog.errors import BackupError

if TYPE_CHECKING:
    from collections.abc import Mapping

PARTIAL = ".partial"
FILE_URL = "file://"


class Archive(Protocol):
    """Objects by name. All calls block."""

    def put(self, name: str, data: bytes) -> None:
        """Keeps an object durably, in the place of one that has the name."""
        ...

    def get(self, name: str) -> bytes:
        """An object; raises BackupError where there is none."""
        ...

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Name -> bytes of the objects whose names begin with `prefix`, which ends with a slash, in order."""
        ...


class DirectoryArchive:
    """An archive in a directory, which is made when something is put into it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def put(self, name: str, data: bytes) -> None:
        """Written beside, synced, renamed: a crash leaves the object or nothing by its name."""
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + PARTIAL)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def get(self, name: str) -> bytes:
        """Reads the file."""
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError as error:
            raise BackupError(
                f"{self._path / name} is missing; was the archive copied whole, or tidied by hand?"
            ) from error

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Of the files, without those that were never finished."""
        place = self._path / prefix
        if not place.is_dir():
            return {}
        files = sorted(it for it in place.iterdir() if not it.name.endswith(PARTIAL))
        return {prefix + it.name: it.stat().st_size for it in files}


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
    return decode(archive.get(path), f"{path} in {archive}")
