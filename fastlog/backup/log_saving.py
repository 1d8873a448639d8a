"""One partition of a backup: what is kept already is used again where the leader has it still, the rest is fetched.

An unclean election takes records away and puts others at their offsets. Leader epochs tell: a leader that has the end
of what was fetched in an epoch has all before it just so. Each epoch of what is used again, and of what was fetched in
this run, is compared with the leader's: a backup never has records of two histories.

Nor does it after a power cut of an only broker that goes on in the same epoch, as fastlog once did: the last batch of
what is used again is compared too. Where the leader has another one there, the chunk is fetched anew, and so on back
to one that agrees.
"""

from __future__ import annotations

import hashlib
import re
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from fastlog.backup.batches import checked, crc_of, whole
from fastlog.backup.kept import Turn, trouble
from fastlog.backup.manifest import CHUNKS, Chunk, PartitionBackup
from fastlog.backup.reading import checked_chunk
from fastlog.client.connection import monotonic_ms
from fastlog.errors import (
    BackupError,
    KafkaError,
    NotReachableError,
    OffsetOutOfRangeError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
    UnreadableBackupError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fastlog.backup.archive import Archive
    from fastlog.backup.partitions import Partitions
    from fastlog.protocol.batch import BatchView

#: a chunk is closed when it has so many bytes; it is in memory meanwhile
CHUNK_BYTES = 32 << 20
#: what an interrupted backup has written and no manifest names is read again when it has no more than that
INTERRUPTED_BYTES_MAX = 2 * CHUNK_BYTES
CHUNK_NAME = re.compile(r"(\d{20})-(\d{20})-([0-9a-f]{64})$")
FETCHED_ANEW = "is fetched anew from there on, and earlier backups that have it cannot be restored whole"
#: how often a partition may lose records to elections while it is backed up
HISTORIES_MAX = 10
#: of batches older than leader epochs
NO_EPOCH = -1


class UnreadableLogError(BackupError):
    """A partition's leader gives no records, or damaged ones."""


#: what says that a partition cannot be read now, after all tries
UNREADABLE = (KafkaError, NotReachableError, UnreadableLogError)
#: where the topic is deleted, or made anew
GONE = (UnknownTopicOrPartitionError, UnknownTopicIdError)

#: leader epoch -> the offset after the last record that was fetched of it
Ends = dict[int, int]


class Run(NamedTuple):
    """What one run of a backup works with."""

    partitions: Partitions
    archive: Archive
    #: is told of records as they come
    done: Callable[[int], None]
    #: is told, in words, of what is not as it should be
    tell: Callable[[str], None]
    turn: Turn


class SavedLog:
    """Keeps one partition in an archive. Methods block, and raise what the cluster answers, and BackupError."""

    def __init__(self, run: Run, topic_id: str, place: tuple[str, int]) -> None:
        self._partitions = run.partitions
        self._archive = run.archive
        self._run = run
        self._topic_id = topic_id
        self._place = place
        self._what = f"{place[0]}-{place[1]}"
        self._folder = f"{CHUNKS}{topic_id}/{place[1]}/"
        self._sizes: Mapping[str, int] = {}

    def known(self, chunks: Sequence[Chunk], start: int) -> list[Chunk]:
        """The chunks from `start` on that are kept already, and that the leader has just so.

        `chunks` are those of the last backup.
        """
        self._sizes = self._archive.sizes(self._folder)
        # what cannot be put back is fetched anew with all that follows
        named = list(takewhile(self._is_kept, (it for it in chunks if it.end > start)))
        if named and named[0].start > start:
            return []
        asked: dict[int, tuple[int, int]] = {}
        has = partial(self._lost_from, asked=asked)
        kept = self._agreeing(list(takewhile(lambda it: has({it.leader_epoch: it.end}) is None, named)))
        # who wrote these is not known: each of them may be of another history than the one before it
        found = self._interrupted(kept[-1].end if kept else start, from_start=not kept)
        return kept + [
            chunk for chunk, _ in takewhile(lambda it: has(it[1]) is None and self._agrees(it[0]), found)
        ]

    def _agreeing(self, chunks: list[Chunk]) -> list[Chunk]:
        """Those up to the last one that the leader has just so, of chunks of one history."""
        count = len(chunks)
        while count and not self._agrees(chunks[count - 1]):
            count -= 1
        if count < len(chunks):
            self._run.tell(
                f"{self._what} does not have the records before offset {chunks[-1].end} that were kept: it lost some, "
                f"and is fetched anew from offset {chunks[count].start} on"
            )
        return chunks[:count]

    def _agrees(self, chunk: Chunk) -> bool:
        """Whether the leader has the chunk's last batch just so."""
        try:
            found = self._partitions.fetch(self._place, self._topic_id, chunk.end - 1, bytes_max=1)
            crc = self._last_crc(chunk)
        except (OffsetOutOfRangeError, UnreadableBackupError):
            return False
        last = next(self._checked(found), None)
        return last is not None and (last.last_offset + 1, crc_of(last)) == (chunk.end, crc)

    def _checked(self, data: bytes) -> Iterator[BatchView]:
        """The whole batches of what the leader gave."""
        try:
            yield from checked(whole(memoryview(data)), self._what)
        except BackupError as error:
            raise UnreadableLogError(str(error)) from error

    def _last_crc(self, chunk: Chunk) -> int:
        if chunk.last_crc is not None:
            return chunk.last_crc
        *_, last = checked_chunk(self._archive, chunk, self._what)
        return crc_of(last)

    def _is_kept(self, chunk: Chunk) -> bool:
        """Whether the archive has the chunk, perhaps since it was put back just now."""
        wrong = trouble(self._archive, chunk, self._sizes, self._run.turn)
        if not wrong:
            return True
        is_back = self._put_back(chunk)
        then = "it was fetched again, and is as it was" if is_back else f"{self._what} {FETCHED_ANEW}"
        self._run.tell(f"{chunk.name} in {self._archive} is {wrong}; {then}")
        return is_back

    def _put_back(self, chunk: Chunk) -> bool:
        """Fetches a chunk again; whether the leader still has it just so."""
        parts: list[memoryview] = []
        position, size = chunk.start, 0
        while position < chunk.end and size <= chunk.size_bytes:
            try:
                found = self._partitions.fetch(self._place, self._topic_id, position)
            except OffsetOutOfRangeError:
                return False
            before = position
            for batch in self._checked(found):
                if batch.last_offset >= position and position < chunk.end:
                    parts.append(batch.data)
                    size += len(batch.data)
                    position = batch.last_offset + 1
            if position == before:
                return False
        data = b"".join(parts)
        if hashlib.sha256(data).hexdigest() != chunk.sha256:
            return False
        self._archive.put(chunk.name, data)
        self._run.done(chunk.end - chunk.start)
        return True

    def _interrupted(self, position: int, *, from_start: bool = False) -> Iterator[tuple[Chunk, Ends]]:
        """Chunks that no manifest names: what an interrupted backup has written, from `position` on."""
        names = [name for name in self._sizes if CHUNK_NAME.search(name)]
        by_start = {_words(name)[0]: name for name in names}
        if from_start:
            position = max((it for it in by_start if it <= position), default=position)
        while (found := by_start.get(position)) is not None:
            if self._sizes[found] > INTERRUPTED_BYTES_MAX:
                return
            try:
                data = self._archive.get(found, self._sizes[found])
            except UnreadableBackupError:
                return  # nothing depends on it
            _, end, digest = _words(found)
            if hashlib.sha256(data).hexdigest() != digest:
                return
            ends: Ends = {}
            crc = 0
            for batch in checked(memoryview(data), found):
                ends[batch.leader_epoch] = batch.last_offset + 1
                crc = crc_of(batch)
            yield self._chunk(found, position, end, data, digest, max(ends), crc), ends
            position = end

    def _lost_from(self, ends: Ends, asked: dict[int, tuple[int, int]]) -> int | None:
        """The first offset that the leader does not have as it was fetched; None where it has all.

        `asked` are the answers about epochs that are known already.
        """
        for epoch, end in sorted(ends.items()):
            if epoch == NO_EPOCH:
                continue
            if epoch not in asked:
                asked[epoch] = self._partitions.end_of_epoch(self._place, epoch)
            known, its_end = asked[epoch]
            if known != epoch or its_end < end:
                return max(its_end, 0)
        return None

    def as_before(self, before: PartitionBackup | None, why: str) -> PartitionBackup:
        """What an earlier backup has of a partition that cannot be read now: its chunks that are still there."""
        sizes = self._archive.sizes(self._folder)
        found = before.chunks if before is not None else ()
        chunks = tuple(takewhile(lambda it: sizes.get(it.name) == it.size_bytes, found))
        start = before.start if before is not None else 0
        end = chunks[-1].end if chunks else start
        return PartitionBackup(partition=self._place[1], start=start, end=end, chunks=chunks, missing=why)

    def save(self, known: list[Chunk], start: int, end: int, *, may_miss: bool) -> PartitionBackup:
        """Keeps what is missing up to `end`; `known` are the chunks that are kept.

        Where the leader gives no more, `may_miss` has what there is until then kept.
        """
        chunks = [it for it in known if it.start < end]
        for _ in range(HISTORIES_MAX):
            ends: Ends = {chunks[-1].leader_epoch: chunks[-1].end} if chunks else {}
            try:
                saved = self._fetch(chunks, start, end, ends)
            except OffsetOutOfRangeError:
                saved = None
            except UNREADABLE as error:
                if not may_miss or isinstance(error, GONE):
                    raise
                saved = self._up_to_there(chunks, start, str(error))
            lost = self._lost_from(ends, {})
            if saved is not None and lost is None:
                return saved
            # an election took records away while they came
            start = self._partitions.starts([self._place])[self._place]
            end = max(start, self._partitions.stable_ends([self._place])[self._place])
            kept_to = end if lost is None else min(lost, end)
            chunks = self._agreeing([it for it in chunks if it.end <= kept_to])
        raise UnreadableLogError(
            f"{self._what} lost records to elections {HISTORIES_MAX} times while it was backed up; look at its replicas"
        )

    def _up_to_there(self, chunks: list[Chunk], start: int, why: str) -> PartitionBackup:
        start = max(start, chunks[0].start) if chunks else start
        end = chunks[-1].end if chunks else start
        return PartitionBackup(
            partition=self._place[1], start=start, end=end, chunks=tuple(chunks), missing=why
        )

    def _fetch(self, chunks: list[Chunk], start: int, end: int, ends: Ends) -> PartitionBackup:
        """Adds to `chunks` up to `end`, and to `ends` what came.

        Raises OffsetOutOfRangeError where the leader ends before.
        """
        coming = _Coming(chunks[-1].end if chunks else start)
        try:
            waits_until_ms = monotonic_ms() + self._partitions.patience_ms
            while coming.end < end:
                before = coming.end
                try:
                    for batch in self._checked(self._partitions.fetch(self._place, self._topic_id, before)):
                        if batch.last_offset >= coming.end:
                            coming.add(batch)
                            ends[batch.leader_epoch] = coming.end
                except OffsetOutOfRangeError:
                    # retention was here; what is kept of before is of no use any more
                    start = self._partitions.starts([self._place])[self._place]
                    if start <= before:
                        raise
                    chunks.clear()
                    start = min(start, end)
                    coming = _Coming(start)
                    continue
                if coming.end > before:
                    self._run.done(coming.end - before)
                    waits_until_ms = monotonic_ms() + self._partitions.patience_ms
                elif monotonic_ms() > waits_until_ms:
                    raise UnreadableLogError(
                        f"{self._what}: nothing came from offset {before} on for "
                        f"{self._partitions.patience_ms / 1000:.0f} s, but it ends at {end}; look at the leader's log"
                    )
                if coming.end >= end or coming.size_bytes >= CHUNK_BYTES:
                    coming = self._close(coming, chunks)
        except UNREADABLE:
            # what came before is kept: the next run may come no further
            self._close(coming, chunks)
            raise
        return PartitionBackup(
            partition=self._place[1], start=start, end=max(coming.end, end), chunks=tuple(chunks)
        )

    def _close(self, coming: _Coming, chunks: list[Chunk]) -> _Coming:
        """Keeps a chunk, if there is anything in it; the next one."""
        if coming.batches:
            data = b"".join(it.data for it in coming.batches)
            digest = hashlib.sha256(data).hexdigest()
            name = f"{self._folder}{coming.start:020}-{coming.end:020}-{digest}"
            self._archive.put(name, data)
            last = coming.batches[-1]
            chunks.append(
                self._chunk(name, coming.start, coming.end, data, digest, last.leader_epoch, crc_of(last))
            )
        return _Coming(coming.end)

    @staticmethod
    def _chunk(
        name: str, start: int, end: int, data: bytes, digest: str, leader_epoch: int, last_crc: int
    ) -> Chunk:
        return Chunk(
            name=name,
            start=start,
            end=end,
            size_bytes=len(data),
            sha256=digest,
            leader_epoch=leader_epoch,
            last_crc=last_crc,
        )


class _Coming:
    """The batches of the chunk that is just being fetched, for the offsets from `start` to before `end`."""

    def __init__(self, start: int) -> None:
        self.start = self.end = start
        self.batches: list[BatchView] = []
        self.size_bytes = 0

    def add(self, batch: BatchView) -> None:
        self.batches.append(batch)
        self.end = batch.last_offset + 1
        self.size_bytes += len(batch.data)


def _words(name: str) -> tuple[int, int, str]:
    """The offsets and the checksum that a chunk is named by."""
    match = CHUNK_NAME.search(name)
    if match is None:
        raise BackupError(f"{name} is not the name of a chunk")
    return int(match[1]), int(match[2]), match[3]
