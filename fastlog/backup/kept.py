"""Which of the chunks that are kept already a backup reads again: some in each, all of them in turn.

A backup goes on from what earlier ones have kept, perhaps for years. A byte that turned there would be in each later
one, and be found when the records are wanted and the cluster has them no more. So each run reads a share of what it
uses again.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from fastlog.errors import UnreadableBackupError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.backup.archive import Archive
    from fastlog.backup.manifest import Chunk

#: chunks lie on a circle of so many places, each where the beginning of its checksum says
CIRCLE = 1 << 32
DIGITS = 8
#: of what is kept, read again in each backup
PERCENT = 1.0


class Turn(NamedTuple):
    """The part of the circle that is read in one run; the next one goes on where it ends."""

    begin: int
    span: int

    @classmethod
    def of(cls, begin: int, percent: float) -> Turn:
        """So many percent of the circle from `begin` on."""
        return cls(begin, round(CIRCLE * percent / 100))

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return (self.begin + self.span) % CIRCLE

    def has(self, chunk: Chunk) -> bool:
        """Whether the chunk is read in this run."""
        return (int(chunk.sha256[:DIGITS], 16) - self.begin) % CIRCLE < self.span


def trouble(archive: Archive, chunk: Chunk, sizes: Mapping[str, int], turn: Turn) -> str:
    """What is wrong with a chunk that is kept, by its size or, when it is its turn, by its bytes; "" where nothing is.

    Raises BackupError where the archive cannot be asked.
    """
    size = sizes.get(chunk.name)
    if size is None:
        return "missing"
    if size != chunk.size_bytes:
        return f"of {size} bytes, which were {chunk.size_bytes}"
    if not turn.has(chunk):
        return ""
    try:
        data = archive.get(chunk.name, chunk.size_bytes)
    except UnreadableBackupError as error:
        return f"not to be read ({error})"
    return "" if hashlib.sha256(data).hexdigest() == chunk.sha256 else "damaged"
