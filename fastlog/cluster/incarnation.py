"""Which starts of a broker a data directory has seen: what tells a broker's own past from another broker."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from fastlog.cluster import INCARNATIONS_NAME
from fastlog.ports import CorruptStoreError

if TYPE_CHECKING:
    from pathlib import Path

# one is added by each start that ends before it registers; what is older is no session's any more
KEPT_MAX = 16


class Incarnations:
    """The file of one data directory, which is locked by this process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / INCARNATIONS_NAME

    def begin(self, fresh: UUID) -> tuple[UUID, ...]:
        """Notes this start durably, and answers the starts whose registration may still be there, the latest first.

        Raises CorruptStoreError for a file that cannot be read, OSError.
        """
        known = self._read()
        self._write((fresh, *known)[:KEPT_MAX])
        return known

    def registered(self, current: UUID) -> None:
        """This start replaced all before it; raises OSError."""
        self._write((current,))

    def _read(self) -> tuple[UUID, ...]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return ()
        try:
            return msgspec.json.decode(data, type=tuple[UUID, ...])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CorruptStoreError(
                f"{self._path} holds garbage ({error}): remove it, and start when the broker's session is over"
            ) from error

    def _write(self, incarnations: tuple[UUID, ...]) -> None:
        fresh = self._path.with_name(f"{INCARNATIONS_NAME}.tmp")
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(incarnations))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        handle = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
