"""Taking a backup: positions of groups first, so that no position is kept of records that are not.

Crash points: chunks are written before the manifest that names them. What a backup that was interrupted has written is
found again by the next one.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from fastlog.backup import archive as archives
from fastlog.backup.kept import PERCENT, Turn
from fastlog.backup.log_saving import GONE, UNREADABLE, Run, SavedLog
from fastlog.backup.manifest import (
    CHUNKS,
    FORMAT,
    FORMAT_OF_WHOLE,
    GroupBackup,
    Manifest,
    Position,
    TopicBackup,
    encode,
)
from fastlog.backup.names import name_of, next_name, now
from fastlog.backup.partitions import Partitions
from fastlog.client.admin import Admin
from fastlog.errors import BackupError, UnknownTopicOrPartitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from fastlog.backup.archive import Archive
    from fastlog.backup.manifest import Chunk, PartitionBackup
    from fastlog.client.admin.leaders import TopicPartition
    from fastlog.client.admin.results import TopicDescription

_log = logging.getLogger(__name__)
NOT_USED = "this backup does not go on from that one"
#: how long a request is tried again when a partition could not be read in the same run
PATIENCE_AFTER_MS = 10_000
#: set by this cluster where a topic is just being restored
RESTORING = "fastlog.restoring"
#: the backup that a topic is of; another cluster's name says nothing in this one
RESTORED_FROM = "fastlog.restored.from"


def back_up(
    bootstrap: str,
    archive: Archive,
    *,
    topics: Iterable[str] = (),
    groups: Iterable[str] | None = None,
    verify_percent: float = PERCENT,
    done: Callable[[int], None] = lambda _count: None,
    tell: Callable[[str], None] = _log.warning,
) -> Manifest:
    """Takes a backup of `topics`, of all where none are named, and of `groups`, of all where it is None.

    `done` is told of records as they are kept.
    `verify_percent` of the chunks that are used again are read and compared, other ones in the next backup. `tell` is
    told, in words, of what is not as it should be and was not in the way.

    Records are kept up to the end that each partition has when its topic's turn comes, without transactions that are
    open then. Where no topics are named, one that is deleted meanwhile is left out, and a partition that cannot be read
    is kept as far as it was, now or in an earlier backup: the manifest's `gaps` name it. Blocks. Raises what the
    cluster answers, and BackupError, also where a group that is named does not exist.
    """
    wanted = None if groups is None else list(groups)
    with Admin(bootstrap) as admin, Partitions(bootstrap) as partitions, ExitStack() as claim:
        # before anything is changed, in the cluster or in the archive
        names_of_groups = _names_of_groups(admin, wanted)
        claim.enter_context(archive.claimed())
        cluster_id = admin.describe_cluster().cluster_id
        kept_groups = tuple(_groups(admin, names_of_groups))
        for name in sorted(set(wanted or ()) - {it.group_id for it in kept_groups}):
            tell(f"group {name!r} has no positions yet, and is not in this backup")
        named = list(topics)
        names = named or [it.name for it in admin.list_topics()]
        last = archives.newest(archive, lambda found: tell(f"{found}; {NOT_USED}"))
        if last is not None and last.cluster_id != cluster_id:
            raise BackupError(
                f"{archive} has backups of the cluster {last.cluster_id}, this is {cluster_id}; take another place"
            )
        turn = Turn.of(last.verified_to if last is not None else 0, verify_percent)
        saving = Saving(admin, Run(partitions, archive, done, tell, turn), may_miss=not named)
        known = _Known(archive, last)
        kept_topics = []
        for name in names:
            topic = saving.topic(name, known)
            if topic is None:
                tell(f"topic {name!r} was deleted while the backup was taken, which goes on without it")
            else:
                kept_topics.append(topic)
                for gap in topic.gaps():
                    tell(f"{gap}: the rest could not be read, and is not in this backup")
        made = Manifest(
            format=FORMAT if any(it.gaps() for it in kept_topics) else FORMAT_OF_WHOLE,
            taken="",
            cluster_id=cluster_id,
            topics=tuple(kept_topics),
            groups=kept_groups,
            verified_to=turn.end,
        )
        return _keep(archive, made, tell)


def _keep(archive: Archive, made: Manifest, tell: Callable[[str], None]) -> Manifest:
    """Names a backup after all that are there, and keeps its manifest."""
    while True:
        moment = now()
        known = archives.taken(archive)
        clock, taken = name_of(moment), next_name(known, moment)
        manifest = msgspec.structs.replace(made, taken=taken, clock=clock if clock != taken else "")
        # another backup may have taken the name just now, where places have no locks
        if archive.create(manifest.object_name, encode(manifest)):
            break
    if manifest.clock:
        tell(
            f"{archive} has a backup that is called {known[-1]}, later than this machine's clock, which says {clock}: "
            f"one of the two is wrong. This one is called {taken} and is the newest; set the clock right"
        )
    return manifest


def _names_of_groups(admin: Admin, wanted: Iterable[str] | None) -> list[str]:
    """The groups that are kept; raises BackupError for one that does not exist.

    They are listed: asking for a group's positions would make the topic that keeps them, where there is none.
    """
    if wanted is None:
        return [it.group_id for it in admin.list_groups()]
    names = list(dict.fromkeys(wanted))
    known = {it.group_id for it in admin.list_groups()} if names else set()
    for name in names:
        if name not in known:
            raise BackupError(
                f"there is no group {name!r}, and nothing was backed up; `fastlog groups list` names them all"
            )
    return names


def _groups(admin: Admin, names: Iterable[str]) -> Iterator[GroupBackup]:
    """Groups with their positions, without those that have none."""
    for name in names:
        found = admin.list_group_offsets(name)
        positions = tuple(
            Position(topic=topic, partition=partition, offset=it.offset, metadata=it.metadata)
            for (topic, partition), it in sorted(found.items())
        )
        if positions:
            yield GroupBackup(group_id=name, positions=positions)


class _Known:
    """Topics as the newest backups have them that do; manifests are read when they are asked for."""

    def __init__(self, archive: Archive, last: Manifest | None) -> None:
        self._archive = archive
        self._manifests = (it for _, it in archives.manifests_of(archive) if isinstance(it, Manifest))
        self._topics = {it.topic_id: it for it in last.topics} if last is not None else {}

    def topic(self, topic_id: str) -> TopicBackup | None:
        """None of one that no backup has."""
        if topic_id not in self._topics and not self._archive.sizes(f"{CHUNKS}{topic_id}/0/"):
            return None  # a new topic is not looked for in all manifests
        while topic_id not in self._topics and (manifest := next(self._manifests, None)) is not None:
            for it in manifest.topics:
                self._topics.setdefault(it.topic_id, it)
        return self._topics.get(topic_id)


class Saving:
    """Keeps topics in an archive."""

    def __init__(self, admin: Admin, run: Run, *, may_miss: bool) -> None:
        self._admin = admin
        self._run = run
        self._may_miss = may_miss

    def topic(self, name: str, known: _Known) -> TopicBackup | None:
        """Keeps a topic; `known` are those of earlier backups.

        None where it was deleted meanwhile, and something may be missing.
        """
        topic = None
        try:
            topic = self._admin.describe_topic(name)
            return self._described(topic, known.topic(topic.topic_id))
        except GONE:
            if self._may_miss and self._is_gone(name, topic):
                return None
            raise

    def _is_gone(self, name: str, topic: TopicDescription | None) -> bool:
        """Whether there is no such topic, or another one by its name, which is for the next backup."""
        try:
            there = self._admin.describe_topic(name)
        except UnknownTopicOrPartitionError:
            return True
        return topic is not None and there.topic_id != topic.topic_id

    def _described(self, topic: TopicDescription, before: TopicBackup | None) -> TopicBackup:
        entries = self._admin.describe_configs(topic=topic.name)
        configs = {key: it.value for key, it in entries.items() if it.source == "topic" and it.value}
        configs.pop(RESTORED_FROM, None)
        if configs.get(RESTORING) == "true":
            raise BackupError(f"topic {topic.name!r} is being restored; take the backup when that is done")
        # a tombstone may have come and gone since the last backup, and what it deleted is in that one; so too where the
        # topic was still compacted then
        policies = [entries["cleanup.policy"].value, before.configs.get("cleanup.policy") if before else None]
        goes_on = not any("compact" in (it or "").split(",") for it in policies)
        found = tuple(self._logs(topic, before, goes_on=goes_on))
        return TopicBackup(name=topic.name, topic_id=topic.topic_id, configs=configs, partitions=found)

    def _logs(
        self, topic: TopicDescription, before: TopicBackup | None, *, goes_on: bool
    ) -> Iterator[PartitionBackup]:
        """All partitions; `before` is the last backup of it, and `goes_on` whether what was kept is used."""
        places = [(topic.name, it.partition) for it in topic.partitions]
        earlier = {it.partition: it for it in before.partitions} if before is not None else {}
        bounds = self._bounds(places)
        for place in places:
            last, log = earlier.get(place[1]), SavedLog(self._run, topic.topic_id, place)
            chunks = last.chunks if last is not None else ()
            bound = bounds[place]
            found = (
                bound
                if isinstance(bound, Exception)
                else self._saved(log, chunks if goes_on else None, *bound)
            )
            if isinstance(found, Exception):
                found = log.as_before(last, str(found))
            if found.missing:
                self._is_missing()
            yield found

    def _saved(
        self, log: SavedLog, chunks: Sequence[Chunk] | None, start: int, end: int
    ) -> PartitionBackup | Exception:
        """Keeps a partition; `chunks` are kept already. Why it cannot be read, where something may be missing."""
        try:
            known = log.known(chunks, start) if chunks is not None else []
            return log.save(known, start, max(start, end), may_miss=self._may_miss)
        except UNREADABLE as error:
            if not self._may_miss or isinstance(error, GONE):
                raise
            return error

    def _bounds(self, places: list[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int] | Exception]:
        """Start and end of each partition, or why it cannot be read, where something may be missing."""
        try:
            # ends before starts: what is deleted between the two is not asked for
            ends = self._run.partitions.stable_ends(places)
            starts = self._run.partitions.starts(places)
        except UNREADABLE as error:
            if not self._may_miss or isinstance(error, GONE):
                raise
            self._is_missing()
            if len(places) == 1:
                return {places[0]: error}
            # the others are there perhaps
            return {place: found for it in places for place, found in self._bounds([it]).items()}
        return {it: (starts[it], ends[it]) for it in places}

    def _is_missing(self) -> None:
        """What is still to come is not waited for as long: a directory that is offline has many partitions."""
        partitions = self._run.partitions
        partitions.patience_ms = min(partitions.patience_ms, PATIENCE_AFTER_MS)
