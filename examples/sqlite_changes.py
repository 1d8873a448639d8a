"""Changes of a SQLite database, captured into a compacted topic from which its tables can be rebuilt.

    python examples/sqlite_changes.py capture --database shop.db --table orders --topic shop
    python examples/sqlite_changes.py rebuild --database copy.db --topic shop

Triggers write every change into the table `changes` of the same file, in the transaction of the change: what is rolled
back is not captured, and no program that writes has to take part. `capture` sends them in their order and forgets those
that are in the topic. A record's key is the table and the primary key, its value the row, none where it was deleted.
The topic is compacted: however old it is, it holds the newest row of each key.

What is rebuilt is the database as it was after the newest transaction that was captured, whole:

- SQLite has one writer at a time, so the newest change that can be seen is the last one of its transaction, and so is
  everything before it. `capture` marks the record of that one, and `rebuild` reads until the newest change is marked.
- `capture` and the broker may be killed at any moment. What was sent and not forgotten is told by the end of the topic.
  What a killed process had under way may still arrive behind what its successor sends, and compaction would take it for
  the newest. Such a copy is known by its `seq`: `rebuild` passes it over, and `capture`, which reads what it writes,
  sends the row anew, long before the topic's `min.compaction.lag.ms` is over.
- Compaction goes on while `rebuild` reads, and drops records for the sake of newer ones behind the end that was known
  at first; within `min.compaction.lag.ms` there are none. A `rebuild` that takes longer reads on, to the end of now.

One `capture` at a time. Tables need a primary key. Where a table has other UNIQUE constraints, whoever says INSERT OR
REPLACE has to set `PRAGMA recursive_triggers = ON`, or SQLite tells no trigger of the rows that this deletes.
"""
# ruff: noqa: S608  # SQL names tables by its text only; they come from the command line and the database itself

from __future__ import annotations

import argparse
import json
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastlog
from fastlog.errors import FastlogError, TopicAlreadyExistsError

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = 500
IDLE_SECONDS = 0.05
#: how long `rebuild` waits for the rest of a transaction
WAIT_SECONDS = 10.0
#: marks, in a file's header, the databases that `rebuild` made
REBUILT = 0x666C6F67
#: how long each record stays at least, counted from when it came in: it may have been on its way for long
LAG_SECONDS = 1.0
TOPIC_SETTINGS = {
    "cleanup.policy": "compact",
    "min.compaction.lag.ms": f"{LAG_SECONDS * 1000:.0f}",
    "message.timestamp.type": "LogAppendTime",
}
SCHEMA = """
CREATE TABLE IF NOT EXISTS changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, value TEXT);
"""

# --- rows as JSON ---


def cell(column: str) -> str:
    """The SQL of a value as JSON, which has no bytes, and in SQLite fifteen digits for numbers with a point."""
    return (
        f"CASE typeof({column}) WHEN 'blob' THEN json_object('hex', hex({column})) "
        f"WHEN 'real' THEN json_object('real', printf('%!.17g', {column})) ELSE {column} END"
    )


def value_of(told: Any) -> Any:
    """What `cell` made JSON of."""
    match told:
        case {"hex": digits}:
            return bytes.fromhex(digits)
        case {"real": digits}:
            return float(digits)
    return told


def key_sql(table: str, key: Sequence[str], row: str = "") -> str:
    """The SQL of the key of a row's records."""
    pairs = [f"""'{name}', {cell(f'{row}"{name}"')}""" for name in key]
    return f"json_object('table', '{table}', 'key', json_object({', '.join(pairs)}))"


def row_sql(names: Sequence[str], row: str = "") -> str:
    """The SQL of a row's value."""
    pairs = [f"""'{name}', {cell(f'{row}"{name}"')}""" for name in names]
    return f"json_object({', '.join(pairs)})"


# --- noting changes ---


def columns(database: sqlite3.Connection, table: str) -> tuple[list[str], list[str]]:
    """The columns of a table, and those of its primary key."""
    rows = database.execute("SELECT name, pk FROM pragma_table_info(?)", [table]).fetchall()
    key = [name for name, place in sorted(rows, key=lambda row: row[1]) if place]
    if not key:
        raise SystemExit(f"table {table} is not there, or has no primary key")
    return [name for name, _ in rows], key


def triggers(database: sqlite3.Connection, table: str) -> dict[str, str]:
    """Name and SQL of what notes the changes of a table as it is now."""
    names, key = columns(database, table)
    old, new = (key_sql(table, key, row) for row in ("OLD.", "NEW."))
    gone = f"INSERT INTO changes (key, value) VALUES ({old}, NULL);"
    is_there = f"INSERT INTO changes (key, value) VALUES ({new}, {row_sql(names, 'NEW.')});"
    moved = f"INSERT INTO changes (key, value) SELECT {old}, NULL WHERE {old} <> {new};"
    return {
        f"captured_{table}_{event}": (
            f'CREATE TRIGGER "captured_{table}_{event}" AFTER {event} ON "{table}" BEGIN {statements} END'
        )
        for event, statements in {"INSERT": is_there, "UPDATE": moved + is_there, "DELETE": gone}.items()
    }


