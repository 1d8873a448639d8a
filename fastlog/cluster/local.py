"""The metadata store of a single node: an SQLite file in the data directory.

Each write is one transaction that is synced before the call returns (SQLite's write-ahead log with synchronous=FULL).
The file's format has a number; a newer one than this version knows is refused untouched.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import functools
import os
import sqlite3
import threading
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from fastlog.cluster.local_soundness import VALUES_TWICE, check_sound
from fastlog.ports import (
    AlreadyExistsError,
    ConfigResource,
    Conflict,
    Deletion,
    NotFoundError,
    PartitionKey,
    PartitionState,
    Snapshot,
    StoredConfigs,
    StoreError,
    StoreUnavailableError,
    Topic,
    Unknown,
    VersionConflictError,
    Written,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from fastlog.ports import PartitionWrite, WriteResult

FILE_NAME = "metadata.sqlite"
#: of the data directory, held by the engine with flock(2)
LOCK_NAME = ".lock"
FORMAT = 1
# Kafka's producer ids are int64 and count from 0
PRODUCER_IDS_END = 2**63 - 1

SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE topics (topic_id BLOB PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE partitions (
    topic_id BLOB NOT NULL REFERENCES topics ON DELETE CASCADE, partition INTEGER NOT NULL,
    replicas TEXT NOT NULL, leader INTEGER NOT NULL, leader_epoch INTEGER NOT NULL, isr TEXT NOT NULL,
    version INTEGER NOT NULL, PRIMARY KEY (topic_id, partition)) STRICT;
CREATE TABLE deletions (
    topic_id BLOB PRIMARY KEY, name TEXT NOT NULL, partition_count INTEGER NOT NULL, done INTEGER NOT NULL) STRICT;
CREATE TABLE configs (
    kind TEXT NOT NULL, name TEXT NOT NULL, entries TEXT NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (kind, name)) STRICT;
CREATE TABLE producer_ids (next INTEGER NOT NULL) STRICT;
INSERT INTO producer_ids VALUES (0);
"""


def encode_cluster_id(value: UUID) -> str:
    """Kafka's text form of an id: 22 characters of URL-safe base64."""
    return base64.urlsafe_b64encode(value.bytes).decode().rstrip("=")


def check_store(directory: Path, cluster_id: str | None) -> None:
    """Raises StoreError when the store in `directory`, if there is one, is not for this version and this cluster.

    It only reads, and compares all that there is: for a look before anything is written. Of a directory that a running
    broker has it says nothing: taking that is refused anyway. `cluster_id` is the directory's; None where it belongs to
    none.
    """
    path = directory / FILE_NAME
    if not path.exists():
        return
    try:
        if _is_in_use(directory / LOCK_NAME):
            return
        with contextlib.closing(_open_to_read(path)) as db:
            _check_format(db, path)
            check_sound(db, path)
            found = _known_cluster_id(db)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"cannot open the metadata store {path}: {error}") from error
    if found is not None:
        _check_cluster(path, found, cluster_id)


def _is_in_use(lock: Path) -> bool:
    """Whether a running broker holds the lock of its directory.

    Where that broker is in this process, SQLite would keep the file of a second look open for as long as the first one
    is: closing it would end the first one's POSIX locks.
    """
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _open_to_read(path: Path) -> sqlite3.Connection:
    wal = path.with_name(f"{FILE_NAME}-wal")
    # what a killed broker left in the write-ahead log is part of the store; without one nothing else is to be made
    mode = "mode=ro" if wal.exists() and wal.stat().st_size else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)


def _check_format(db: sqlite3.Connection, path: Path) -> int:
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    if found > FORMAT:
        raise StoreError(
            f"the metadata store {path} has format {found}, this version knows up to {FORMAT}: "
            "it was written by a newer fastlog, which is the one to start"
        )
    return found


def _known_cluster_id(db: sqlite3.Connection) -> str | None:
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'facts'").fetchone():
        return None
    row = db.execute("SELECT value FROM facts WHERE name = 'cluster.id'").fetchone()
    return None if row is None else str(row[0])


def _check_cluster(path: Path, found: str, cluster_id: str | None) -> None:
    if cluster_id is None:
        raise StoreError(
            f"the metadata store {path} is of cluster {found}, but its directory has no meta.properties: "
            "restore that file, or move the store away to begin without its topics"
        )
    if found != cluster_id:
        raise StoreError(
            f"the metadata store {path} is of cluster {found}, its directory of {cluster_id}: "
            "one of the two was moved here from another broker"
        )


