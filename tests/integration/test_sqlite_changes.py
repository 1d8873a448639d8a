"""The example that captures a database: what the topic tells equals the database, whoever is killed."""

from __future__ import annotations

import bisect
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import fastlog
from examples import sqlite_changes
from examples.sqlite_changes import install, rebuild, rows
from fastlog.errors import FastlogError
from tests.conftest import MakeBroker
from tests.support.broker import BrokerProcess, wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "sqlite_changes.py"
TABLES = {
    "orders": "id INTEGER PRIMARY KEY, item TEXT, price REAL",
    "stock": "item, shelf, n, PRIMARY KEY (item, shelf)",
}
VALUES = [None, 0, -(2**63), 0.1 + 0.2, 1e300, float("inf"), "", "é\"'{}", b"", b"\x00\xff"]
COMPACTED_SOON = {
    "log.cleaner.backoff.ms": "50",
    "log.cleaner.min.cleanable.ratio": "0.01",
    "log.roll.ms": "500",
    "log.segment.delete.delay.ms": "0",
}
Contents = dict[str, list[tuple[Any, ...]]]


class Shop:
    """The database, changed one row at a time; it remembers what it was after each change."""

    def __init__(self, file: Path, chances: random.Random) -> None:
        self.file = file
        self._chances = chances
        self._database = sqlite3.connect(file, timeout=30, isolation_level=None)
        # or a row that another one replaces would go without a word
        self._database.execute("PRAGMA recursive_triggers = ON")
        self._database.execute("PRAGMA journal_mode = WAL")
        for table, columns in TABLES.items():
            self._database.execute(f"CREATE TABLE {table} ({columns})")
        self._database.execute("INSERT INTO orders VALUES (0, 'there before', 1.5)")
        #: (number of the change, contents after it), ascending; the row that is there already is the first change
        self._past: list[tuple[int, Contents]] = [(1, self.now())]

    def change(self) -> None:
        """One transaction with some changes."""
        chances = self._chances
        self._database.execute("BEGIN IMMEDIATE")
        for _ in range(chances.randrange(1, 5)):
            number, item = chances.randrange(40), chances.choice("abcdé\"'")
            statement, values = chances.choice(
                [
                    ("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", (number, item, number / 3)),
                    ("UPDATE orders SET item = ? WHERE id = ?", (chances.choice(VALUES), number)),
                    ("UPDATE OR REPLACE orders SET id = id + 1 WHERE id = ?", (number,)),
                    ("DELETE FROM orders WHERE id = ?", (number,)),
                    (
                        "INSERT INTO stock VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = excluded.n",
                        (item, chances.choice([number % 3, b"x", 0.5]), chances.choice(VALUES)),
                    ),
                    ("UPDATE stock SET n = NULL WHERE item = ?", (item,)),
                    ("DELETE FROM stock WHERE item = ? AND shelf = ?", (item, number % 3)),
                ]
            )
            self._database.execute(statement, values)
        self._database.execute("COMMIT")
        self._past.append((self.last_change(), contents(self._database)))

    def execute(self, statement: str) -> sqlite3.Cursor:
        """One statement, one transaction."""
        cursor = self._database.execute(statement)
        self._past.append((self.last_change(), self.now()))
        return cursor

    def last_change(self) -> int:
        """The number of the newest change."""
        try:
            query = "SELECT seq FROM sqlite_sequence WHERE name = 'changes'"
            row = self._database.execute(query).fetchone()
        except sqlite3.OperationalError:
            return 0
        return int(row[0]) if row else 0

    def was_after(self, change: int) -> Contents:
        """What it held after a change, which was the last of its transaction."""
        place = bisect.bisect_right(self._past, change, key=lambda it: it[0])
        return self._past[place - 1][1]

    def now(self) -> Contents:
        """What it holds."""
        return contents(self._database)

    def roll_back(self) -> None:
        """A change that never was."""
        self._database.execute("BEGIN")
        self._database.execute("DELETE FROM orders")
        self._database.execute("ROLLBACK")

    def close(self) -> None:
        self._database.close()


def contents(database: sqlite3.Connection) -> Contents:
    return {
        table: sorted(database.execute(f"SELECT * FROM {table}").fetchall(), key=repr)  # noqa: S608
        if database.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", [table]).fetchone()
        else []
        for table in TABLES
    }