def install(database: sqlite3.Connection, tables: Sequence[str]) -> None:
    """Begins to note changes of `tables`, with the rows that they have now as the first ones.

    Where a table has other columns than before, its rows are noted once more.
    """
    database.executescript(SCHEMA)
    for table in tables:
        with database:
            database.execute("BEGIN IMMEDIATE")
            wanted = triggers(database, table)
            found = dict(database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"))
            if wanted.items() <= found.items():
                continue
            for name, sql in wanted.items():
                database.execute(f'DROP TRIGGER IF EXISTS "{name}"')
                database.execute(sql)
            names, key = columns(database, table)
            database.execute(
                f'INSERT INTO changes (key, value) SELECT {key_sql(table, key)}, {row_sql(names)} FROM "{table}"'
            )


def schema_version(database: sqlite3.Connection) -> int:
    """Changes with every change of a table's columns."""
    return int(database.execute("PRAGMA schema_version").fetchone()[0])


# --- capture ---


def end_of(admin: fastlog.Admin, topic: str) -> int:
    """The offset behind the topic's newest record."""
    return admin.list_offsets({(topic, 0): "latest"})[topic, 0].offset


class Capture:
    """Sends the changes of a database to the one partition of a topic."""

    def __init__(self, database: sqlite3.Connection, bootstrap: str, topic: str) -> None:
        self._database = database
        self._topic = topic
        self._admin = fastlog.Admin(bootstrap)
        self._producer = fastlog.Producer(bootstrap)
        self._reader = fastlog.Consumer(bootstrap, auto_offset_reset="earliest")
        self._reader.assign([(topic, 0)])
        # what was sent last and is not forgotten lies within these, and within what is under way
        self._reader.seek((topic, 0), max(0, end_of(self._admin, topic) - 2 * BATCH))
        #: the newest change that is in the topic
        self._newest = 0

    def close(self) -> None:
        """Ends what it has open; what is under way may still arrive."""
        self._producer.close(timeout=0)
        self._reader.close()
        self._admin.close()

    def step(self) -> bool:
        """Sends what is to be sent, some of it; False where that was nothing."""
        self._read_back()
        with self._database:
            self._database.execute("DELETE FROM changes WHERE seq <= ?", [self._newest])
        whole = self._database.execute("SELECT max(seq) FROM changes").fetchone()[0]
        query = "SELECT seq, key, value FROM changes WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        changes = self._database.execute(query, [self._newest, whole, BATCH]).fetchall()
        deliveries = [
            self._producer.send(
                self._topic,
                None if value is None else value.encode(),
                key=key.encode(),
                headers=[("seq", b"%d" % seq), ("whole", b"%d" % (seq == whole))],
            )
            for seq, key, value in changes
        ]
        for delivery in deliveries:
            delivery.result()
        return bool(changes)

    def _read_back(self) -> None:
        end = end_of(self._admin, self._topic)
        while self._reader.position((self._topic, 0)) < end:
            for record in self._reader.poll(timeout=1.0):
                seq = seq_of(record)
                if seq <= self._newest:
                    self._note_again((record.key or b"").decode())
                self._newest = max(seq, self._newest)

    def _note_again(self, key: str) -> None:
        """Notes the row that a key has now as a change: an older one came in behind it."""
        named = json.loads(key)
        table = named["table"]
        names, _ = columns(self._database, table)
        where = " AND ".join(f'"{name}" IS ?' for name in named["key"])
        row = f'(SELECT {row_sql(names)} FROM "{table}" WHERE {where})'
        with self._database:
            self._database.execute(
                f"INSERT INTO changes (key, value) VALUES (?, {row})",
                [key, *map(value_of, named["key"].values())],
            )


def capture(database: sqlite3.Connection, bootstrap: str, topic: str, tables: Sequence[str]) -> None:
    """Captures until it is killed; outages of the broker are waited out."""
    while True:
        try:
            with fastlog.Admin(bootstrap) as admin, suppress(TopicAlreadyExistsError):
                admin.create_topic(topic, partitions=1, configs=TOPIC_SETTINGS)
            with closing(Capture(database, bootstrap, topic)) as capturing:
                known = None
                while True:
                    if known != (known := schema_version(database)):
                        install(database, tables)
                    if not capturing.step():
                        time.sleep(IDLE_SECONDS)
        except FastlogError as error:
            print(f"begins again: {error}", flush=True)
            time.sleep(1.0)


# --- rebuild ---


def seq_of(record: fastlog.Record) -> int:
    """Which change a record tells of."""
    return int(dict(record.headers)["seq"] or b"0")


def is_whole(record: fastlog.Record) -> bool:
    """Whether the record's change is the last one of its transaction."""
    return dict(record.headers)["whole"] == b"1"


class Found:
    """What a topic tells of a database, as far as it was read."""

    def __init__(self) -> None:
        #: by key: the newest change that was read, and the row after it
        self.known: dict[str, tuple[int, bytes | None]] = {}
        self.newest = 0
        #: whether the newest change is the last one of its transaction
        self.is_whole = True

    def take(self, record: fastlog.Record) -> None:
        """The next record."""
        seq, key = seq_of(record), (record.key or b"").decode()
        if seq > self.known.get(key, (0, None))[0]:
            self.known[key] = seq, record.value
        if seq > self.newest:
            self.newest, self.is_whole = seq, is_whole(record)

    def read(self, consumer: fastlog.Consumer, topic: str, end: int) -> None:
        """Takes all records before offset `end`, and what belongs to the same transaction."""
        deadline = time.monotonic() + WAIT_SECONDS
        while consumer.position((topic, 0)) < end or not self.is_whole:
            # one at a time: behind the end the first change that is the last of its transaction is enough
            is_at_end = consumer.position((topic, 0)) >= end
            records = consumer.poll(1 if is_at_end else BATCH, timeout=1.0)
            if records:
                deadline = time.monotonic() + WAIT_SECONDS
            elif time.monotonic() > deadline:
                raise SystemExit(
                    f"topic {topic} ends within a transaction: `capture` has to send the rest first"
                )
            for record in records:
                self.take(record)


def rows(bootstrap: str, topic: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The newest change in the topic, the last one of its transaction, and by key every row as it was after it."""
    found = Found()
    with (
        fastlog.Admin(bootstrap) as admin,
        fastlog.Consumer(bootstrap, auto_offset_reset="earliest") as consumer,
    ):
        # a name that is wrong is said at once; to be asked for its end, a topic is waited for
        admin.describe_topic(topic)
        asked_at, end = time.monotonic(), end_of(admin, topic)
        consumer.assign([(topic, 0)])
        found.read(consumer, topic, end)
        # what came in later is too young to have taken the place of what was to be read (half of that: clocks differ)
        while time.monotonic() - asked_at > LAG_SECONDS / 2:
            asked_at, end = time.monotonic(), end_of(admin, topic)
            if end <= consumer.position((topic, 0)):
                break
            found.read(consumer, topic, end)
    rows_found = {key: json.loads(value) for key, (_, value) in found.known.items() if value is not None}
    return found.newest, rows_found


def rebuild(database: sqlite3.Connection, found: dict[str, dict[str, Any]]) -> None:
    """Makes the tables with those rows, in the place of those that an earlier `rebuild` made."""
    with database:
        database.execute("BEGIN IMMEDIATE")
        is_ours = database.execute("PRAGMA application_id").fetchone()[0] == REBUILT
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        if tables and not is_ours:
            raise SystemExit(
                f"the database to make has table {tables[0]}, which `rebuild` did not make: "
                "name a file that is not there, or one that `rebuild` made"
            )
        for table in tables:
            database.execute(f'DROP TABLE "{table}"')
        database.execute(f"PRAGMA application_id = {REBUILT}")
        for key, row in found.items():
            named = json.loads(key)
            table = named["table"]
            listed, primary = (", ".join(f'"{name}"' for name in names) for names in (row, named["key"]))
            database.execute(f'CREATE TABLE IF NOT EXISTS "{table}" ({listed}, PRIMARY KEY ({primary}))')
            marks = ", ".join("?" for _ in row)
            database.execute(
                f'INSERT INTO "{table}" ({listed}) VALUES ({marks})', [value_of(it) for it in row.values()]
            )


def open_database(file: str, mode: str) -> sqlite3.Connection:
    """A SQLite file, in one of the modes of its URIs: `rw` wants one that is there."""
    address = f"{Path(file).absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(address, uri=True, timeout=30, isolation_level=None)


def main() -> None:
    """Parses the arguments and does what they say."""
    parser = argparse.ArgumentParser(description="Captures a SQLite database into a topic, and rebuilds it.")
    parser.add_argument("what", choices=["capture", "rebuild"])
    parser.add_argument("--bootstrap", default="127.0.0.1:9092", metavar="HOST:PORT")
    parser.add_argument("--database", required=True, help="the SQLite file to capture, or to make")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--table", action="append", default=[], help="a table to capture; may stand again")
    arguments = parser.parse_args()
    # a database that is captured is there already
    mode = "rw" if arguments.what == "capture" else "rwc"
    try:
        with closing(open_database(arguments.database, mode)) as database:
            if arguments.what == "capture":
                capture(database, arguments.bootstrap, arguments.topic, arguments.table)
            else:
                _, found = rows(arguments.bootstrap, arguments.topic)
                rebuild(database, found)
                print(f"{len(found)} rows of topic {arguments.topic} are in {arguments.database}")
    except (FastlogError, sqlite3.Error) as error:
        raise SystemExit(
            f"{arguments.what} of {arguments.database} and topic {arguments.topic}: {error}"
        ) from None
    except KeyboardInterrupt:
        # what was not sent is noted in the database, and sent by the next `capture`
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
