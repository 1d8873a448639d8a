"""Whether the metadata store of a single node is what was written.

SQLite keeps no checksums of its pages: a bit that turned on the disk in a topic's name or in `retention.ms` would be
believed. So every value lies in an index as well, and SQLite's own check compares the two before anything is believed.
It takes 0.1 s for 10,000 topics with settings.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from fastlog.ports import StoreError

if TYPE_CHECKING:
    from pathlib import Path

#: what no index had before; stores of older versions get them when they are opened
VALUES_TWICE = """
CREATE INDEX IF NOT EXISTS facts_twice ON facts (value);
CREATE INDEX IF NOT EXISTS partitions_twice ON partitions (replicas, leader, leader_epoch, isr, version);
CREATE INDEX IF NOT EXISTS deletions_twice ON deletions (name, partition_count, done);
CREATE INDEX IF NOT EXISTS configs_twice ON configs (entries, version);
CREATE INDEX IF NOT EXISTS producer_ids_twice ON producer_ids (next);
"""


def check_sound(db: sqlite3.Connection, path: Path) -> None:
    """Raises StoreError where the store in `path` contradicts itself. It only reads, all of it."""
    try:
        found = [str(row[0]) for row in db.execute("PRAGMA integrity_check(3)")]
        found += [f"partitions of no topic in {row[0]}" for row in db.execute("PRAGMA foreign_key_check")]
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        found = [str(error)]
    if found != ["ok"]:
        # some of SQLite's sentences have several lines
        said = " ".join("; ".join(found).split())
        raise StoreError(
            f"the metadata store {path} is damaged ({said}): bytes of it turned on the disk. No record is "
            "touched; put back a copy of the file, or have SQLite show what is left of it (`sqlite3 FILE .recover`)"
        )