def rebuilt(bootstrap: str, topic: str) -> tuple[int, Contents]:
    """The newest change that the topic tells of, and the database made from it."""
    newest, found = rows(bootstrap, topic)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        rebuild(database, found)
        return newest, contents(database)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    seed = os.getpid()
    print("seed", seed)
    made = Shop(tmp_path / "shop.db", random.Random(seed))
    yield made
    made.close()


class Capturing:
    """The example's process."""

    def __init__(self, shop: Shop, broker: BrokerProcess, topic: str) -> None:
        where = ["--bootstrap", broker.bootstrap, "--database", str(shop.file), "--topic", topic]
        tables = [word for table in TABLES for word in ("--table", table)]
        self._command = [sys.executable, str(EXAMPLE), "capture", *where, *tables]
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen(self._command)
        return self.process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def broker(make_broker: MakeBroker) -> BrokerProcess:
    return make_broker(settings=COMPACTED_SOON)


@pytest.fixture
def capturing(shop: Shop, broker: BrokerProcess, topic_name: str) -> Iterator[Capturing]:
    """At work: the row that was there before is captured."""
    made = Capturing(shop, broker, topic_name)
    try:
        wait_until("the first row is captured", lambda: is_begun(broker, topic_name), seconds=60)
        yield made
    finally:
        made.kill()


def is_begun(broker: BrokerProcess, topic: str) -> bool:
    try:
        return rows(broker.bootstrap, topic)[0] > 0
    except FastlogError:
        return False


def wait_for_all(shop: Shop, broker: BrokerProcess, topic: str) -> None:
    last = shop.last_change()
    wait_until("everything is captured", lambda: rows(broker.bootstrap, topic)[0] >= last, seconds=60)
    assert rebuilt(broker.bootstrap, topic)[1] == shop.now()


