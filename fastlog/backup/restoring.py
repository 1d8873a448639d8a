"""Bringing a backup back: the same records at the same offsets, in topics that are made for it.

A topic is made with `fastlog.restoring`: it takes the backup's batches and no others, and nothing in it is deleted.
That goes away when all partitions are whole. A topic that has it is one whose restoring was interrupted, and goes on;
one that exists without it is never written to. `fastlog.restored.from` names the backup, and stays: another one never
goes on in the topic, and the same command passes it over when it is whole.

Crash points: positions of groups are set before their topic is opened. A topic that is open has them all, and what
its groups have read since is not taken back by a command that is given again.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeVar

from fastlog.backup.batches import CRC_AT, SPAN_MAX, checked, fillers, marked, whole
from fastlog.backup.partitions import PATIENCE_MS, READ_UNCOMMITTED, Partitions
from fastlog.backup.reading import batches_of
from fastlog.backup.saving import RESTORED_FROM, RESTORING
from fastlog.client.admin import Admin
from fastlog.client.committed_offset import CommittedOffset
from fastlog.client.connection import monotonic_ms
from fastlog.errors import (
    BackupError,
    InvalidConfigError,
    OutOfOrderSequenceNumberError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fastlog.backup.archive import Archive
    from fastlog.backup.manifest import GroupBackup, Manifest, PartitionBackup, Position, TopicBackup

_log = logging.getLogger(__name__)
#: of topics and groups that are told in one line
NAMES_MAX = 10
#: batches that are sent together
RUN_BYTES = 1 << 20
Named = TypeVar("Named")
POLICY = "cleanup.policy"
LOOK_SECONDS = 0.2
DEFAULT = -1


def restore(
    bootstrap: str,
    archive: Archive,
    manifest: Manifest,
    *,
    topics: Iterable[str] = (),
    groups: Iterable[str] = (),
    configs: Mapping[str, str] | None = None,
    replication_factor: int = DEFAULT,
    incomplete: bool = False,
    done: Callable[[int], None] = lambda _bytes: None,
    tell: Callable[[str], None] = _log.warning,
) -> None:
    """Makes `topics` and positions of `groups` as the backup has them, of all where none are named.

    `configs` are set in place of a topic's own of that name. `done` is told of bytes. Blocks. Raises BackupError where
    the backup is damaged or, without `incomplete`, not whole, a topic exists that is not of this backup, or a group has
    members; what was restored until then stays, and goes on when it is called again. `tell` is told, in words, of what
    is missing, of topics that are whole already, of one that stays in part where an error is raised, and of positions
    that are left out with their topics.
    """
    chosen = _chosen(manifest.topics, list(topics), lambda it: it.name, "topic")
    positions = _by_topic(_chosen(manifest.groups, list(groups), lambda it: it.group_id, "group"))
    gaps = [gap for it in chosen for gap in it.gaps()]
    if gaps and not incomplete:
        raise BackupError(
            f"{manifest.taken} is not whole: {'; '.join(gaps)}; name other topics, take another backup (--taken), or "
            "have what there is (--incomplete)"
        )
    for gap in gaps:
        tell(f"{gap}: the rest is not in this backup, and is missing from what is restored")
    with Admin(bootstrap) as admin, Partitions(bootstrap) as partitions:
        states = {it.name: _state(admin, it, manifest.taken) for it in chosen}
        for topic in chosen:
            state, wanted = states[topic.name], {**topic.configs, **(configs or {})}
            groups_of_topic = positions.get(topic.name, {}).items()
            if state is State.WHOLE:
                tell(f"topic {topic.name!r} was restored from {manifest.taken} before, and is left as it is")
                for group, found in groups_of_topic:
                    _set_positions(admin, topic, group, found, only_missing=True)
                continue
            if state is State.ABSENT:
                _create(admin, topic, manifest.taken, wanted, replication_factor)
            with _told_where_it_stays_in_part(topic.name, manifest.taken, tell):
                topic_id = admin.describe_topic(topic.name).topic_id
                for log in topic.partitions:
                    _Restored(partitions, archive, topic, log, topic_id, done).run()
                _cut(admin, partitions, topic)
                for group, found in groups_of_topic:
                    _set_positions(admin, topic, group, found, only_missing=False)
                admin.alter_configs({RESTORING: None, POLICY: wanted.get(POLICY)}, topic=topic.name)
    left_out = sorted(positions.keys() - {it.name for it in chosen})
    if left_out:
        places = [f"{name} ({_some(list(positions[name]))})" for name in left_out]
        tell(f"positions of groups in topics that are not restored now are left out: {_some(places)}")


@contextmanager
def _told_where_it_stays_in_part(name: str, taken: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Tells what becomes of a topic whose restoring an error or a person ends, and what mends it."""
    try:
        yield
    except BaseException:
        tell(
            f"topic {name!r} is not restored to its end. It stays, consumers see what is there, and it takes no "
            f"records of others ({RESTORING}): give the command again with --taken {taken}, which goes on in it, or "
            "delete it"
        )
        raise


