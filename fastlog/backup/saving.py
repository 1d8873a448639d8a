"""Taking a backup: positions of groups first, so that no position is kept of records that are not.

Crash points: chunks are written before the manifest that names them. What a backup that was interrupted has written is
found again by the next one.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastlog.backup import archive as archives
from fastlog.backup.batches import checked, whole
from fastlog.backup.manifest import (
    Chunk,
    GroupBackup,
    Manifest,
    PartitionBackup,
    Position,
    TopicBackup,
    encode,
    name_of,
)
from fastlog.backup.partitions import PATIENCE_MS, Partitions
from fastlog.client.admin import Admin
from fastlog.client.connection import monotonic_ms
from fastlog.errors import BackupError, OffsetOutOfRangeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fastlog.backup.archive import Archive
    from fastlog.client.admin.results import TopicDescription

#: a chunk is closed when it has so many bytes; it is in memory meanwhile
CHUNK_BYTES = 32 << 20
CHUNKS = "chunks/"
CHUNK_NAME = re.compile(r"(\d{20})-(\d{20})-([0-9a-f]{64})$")
#: set by this cluster where a topic is just being restored
RESTORING = "fastlog.restoring"


def back_up(
    bootstrap: str,
    archive: Archive,
    *,
    topics: Iterable[str] = (),
    groups: Iterable[str] = (),
    done: Callable[[int], None] = lambda _count: None,
) -> Manifest:
    """Takes a backup of `topics` and `groups`, of all where none are named; `done` is told of records as they are kept.

    Records are kept up to the end that each partition has when its topic's turn comes, without transactions that are
    open then. Blocks. Raises what the cluster answers, and BackupError.
    """
    with Admin(bootstrap) as admin, Partitions(bootstrap) as partitions:
        cluster_id = admin.describe_cluster().cluster_id
        kept_groups = tuple(_groups(admin, list(groups)))
        names = list(topics) or [it.name for it in admin.list_topics()]
        last = archives.manifest_of(archive) if archives.taken(archive) else None
        if last is not None and last.cluster_id != cluster_id:
            raise BackupError(
                f"{archive} has backups of the cluster {last.cluster_id}, this is {cluster_id}; take another place"
            )
        saving = Saving(partitions, archive, done)
        known = {it.topic_id: it for it in last.topics} if last is not None else {}
        kept_topics = []
        for name in names:
            topic = admin.describe_topic(name)
            entries = admin.describe_configs(topic=name)
            configs = {key: it.value for key, it in entries.items() if it.source == "topic" and it.value}
            if configs.get(RESTORING) == "true":
                raise BackupError(f"topic {name!r} is being restored; take the backup when that is done")
            policy = entries["cleanup.policy"].value or ""
            before = known.get(topic.topic_id)
            # a tombstone may have come and gone since the last backup, and what it deleted is in that one
            is_appended_only = "compact" not in policy.split(",")
            kept_topics.append(
                saving.topic(topic, configs, before if is_appended_only else None, is_appended_only)
            )
    manifest = Manifest(
        taken=name_of(datetime.now(UTC)),
        cluster_id=cluster_id,
        topics=tuple(kept_topics),
        groups=kept_groups,
    )
    archive.put(manifest.object_name, encode(manifest))
    return manifest


def _groups(admin: Admin, names: list[str]) -> Iterator[GroupBackup]:
    for name in names or sorted(it.group_id for it in admin.list_groups()):
        found = admin.list_group_offsets(name)
        positions = tuple(
            Position(topic=topic, partition=partition, offset=it.offset, metadata=it.metadata)
            for (topic, partition), it in sorted(found.items())
        )
        if positions:
            yield GroupBackup(group_id=name, positions=positions)


class Saving:
    """Keeps topics in an archive."""

    def __init__(self, partitions: Partitions, archive: Archive, done: Callable[[int], None]) -> None:
        self._partitions = partitions
        self._archive = archive
        self._done = done

    def topic(
        self,
        topic: TopicDescription,
        configs: dict[str, str],
        before: TopicBackup | None,
        goes_on: bool,
    ) -> TopicBackup:
        """All partitions; `before` is the last backup of it, and `goes_on` whether what was kept is used."""
        places = [(topic.name, it.partition) for it in topic.partitions]
        # ends before starts: what is deleted between the two is not asked for
        ends = self._partitions.stable_ends(places)
        starts = self._partitions.starts(places)
        earlier = {it.partition: it.chunks for it in before.partitions} if before is not None else {}
        found = []
        for place in places:
            number = place[1]
            log = _Log(self, topic.topic_id, place)
            known = log.known(earlier.get(number, ()), starts[place]) if goes_on else []
            found.append(log.save(known, starts[place], max(starts[place], ends[place])))
        return TopicBackup(name=topic.name, topic_id=topic.topic_id, configs=configs, partitions=tuple(found))


class _Log:
    """One partition."""

    def __init__(self, saving: Saving, topic_id: str, place: tuple[str, int]) -> None:
        self._partitions = saving._partitions
        self._archive = saving._archive
        self._done = saving._done
        self._topic_id = topic_id
        self._place = place
        self._what = f"{place[0]}-{place[1]}"
        self._folder = f"{CHUNKS}{topic_id}/{place[1]}/"

    def known(self, chunks: Sequence[Chunk], start: int) -> list[Chunk]:
        """The chunks from `start` on that are kept already, and that the leader has just so."""
        found = [it for it in chunks if it.end > start]
        if not found:
            found = list(self._interrupted(start, from_start=True))
        elif found[0].start > start:
            return []
        found += self._interrupted(found[-1].end if found else start)
        while found and not self._is_there(found[-1]):
            found.pop()
        return found

    def _interrupted(self, position: int, *, from_start: bool = False) -> Iterator[Chunk]:
        """Chunks that no manifest names: what an interrupted backup has written, from `position` on."""
        names = [name for name in self._archive.names(self._folder) if CHUNK_NAME.search(name)]
        by_start = {_words(name)[0]: name for name in names}
        if from_start:
            position = max((it for it in by_start if it <= position), default=position)
        while (found := by_start.get(position)) is not None:
            data = self._archive.get(found)
            _, end, digest = _words(found)
            if hashlib.sha256(data).hexdigest() != digest:
                return
            *_, last = checked(memoryview(data), found)
            yield Chunk(
                name=found,
                start=position,
                end=end,
                size_bytes=len(data),
                sha256=digest,
                leader_epoch=last.leader_epoch,
            )
            position = end

    def _is_there(self, chunk: Chunk) -> bool:
        """Whether the leader has the chunk's last record still, of the epoch that it had: nothing was cut off since."""
        epoch, end = self._partitions.end_of_epoch(self._place, chunk.leader_epoch)
        return epoch == chunk.leader_epoch and end >= chunk.end

    def save(self, known: list[Chunk], start: int, end: int) -> PartitionBackup:
        """Keeps what is missing up to `end`."""
        chunks = [it for it in known if it.start < end]
        position = chunks[-1].end if chunks else start
        parts: list[memoryview] = []
        first, epoch = position, -1
        waits_until_ms = monotonic_ms() + PATIENCE_MS
        while position < end:
            try:
                data = whole(memoryview(self._partitions.fetch(self._place, self._topic_id, position)))
            except OffsetOutOfRangeError:
                # retention was here; what is kept of before is of no use any more
                start = self._partitions.starts([self._place])[self._place]
                if start <= position:
                    raise
                chunks, parts = [], []
                first = position = min(start, end)
                start = position
                continue
            before = position
            for batch in checked(data, self._what):
                if batch.last_offset >= position:
                    parts.append(batch.data)
                    position, epoch = batch.last_offset + 1, batch.leader_epoch
            if position > before:
                self._done(position - before)
                waits_until_ms = monotonic_ms() + PATIENCE_MS
            elif monotonic_ms() > waits_until_ms:
                raise BackupError(
                    f"{self._what}: nothing came from offset {position} on for {PATIENCE_MS / 1000:.0f} s, but it ends "
                    f"at {end}; look at the leader's log"
                )
            if parts and (position >= end or sum(map(len, parts)) >= CHUNK_BYTES):
                chunks.append(self._put(b"".join(parts), first, position, epoch))
                parts, first = [], position
        return PartitionBackup(
            partition=self._place[1], start=start, end=max(position, end), chunks=tuple(chunks)
        )

    def _put(self, data: bytes, start: int, end: int, leader_epoch: int) -> Chunk:
        digest = hashlib.sha256(data).hexdigest()
        name = f"{self._folder}{start:020}-{end:020}-{digest}"
        self._archive.put(name, data)
        return Chunk(
            name=name, start=start, end=end, size_bytes=len(data), sha256=digest, leader_epoch=leader_epoch
        )


def _words(name: str) -> tuple[int, int, str]:
    """The offsets and the checksum that a chunk is named by."""
    match = CHUNK_NAME.search(name)
    if match is None:
        raise BackupError(f"{name} is not the name of a chunk")
    return int(match[1]), int(match[2]), match[3]