class LocalStore:
    """`MetadataStore` over SQLite; one connection under one lock."""

    def __init__(self, directory: Path, cluster_id: str) -> None:
        """Opens or creates the store of the cluster `cluster_id` in `directory`.

        Raises StoreError when it is unusable, too new, or of another cluster.
        """
        self._path = directory / FILE_NAME
        self._cluster_id = cluster_id
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
                _sync_directory(directory)
            except BaseException:
                self._connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot open the metadata store {self._path}: {error}") from error

    def _prepare(self) -> None:
        found = _check_format(self._connection, self._path)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        if found < FORMAT:
            self._connection.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;"
            )
        self._connection.executescript(f"BEGIN IMMEDIATE; {VALUES_TWICE} COMMIT;")
        _check_cluster(self._path, self.cluster_id(), self._cluster_id)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                if self._connection_in_transaction():
                    self._connection.execute("ROLLBACK")
                # absent where Python refused, not SQLite
                is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
                advice = "; free some space, it goes on by itself" if is_full else ""
                raise StoreUnavailableError(
                    f"the metadata store {self._path} failed: {error}{advice}"
                ) from error

    def _connection_in_transaction(self) -> bool:
        try:
            return self._connection.in_transaction
        except sqlite3.Error:
            return False

    def cluster_id(self) -> str:
        """The cluster's id; see MetadataStore."""
        with self._transaction() as db:
            row = db.execute("SELECT value FROM facts WHERE name = 'cluster.id'").fetchone()
            if row is not None:
                return str(row[0])
            db.execute("INSERT INTO facts VALUES ('cluster.id', ?)", (self._cluster_id,))
            return self._cluster_id

    def topics(self) -> list[Topic]:
        """Every topic; see MetadataStore."""
        with self._transaction() as db:
            rows = db.execute("SELECT topic_id, name FROM topics ORDER BY name").fetchall()
            states: dict[bytes, list[PartitionState]] = {row[0]: [] for row in rows}
            for row in db.execute(
                "SELECT topic_id, replicas, leader, leader_epoch, isr, version FROM partitions "
                "ORDER BY topic_id, partition"
            ):
                states[row[0]].append(_state(row[1:]))
        return [
            Topic(name=name, topic_id=UUID(bytes=key), partitions=tuple(states[key])) for key, name in rows
        ]

    def snapshot(self) -> Snapshot:
        """All at once; see MetadataStore."""
        return Snapshot(
            topics=tuple(self.topics()), configs=self.configs(), deletions=tuple(self.deletions())
        )

    def create_topic(self, topic: Topic, configs: Mapping[str, str]) -> None:
        """Adds a topic; see MetadataStore."""
        (error,) = self.create_topics([(topic, configs)])
        if error is not None:
            raise error

    def create_topics(
        self, topics: Sequence[tuple[Topic, Mapping[str, str]]]
    ) -> list[AlreadyExistsError | None]:
        """As `create_topic` for each, with one sync for all of them; answers why a topic was not added."""
        with self._transaction() as db:
            return [_add_topic(db, topic, configs) for topic, configs in topics]

    def add_partitions(
        self, topic_id: UUID, expected_count: int, partitions: Sequence[PartitionState]
    ) -> Topic:
        """Adds partitions; see MetadataStore."""
        key = topic_id.bytes
        with self._transaction() as db:
            name = _topic_name(db, topic_id)
            count = db.execute("SELECT count(*) FROM partitions WHERE topic_id = ?", (key,)).fetchone()[0]
            if count != expected_count:
                raise VersionConflictError(f"topic {name} has {count} partitions, not {expected_count}")
            _insert(db, key, expected_count, partitions)
            rows = db.execute(
                "SELECT replicas, leader, leader_epoch, isr, version FROM partitions "
                "WHERE topic_id = ? ORDER BY partition",
                (key,),
            ).fetchall()
        return Topic(name=name, topic_id=topic_id, partitions=tuple(_state(row) for row in rows))

    def raise_leader_epochs(self) -> None:
        """Gives each partition its next leader epoch."""
        with self._transaction() as db:
            db.execute("UPDATE partitions SET leader_epoch = leader_epoch + 1, version = version + 1")

    def update_partition(self, topic_id: UUID, partition: int, state: PartitionState) -> PartitionState:
        """Replaces a partition's state; see MetadataStore."""
        with self._transaction() as db:
            result = _update(db, PartitionKey(topic_id, partition), state)
        if isinstance(result, Written):
            return msgspec.structs.replace(state, version=result.version)
        where = f"partition {partition} of the topic with id {topic_id}"
        if result.actual is None:
            raise NotFoundError(f"there is no {where}")
        raise VersionConflictError(f"{where} is at version {result.actual.version}, not {state.version}")

    def update_partitions(self, writes: Sequence[PartitionWrite]) -> list[WriteResult]:
        """Replaces the states of many partitions in one transaction; see MetadataStore."""
        with self._transaction() as db:
            return [_update(db, write.key, write.state) for write in writes]

    def read_partitions(self, keys: Sequence[PartitionKey]) -> list[PartitionState | Unknown | None]:
        """The states as they are now; see MetadataStore."""
        with self._transaction() as db:
            return [_read(db, key) for key in keys]

    def delete_topic(self, topic_id: UUID) -> None:
        """Removes a topic; see MetadataStore."""
        (error,) = self.delete_topics([topic_id])
        if error is not None:
            raise error

    def delete_topics(self, topic_ids: Sequence[UUID]) -> list[NotFoundError | None]:
        """As `delete_topic` for each, with one sync for all of them; answers which ids never were."""
        with self._transaction() as db:
            return [_delete_topic(db, topic_id) for topic_id in topic_ids]

    def deletions(self) -> list[Deletion]:
        """The deletions that are not finished; see MetadataStore."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT name, topic_id, partition_count FROM deletions WHERE done = 0 ORDER BY name, topic_id"
            ).fetchall()
        return [
            Deletion(name=name, topic_id=UUID(bytes=key), partition_count=count) for name, key, count in rows
        ]

    def forget_deletion(self, topic_id: UUID) -> None:
        """Marks a deletion as finished; its id stays known, so that it is never used again."""
        self.forget_deletions([topic_id])

    def forget_deletions(self, topic_ids: Sequence[UUID]) -> None:
        """As `forget_deletion` for each, with one sync for all of them."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE deletions SET done = 1 WHERE topic_id = ?", [(it.bytes,) for it in topic_ids]
            )

    def configs(self, *, plain_topics: bool = True) -> dict[ConfigResource, StoredConfigs]:
        """Every resource that has settings; see MetadataStore.

        `plain_topics`: also topics that were created without any, and were given none since.
        """
        some = "" if plain_topics else "WHERE kind != 'topic' OR entries != '{}' OR version != 1"
        with self._transaction() as db:
            rows = db.execute(
                f"SELECT kind, name, entries, version FROM configs {some} ORDER BY kind, name"  # noqa: S608
            ).fetchall()
        return {
            ConfigResource(kind, name): StoredConfigs(
                msgspec.json.decode(entries, type=dict[str, str]), version
            )
            for kind, name, entries, version in rows
        }

    def put_configs(self, resource: ConfigResource, values: Mapping[str, str], expected_version: int) -> int:
        """Replaces the settings of a resource; see MetadataStore."""
        with self._transaction() as db:
            if resource.kind == "topic" and not _exists(db, resource.name):
                raise NotFoundError(f"topic {resource.name} does not exist")
            row = db.execute(
                "SELECT version FROM configs WHERE kind = ? AND name = ?", (resource.kind, resource.name)
            ).fetchone()
            version = 0 if row is None else int(row[0])
            if version != expected_version:
                raise VersionConflictError(
                    f"the settings of {resource.kind} {resource.name} are at version {version}, not {expected_version}"
                )
            _write_configs(db, resource, values, version + 1)
            return version + 1

    def allocate_producer_ids(self, count: int) -> range:
        """Hands out a block of producer ids; see MetadataStore."""
        with self._transaction() as db:
            start = int(db.execute("SELECT next FROM producer_ids").fetchone()[0])
            if start + count > PRODUCER_IDS_END:
                raise StoreError(f"the metadata store {self._path} has no producer ids left")
            db.execute("UPDATE producer_ids SET next = ?", (start + count,))
            return range(start, start + count)

    def close(self) -> None:
        """Closes the file; again is harmless."""
        with self._lock:
            self._connection.close()