def _chosen(
    known: Iterable[Named], names: list[str], name_of: Callable[[Named], str], kind: str
) -> list[Named]:
    by_name = {name_of(it): it for it in known}
    for name in names:
        if name not in by_name:
            raise BackupError(f"the backup has no {kind} {name!r}; it has {', '.join(by_name) or 'none'}")
    return [by_name[name] for name in names or by_name]


def _by_topic(groups: Iterable[GroupBackup]) -> dict[str, dict[str, list[Position]]]:
    """Positions by their topics and groups."""
    found: dict[str, dict[str, list[Position]]] = {}
    for group in groups:
        for it in group.positions:
            found.setdefault(it.topic, {}).setdefault(group.group_id, []).append(it)
    return found


class State(Enum):
    """How far a topic of a backup is."""

    ABSENT = auto()
    INTERRUPTED = auto()
    WHOLE = auto()


def _state(admin: Admin, topic: TopicBackup, taken: str) -> State:
    """How far the topic is; raises BackupError where one is there by its name that is not of this backup."""
    try:
        there = admin.describe_topic(topic.name)
    except UnknownTopicOrPartitionError:
        return State.ABSENT
    entries = admin.describe_configs(topic=topic.name)
    known = {key: entries[key].value or "" for key in (RESTORING, RESTORED_FROM) if key in entries}
    is_open, origin = known.get(RESTORING) != "true", known.get(RESTORED_FROM, "")
    if origin != taken and not is_open:
        raise BackupError(
            f"topic {topic.name!r} is being restored from another backup, {origin or 'it does not say which'}, and "
            f"this is {taken}; go on with that one (--taken), or delete the topic first"
        )
    if origin != taken:
        advice = f" (it was restored from {origin}, with which --taken goes on)" if origin else ""
        raise BackupError(
            f"topic {topic.name!r} exists{advice}, and what is in it is not written over; delete it first, or name "
            "other topics"
        )
    if len(there.partitions) != len(topic.partitions) and not is_open:
        raise BackupError(
            f"topic {topic.name!r} is being restored with {len(there.partitions)} partitions, the backup has "
            f"{len(topic.partitions)}; delete it first"
        )
    return State.WHOLE if is_open else State.INTERRUPTED


def _create(
    admin: Admin, topic: TopicBackup, taken: str, configs: Mapping[str, str], replication_factor: int
) -> None:
    # records below a log's start are deleted, which a topic that is only compacted refuses
    meanwhile = {**configs, RESTORING: "true", RESTORED_FROM: taken, POLICY: "delete"}
    try:
        admin.create_topic(
            topic.name,
            partitions=len(topic.partitions),
            replication_factor=replication_factor,
            configs=meanwhile,
        )
    except InvalidConfigError as error:
        error.add_note("only fastlog restores topics, since other brokers give records offsets of their own")
        raise


def _cut(admin: Admin, partitions: Partitions, topic: TopicBackup) -> None:
    """Deletes what is below the starts of logs; raises BackupError where one is not as long as in the backup."""
    starts = {(topic.name, it.partition): it.start for it in topic.partitions if it.start > 0}
    if starts:
        admin.delete_records(starts)
    places = [(topic.name, it.partition) for it in topic.partitions]
    there = partitions.starts(places), partitions.stable_ends(places)
    for place, log in zip(places, topic.partitions, strict=True):
        if (there[0][place], there[1][place]) != (log.start, log.end):
            raise BackupError(
                f"{place[0]}-{place[1]} reaches from {there[0][place]} to {there[1][place]} after it was restored, in "
                f"the backup from {log.start} to {log.end}; the topic stays closed (fastlog.restoring)"
            )


