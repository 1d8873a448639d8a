"""Where backups are kept: named objects that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from fastlog.backup.directory_archive import DirectoryArchive
from fastlog.backup.manifest import MANIFESTS, SUFFIX, Manifest, decode
from fastlog.backup.names import by_time
from fastlog.errors import BackupError, UnreadableBackupError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
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
    if not place:
        raise BackupError("the place for backups is empty: name a directory, or s3://bucket/prefix")
    if "://" not in place:
        return DirectoryArchive(Path(place))
    if place.startswith(FILE_URL):
        return DirectoryArchive(Path(place.removeprefix(FILE_URL)))
    from fastlog.backup.object_archive import ObjectArchive

    return ObjectArchive(place)


def taken(archive: Archive) -> list[str]:
    """The names of the backups in an archive, the oldest first."""
    return list(_listed(archive))


def manifests_of(archive: Archive) -> Iterator[tuple[str, Manifest | UnreadableBackupError]]:
    """The backups in an archive by their names, the newest first; of those that cannot be read, why."""
    for name, size in reversed(_listed(archive).items()):
        try:
            yield name, _read(archive, name, size)
        except UnreadableBackupError as error:
            yield name, error


def newest(archive: Archive, tell: Callable[[str], None]) -> Manifest | None:
    """The newest backup that can be read; `tell` is told of those that are newer. None where there is none."""
    for _, found in manifests_of(archive):
        if isinstance(found, Manifest):
            return found
        tell(str(found))
    return None


def manifest_of(archive: Archive, name: str | None = None) -> Manifest:
    """The backup `name`, or the newest one; raises BackupError where there is none.

    Where the newest one cannot be read none is chosen in its place: UnreadableBackupError says which could be.
    """
    known = _listed(archive)
    if not known:
        raise BackupError(f"there is no backup in {archive}")
    if name is not None:
        if name not in known:
            raise BackupError(f"there is no backup {name} in {archive}; there are {', '.join(known)}")
        return _read(archive, name, known[name])
    last = next(reversed(known))
    try:
        return _read(archive, last, known[last])
    except UnreadableBackupError as error:
        readable = newest(archive, lambda _message: None)
        advice = (
            f"the newest one that can be read is {readable.taken}: --taken {readable.taken} takes it"
            if readable is not None
            else "none of the others can be read either"
        )
        raise UnreadableBackupError(f"the newest backup cannot be read: {error}; {advice}") from error


def _listed(archive: Archive) -> dict[str, int]:
    """The names of the backups, the oldest first, with the bytes of their manifests."""
    sizes = {
        name.removeprefix(MANIFESTS).removesuffix(SUFFIX): size
        for name, size in archive.sizes(MANIFESTS).items()
        if name.endswith(SUFFIX)
    }
    return {name: sizes[name] for name in by_time(sizes)}


def _read(archive: Archive, name: str, size: int) -> Manifest:
    path = f"{MANIFESTS}{name}{SUFFIX}"
    if size > MANIFEST_BYTES_MAX:
        raise UnreadableBackupError(f"{path} in {archive} is no manifest of a backup: it has {size} bytes")
    manifest = decode(archive.get(path, size), f"{path} in {archive}")
    # by the name that it has: somebody may have copied it
    return msgspec.structs.replace(manifest, taken=name)
