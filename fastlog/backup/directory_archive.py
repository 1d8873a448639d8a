"""Backups in a directory: files that are written beside, synced, and renamed."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastlog.backup.manifest import CHUNKS, MANIFESTS
from fastlog.errors import BackupError, UnreadableBackupError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PARTIAL = ".partial"
LOCK = "lock"
#: what file systems say that have no locks
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
NO_ROOM = "make room there, and give the command again; what is kept already stays"
DENIED = "look at who may write there, and how it is mounted"
IN_THE_WAY = "something that is no directory is in the way; move it, or take another place"
ADVICE = {
    errno.ENOSPC: NO_ROOM,
    errno.EDQUOT: NO_ROOM,
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.EROFS: DENIED,
    errno.ENOTDIR: IN_THE_WAY,
    errno.EEXIST: IN_THE_WAY,
    errno.EIO: "look at the disk",
}
AGAIN = "give the command again when that is mended; what is kept already stays"


class DirectoryArchive:
    """An archive in a directory, which is made when something is put into it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Locks the place, and removes what backups that died have left half written.

        A file system without locks is used without: the names of chunks are made of what is in them, and each is
        written under a name of its own first, so that two backups only do the same work twice.
        """
        with _told("locking", self._path):
            _make(self._path)
            lock = (self._path / LOCK).open("wb")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BackupError(
                    f"another backup is being taken into {self._path}; give the command again when that is done"
                ) from error
            except OSError as error:
                if error.errno not in WITHOUT_LOCKS:
                    raise BackupError(f"locking {self._path} failed: {error}") from error
            else:
                with _told("tidying", self._path):
                    self._tidy()
            yield

    def _tidy(self) -> None:
        for top in (CHUNKS, MANIFESTS):
            for folder, _, names in os.walk(self._path / top):
                for name in names:
                    if name.endswith(PARTIAL):
                        Path(folder, name).unlink(missing_ok=True)

    def put(self, name: str, data: bytes) -> None:
        """Written beside, synced, renamed: a crash leaves the object or nothing by its name."""
        path = self._path / name
        # of this process alone: another one that writes the same object has its own
        partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PARTIAL}")
        with _told("writing", path):
            _make(path.parent)
            try:
                with partial.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            _sync(path.parent)

    def create(self, name: str, data: bytes) -> bool:
        """As `put`; False where there is one by the name. Only who has claimed the place is to call it."""
        with _told("looking for", self._path / name):
            if (self._path / name).exists():
                return False
        self.put(name, data)
        return True

    def get(self, name: str, size_max: int) -> bytes:
        """Reads the file, and no more of it than asked for."""
        path = self._path / name
        try:
            with path.open("rb") as file:
                return file.read(size_max + 1)
        except FileNotFoundError as error:
            raise UnreadableBackupError(
                f"{path} is missing; was the archive copied whole, or tidied by hand?"
            ) from error
        except OSError as error:
            raise UnreadableBackupError(
                f"reading {path} failed: {error.strerror}; look at the disk, and at who may read there"
            ) from error

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Of the files, without those that were never finished."""
        place = self._path / prefix
        found = {}
        with _told("listing", place):
            if not place.is_dir():
                return {}
            for it in sorted(place.iterdir()):
                if it.name.endswith(PARTIAL):
                    continue
                try:
                    found[prefix + it.name] = it.stat().st_size
                except FileNotFoundError:
                    continue  # somebody deletes backups meanwhile
        return found


def _make(folder: Path) -> None:
    """Makes a directory and those above it; a crash takes none of them back."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        _make(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told(doing: str, path: Path) -> Iterator[None]:
    """Errors of the file system, with what to do."""
    try:
        yield
    except OSError as error:
        advice = ADVICE.get(error.errno or 0, AGAIN)
        raise BackupError(f"{doing} {path} failed: {error.strerror or error}; {advice}") from error