def _set_positions(
    admin: Admin, topic: TopicBackup, group: str, positions: Iterable[Position], *, only_missing: bool
) -> None:
    """Sets a group's positions in a topic that is restored; one beyond the backup's end, at that end.

    `only_missing` are those that the group does not have there.
    """
    ends = {it.partition: it.end for it in topic.partitions}
    known = admin.list_group_offsets(group) if only_missing else {}
    found = {
        (topic.name, it.partition): CommittedOffset(min(it.offset, ends[it.partition]), it.metadata)
        for it in positions
        if it.partition in ends and (topic.name, it.partition) not in known
    }
    if not found:
        return
    try:
        admin.alter_group_offsets(group, found)
    except UnknownMemberIdError as error:
        raise BackupError(
            f"positions of the group {group!r} in topic {topic.name!r} cannot be set while it has members; stop its "
            "consumers, and give the command again: it goes on from here"
        ) from error


def _some(names: list[str]) -> str:
    """Names for a line that a person reads."""
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return ", ".join(names[:NAMES_MAX]) + more


class _Restored:
    """One partition that is being restored."""

    def __init__(
        self,
        partitions: Partitions,
        archive: Archive,
        topic: TopicBackup,
        log: PartitionBackup,
        topic_id: str,
        done: Callable[[int], None],
    ) -> None:
        self._partitions = partitions
        self._archive = archive
        self._log = log
        self._topic_id = topic_id
        self._done = done
        self._place = (topic.name, log.partition)
        self._what = f"{topic.name}-{log.partition}"

    def run(self) -> None:
        """Sends what is missing."""
        position = self._end()
        if position:
            self._check_goes_on(position)
        deadline = monotonic_ms() + PATIENCE_MS
        while True:
            try:
                for first, next_position, run in self._runs(position):
                    self._partitions.produce(self._place, self._topic_id, first, run)
                    position = next_position
                    self._done(len(run))
                    deadline = monotonic_ms() + PATIENCE_MS
            except OutOfOrderSequenceNumberError:
                # an answer was lost: some of it is there, perhaps not on all replicas yet
                if monotonic_ms() > deadline:
                    raise
                time.sleep(LOOK_SECONDS)
                position = max(position, self._end())
            else:
                return

    def _end(self) -> int:
        """What is sent next; a transaction may be open there, of which the rest is still to come."""
        return self._partitions.ends([self._place])[self._place]

    def _check_goes_on(self, position: int) -> None:
        """Raises BackupError where what is there is not the beginning of the backup."""
        there = self._partitions.fetch(
            self._place, self._topic_id, position - 1, isolation_level=READ_UNCOMMITTED
        )
        found = next(checked(whole(memoryview(there)), self._what), None)
        kept = next(batches_of(self._archive, self._log, self._what, position - 1), None)
        if kept is None or kept.base_offset >= position:
            return  # a batch without records, which was put into a gap
        if found is None or bytes(found.data[CRC_AT:]) != marked(kept)[CRC_AT:]:
            raise BackupError(
                f"{self._what} is being restored from another backup: the batch before offset {position} differs; "
                "delete the topic first"
            )

    def _runs(self, position: int) -> Iterator[tuple[int, int, bytes]]:
        """What is sent together: the first offset, the next one after it, the bytes."""
        parts: list[bytes] = []
        size, first = 0, position
        for batch in batches_of(self._archive, self._log, self._what, position):
            # a segment cannot span more
            if batch.last_offset - position >= SPAN_MAX:
                if parts:
                    yield first, position, b"".join(parts)
                    parts, size = [], 0
                yield from self._filled(position, batch.base_offset)
                position = batch.base_offset
            if not parts:
                first = batch.base_offset
            parts.append(marked(batch))
            size += len(batch.data)
            position = batch.last_offset + 1
            if size >= RUN_BYTES:
                yield first, position, b"".join(parts)
                parts, size = [], 0
        if parts:
            yield first, position, b"".join(parts)
        yield from self._filled(position, self._log.end)

    @staticmethod
    def _filled(position: int, end: int) -> Iterator[tuple[int, int, bytes]]:
        for filler in fillers(position, end):
            count = min(end - position, SPAN_MAX)
            yield position, position + count, filler
            position += count
