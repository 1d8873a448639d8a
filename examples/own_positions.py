"""A consumer that keeps its positions in its own file, in one transaction with its results: exactly once, by itself.

It counts the records of a topic by key in a SQLite file. Each batch of records changes the counts and the positions in
one transaction, so a kill -9 at any moment loses no record and counts none twice: the next start goes on where the
file says. Nothing is kept on a broker.

    python examples/own_positions.py --topic flights --file counts.db --exit-at-end
"""

from __future__ import annotations

import argparse
import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import fastlog

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA = """
CREATE TABLE IF NOT EXISTS counts (key BLOB PRIMARY KEY, records INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT, partition INTEGER, offset INTEGER NOT NULL, PRIMARY KEY (topic, partition)
);
"""


def add(database: sqlite3.Connection, records: Iterable[fastlog.Record]) -> None:
    """Counts `records` and moves the positions behind them, both or neither."""
    counts: Counter[bytes] = Counter()
    positions: dict[tuple[str, int], int] = {}
    for record in records:
        counts[record.key or b""] += 1
        positions[record.topic, record.partition] = record.offset + 1
    with database:
        database.executemany(
            "INSERT INTO counts VALUES (?, ?) ON CONFLICT DO UPDATE SET records = records + excluded.records",
            counts.items(),
        )
        database.executemany(
            "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)",
            [(topic, partition, offset) for (topic, partition), offset in positions.items()],
        )


def run(bootstrap: str, topic: str, database: sqlite3.Connection, *, batch: int, exit_at_end: bool) -> None:
    """Counts records, from where the file says on."""
    saved = database.execute("SELECT partition, offset FROM positions WHERE topic = ?", [topic]).fetchall()
    # a partition without a saved position, such as one that was added since, begins at its start
    with fastlog.Consumer(bootstrap, topics=[topic], auto_offset_reset="earliest") as consumer:
        for partition, offset in saved:
            consumer.seek((topic, partition), offset)
        while True:
            records = consumer.poll(max_records=batch, timeout=1.0)
            if records:
                add(database, records)
            elif exit_at_end:
                return


def main() -> None:
    """Parses the arguments, counts, and prints the counts."""
    parser = argparse.ArgumentParser(description="Counts a topic's records by key, exactly once.")
    parser.add_argument("--bootstrap", default="127.0.0.1:9092", metavar="HOST:PORT")
    parser.add_argument("--topic", required=True)
    parser.add_argument("--file", required=True, help="the SQLite file with counts and positions")
    parser.add_argument("--batch", type=int, default=1000, help="records per transaction, at most")
    parser.add_argument("--exit-at-end", action="store_true", help="end when no record came for a second")
    arguments = parser.parse_args()
    with closing(sqlite3.connect(arguments.file)) as database:
        database.executescript(SCHEMA)
        run(
            arguments.bootstrap,
            arguments.topic,
            database,
            batch=arguments.batch,
            exit_at_end=arguments.exit_at_end,
        )
        for key, records in database.execute("SELECT key, records FROM counts ORDER BY key"):
            print(key.decode(errors="replace"), records, sep="\t")


if __name__ == "__main__":
    main()