def _sync_directory(directory: Path) -> None:
    """Makes the files' names durable: SQLite syncs what is in them."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# most partitions of one node are in the same state: they share one object
@functools.lru_cache(maxsize=1024)
def _state(row: tuple[str, int, int, str, int]) -> PartitionState:
    replicas, leader, leader_epoch, isr, version = row
    decode = msgspec.json.decode
    return PartitionState(
        replicas=decode(replicas, type=tuple[int, ...]),
        leader=leader,
        leader_epoch=leader_epoch,
        isr=decode(isr, type=tuple[int, ...]),
        version=version,
    )


def _columns(state: PartitionState) -> tuple[str, int, int, str, int]:
    of_a_cluster = (
        state.isr_epochs,
        state.elr,
        state.last_known_elr,
        state.recovering,
        state.adding,
        state.removing,
    )
    if any(of_a_cluster):
        raise StoreError(f"the metadata store of a single node cannot keep what a cluster knows: {state}")
    encode = msgspec.json.encode
    return (
        encode(state.replicas).decode(),
        state.leader,
        state.leader_epoch,
        encode(state.isr).decode(),
        state.version,
    )


def _read(db: sqlite3.Connection, key: PartitionKey) -> PartitionState | None:
    row = db.execute(
        "SELECT replicas, leader, leader_epoch, isr, version FROM partitions WHERE topic_id = ? AND partition = ?",
        (key.topic_id.bytes, key.partition),
    ).fetchone()
    return None if row is None else _state(row)


def _update(db: sqlite3.Connection, key: PartitionKey, state: PartitionState) -> Written | Conflict:
    actual = _read(db, key)
    if actual is None or actual.version != state.version:
        return Conflict(actual)
    fresh = msgspec.structs.replace(state, version=state.version + 1)
    db.execute(
        "UPDATE partitions SET replicas = ?, leader = ?, leader_epoch = ?, isr = ?, version = ? "
        "WHERE topic_id = ? AND partition = ?",
        (*_columns(fresh), key.topic_id.bytes, key.partition),
    )
    return Written(fresh.version)


def _add_topic(db: sqlite3.Connection, topic: Topic, configs: Mapping[str, str]) -> AlreadyExistsError | None:
    key = topic.topic_id.bytes
    found = db.execute(
        "SELECT topic_id, name FROM topics WHERE topic_id = ? OR name = ?", (key, topic.name)
    ).fetchall()
    if found == [(key, topic.name)]:
        return None
    if found or db.execute("SELECT 1 FROM deletions WHERE topic_id = ?", (key,)).fetchone():
        return AlreadyExistsError(f"topic {topic.name} already exists")
    db.execute("INSERT INTO topics VALUES (?, ?)", (key, topic.name))
    _insert(db, key, 0, topic.partitions)
    _write_configs(db, ConfigResource("topic", topic.name), configs, 1)
    return None


def _delete_topic(db: sqlite3.Connection, topic_id: UUID) -> NotFoundError | None:
    key = topic_id.bytes
    if db.execute("SELECT 1 FROM deletions WHERE topic_id = ?", (key,)).fetchone():
        return None
    try:
        name = _topic_name(db, topic_id)
    except NotFoundError as error:
        return error
    db.execute(
        "INSERT INTO deletions SELECT ?, ?, count(*), 0 FROM partitions WHERE topic_id = ?", (key, name, key)
    )
    db.execute("DELETE FROM topics WHERE topic_id = ?", (key,))
    db.execute("DELETE FROM configs WHERE kind = 'topic' AND name = ?", (name,))
    return None


def _insert(db: sqlite3.Connection, key: bytes, first: int, partitions: Sequence[PartitionState]) -> None:
    db.executemany(
        "INSERT INTO partitions VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(key, first + index, *_columns(state)) for index, state in enumerate(partitions)],
    )


def _write_configs(
    db: sqlite3.Connection, resource: ConfigResource, values: Mapping[str, str], version: int
) -> None:
    db.execute(
        "INSERT OR REPLACE INTO configs VALUES (?, ?, ?, ?)",
        (resource.kind, resource.name, msgspec.json.encode(dict(values)).decode(), version),
    )


def _exists(db: sqlite3.Connection, name: str) -> bool:
    return db.execute("SELECT 1 FROM topics WHERE name = ?", (name,)).fetchone() is not None


def _topic_name(db: sqlite3.Connection, topic_id: UUID) -> str:
    row = db.execute("SELECT name FROM topics WHERE topic_id = ?", (topic_id.bytes,)).fetchone()
    if row is None:
        raise NotFoundError(f"no topic with id {topic_id}")
    return str(row[0])
