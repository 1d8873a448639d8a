"""Taking a backup: positions of groups first, so that no position is kept of records that are not.

Crash points: chunks are written before the manifest that names them. What a backup that was interrupted has written is
found again by the next one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastlog.backup import archive as archives
from fastlog.backup.log_saving import SavedLog
from fastlog.backup.manifest import (
    GroupBackup,
    Manifest,
    Position,
    TopicBackup,
    encode,
    name_of,
)
from fastlog.backup.partitions import Partitions
from fastlog.client.admin import Admin
from fastlog.errors import BackupError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastlog.backup.archive import Archive
    from fastlog.client.admin.results import TopicDescription

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
    with archive.claimed(), Admin(bootstrap) as admin, Partitions(bootstrap) as partitions:
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
            log = SavedLog(self._partitions, self._archive, self._done, topic.topic_id, place)
            known = log.known(earlier.get(number, ()), starts[place]) if goes_on else []
            found.append(log.save(known, starts[place], max(starts[place], ends[place])))
        return TopicBackup(name=topic.name, topic_id=topic.topic_id, configs=configs, partitions=tuple(found))