def records(broker: BrokerProcess, topic: str) -> list[fastlog.Record]:
    with fastlog.Consumer(broker.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([(topic, 0)])
        found: list[fastlog.Record] = []
        while some := consumer.poll(timeout=1.0):
            found += some
        return found


def test_what_is_rebuilt_is_the_database_at_any_moment_and_after_any_crash(
    broker: BrokerProcess, shop: Shop, topic_name: str, capturing: Capturing
) -> None:
    chances = random.Random(os.getpid())
    for turn in range(10):
        for _ in range(chances.randrange(20, 200)):
            shop.change()
        shop.roll_back()
        if turn % 3 == 1:
            broker.kill()
            broker.start()
        elif turn % 3 == 2:
            capturing.kill()
            capturing.start()
        newest, told = rebuilt(broker.bootstrap, topic_name)
        assert told == shop.was_after(newest), f"after change {newest}"
    wait_for_all(shop, broker, topic_name)
    # with a little traffic the last segment is rolled, and what lies before it can be cleaned
    keys = {(record.key, record.offset) for record in records(broker, topic_name)}

    def is_compacted() -> bool:
        shop.change()
        return len(records(broker, topic_name)) < len(keys) / 2

    wait_until("it is compacted", is_compacted, seconds=60)
    wait_for_all(shop, broker, topic_name)


def test_what_is_compacted_while_it_is_read_is_found_further_on(
    broker: BrokerProcess, shop: Shop, topic_name: str, capturing: Capturing, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = json.dumps({"table": "orders", "key": {"id": 1000}}, separators=(",", ":")).encode()
    shop.execute("INSERT INTO orders VALUES (1000, 'first', 1)")
    # this one stays: the end that is known is reached
    shop.execute("INSERT INTO orders VALUES (1001, 'last', 1)")
    wait_for_all(shop, broker, topic_name)
    assign = fastlog.Consumer.assign
    slow = [True]

    def places() -> list[int]:
        return [it.offset for it in records(broker, topic_name) if it.key == key]

    def assign_slowly(consumer: fastlog.Consumer, *arguments: Any) -> None:
        """The end is known. Before anything is read, the row's record goes, for the sake of one behind that end."""
        if slow:
            slow.clear()
            (first,) = places()
            shop.change()
            shop.execute("UPDATE orders SET item = 'second' WHERE id = 1000")

            def is_gone() -> bool:
                shop.change()
                return first not in places()

            wait_until("the first one is compacted away", is_gone, seconds=60)
        assign(consumer, *arguments)

    monkeypatch.setattr(fastlog.Consumer, "assign", assign_slowly)
    # or it would find more behind the end by chance
    monkeypatch.setattr(sqlite_changes, "BATCH", 1)
    newest, told = rebuilt(broker.bootstrap, topic_name)
    assert not slow
    assert told == shop.was_after(newest), f"after change {newest}"


def test_a_late_copy_of_a_change_does_not_win(
    broker: BrokerProcess, shop: Shop, topic_name: str, capturing: Capturing
) -> None:
    shop.execute("UPDATE orders SET item = 'newer' WHERE id = 0")
    wait_for_all(shop, broker, topic_name)
    first = records(broker, topic_name)[0]
    capturing.kill()
    with fastlog.Producer(broker.bootstrap) as producer:
        producer.send(topic_name, first.value, key=first.key, headers=first.headers).result()
    assert rebuilt(broker.bootstrap, topic_name)[1] == shop.now()
    capturing.start()
    wait_until(
        "the row is sent anew", lambda: b"newer" in (records(broker, topic_name)[-1].value or b""), seconds=30
    )
    assert rebuilt(broker.bootstrap, topic_name)[1] == shop.now()


def test_half_a_transaction_is_waited_for(
    broker: BrokerProcess, shop: Shop, topic_name: str, capturing: Capturing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_changes, "WAIT_SECONDS", 0.5)
    wait_for_all(shop, broker, topic_name)
    capturing.kill()
    shop.execute("UPDATE orders SET item = 'half' WHERE id = 0")
    key, value = shop.execute("SELECT key, value FROM changes").fetchone()
    number = b"%d" % shop.last_change()
    headers = [("seq", number), ("whole", b"0")]
    with fastlog.Producer(broker.bootstrap) as producer:
        producer.send(topic_name, value.encode(), key=key.encode(), headers=headers).result()
    with pytest.raises(SystemExit, match="ends within a transaction"):
        rows(broker.bootstrap, topic_name)
    shop.execute("UPDATE orders SET item = 'whole' WHERE id = 0")
    capturing.start()
    wait_until("it goes on", lambda: b"whole" in (records(broker, topic_name)[-1].value or b""), seconds=30)
    assert rebuilt(broker.bootstrap, topic_name)[1] == shop.now()


def test_a_new_column_is_captured(
    broker: BrokerProcess, shop: Shop, topic_name: str, capturing: Capturing
) -> None:
    shop.execute("INSERT INTO stock VALUES ('a', 1, 1)")
    wait_for_all(shop, broker, topic_name)
    shop.execute("ALTER TABLE stock ADD COLUMN place DEFAULT 'here'")
    last = shop.last_change()
    wait_until("the rows are noted again", lambda: shop.last_change() > last, seconds=30)
    shop.execute("UPDATE stock SET place = 'there'")
    wait_for_all(shop, broker, topic_name)
    assert shop.now()["stock"] == [("a", 1, 1, "there")]


def test_the_commands(
    broker: BrokerProcess, shop: Shop, topic_name: str, capturing: Capturing, tmp_path: Path
) -> None:
    for _ in range(30):
        shop.change()
    wait_for_all(shop, broker, topic_name)
    copy = tmp_path / "copy.db"

    def run(*arguments: str) -> str:
        command = [sys.executable, str(EXAMPLE), *arguments, "--bootstrap", broker.bootstrap]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        assert (done.returncode == 0) == (done.stderr == "")
        return done.stderr or done.stdout

    def is_copied() -> bool:
        assert f"rows of topic {topic_name} are in {copy}" in run("rebuild", *where)
        with closing(sqlite3.connect(copy)) as database:
            return contents(database) == shop.now()

    where = ["--database", str(copy), "--topic", topic_name]
    assert is_copied()
    shop.execute("DELETE FROM orders WHERE id % 2 = 0")
    wait_for_all(shop, broker, topic_name)
    assert is_copied()
    before = shop.now()
    said = run("rebuild", "--database", str(shop.file), "--topic", topic_name)
    assert "which `rebuild` did not make" in said
    assert shop.now() == before
    assert "UNKNOWN_TOPIC" in run("rebuild", "--database", str(copy), "--topic", f"{topic_name}-absent")
    assert is_copied()
    absent = tmp_path / "absent.db"
    said = run("capture", "--database", str(absent), "--topic", topic_name, "--table", "orders")
    assert f"{absent}" in said
    assert not absent.exists()
    capturing.process.send_signal(signal.SIGINT)
    assert capturing.process.wait(60) == 130


def test_a_table_without_a_primary_key_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as database:
        database.execute("CREATE TABLE t (a)")
        with pytest.raises(SystemExit, match="table t is not there, or has no primary key"):
            install(database, ["t"])
