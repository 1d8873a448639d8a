"""Reading a backup: whatever comes from an archive is checked before it is used."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from fastlog.backup.batches import checked
from fastlog.errors import BackupError, UnreadableBackupError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastlog.backup.archive import Archive
    from fastlog.backup.manifest import Chunk, Manifest, PartitionBackup
    from fastlog.protocol.batch import BatchView


def batches_of(archive: Archive, log: PartitionBackup, what: str, position: int) -> Iterator[BatchView]:
    """The batches of a partition that reach beyond `position`, a chunk in memory at a time.

    Raises BackupError, naming `what`, where a chunk is missing, is not what was kept, or does not follow the last.
    """
    covered = None
    for chunk in log.chunks:
        if covered is not None and chunk.start != covered:
            raise BackupError(f"{what}: the chunk of offset {chunk.start} does not follow offset {covered}")
        covered = chunk.end
        if chunk.end <= position:
            continue
        for batch in checked_chunk(archive, chunk, what):
            if batch.last_offset >= position:
                yield batch
    if log.chunks and (log.chunks[0].start > log.start or (covered or 0) < log.end):
        raise BackupError(f"{what}: the chunks do not reach from offset {log.start} to {log.end}")


def checked_chunk(archive: Archive, chunk: Chunk, what: str) -> Iterator[BatchView]:
    """The batches of a chunk."""
    data = archive.get(chunk.name, chunk.size_bytes)
    if len(data) != chunk.size_bytes or hashlib.sha256(data).hexdigest() != chunk.sha256:
        raise UnreadableBackupError(
            f"{what}: {chunk.name} in {archive} is not what was kept there; `fastlog backup --verify-kept 100` puts it "
            "back, where the cluster that it is of has the records still"
        )
    return checked(memoryview(data), f"{what}: {chunk.name}")


def verify(archive: Archive, manifest: Manifest, done: Callable[[int], None]) -> int:
    """Reads all of a backup; the number of batches. `done` is told of bytes. Raises BackupError."""
    count = 0
    for topic in manifest.topics:
        for log in topic.partitions:
            for batch in batches_of(archive, log, f"{topic.name}-{log.partition}", log.start):
                count += 1
                done(len(batch.data))
    return count
