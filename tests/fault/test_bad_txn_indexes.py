"""Indexes of aborted transactions that were cut, swapped or brought from elsewhere while the broker was stopped.

They are no hints: an entry that is missing shows aborted records, one too many hides committed ones. Whatever they say,
read-committed consumers see what was committed, and the indexes are built anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fastlog import Admin
from tests.conftest import MakeBroker
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess
from tests.support.transactions import check, transactions, write

TOPIC, OTHER = "orders", "payments"
LOGS = {TOPIC: transactions(), OTHER: transactions(turned_round=True)}
CONFIG = {"segment.bytes": str(1 << 20), "fastlog.restoring": "true"}
Spoil = Callable[[BrokerProcess], None]

ENTRY_BYTES = 34
NOTES = "aborted-transactions-checkpoint"
REBUILT = "the index of aborted transactions is not this segment's, or damaged; it is built anew"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a broker that was stopped, with transactions in two topics of several segments."""
    made = BrokerProcess(tmp_path_factory.mktemp("sound") / "data").start()
    try:
        for topic, log in LOGS.items():
            create_topic(made.bootstrap, topic, config=CONFIG)
            write(made.tcp_port, topic, log)
            with Admin(made.bootstrap) as admin:
                admin.alter_configs({"fastlog.restoring": "false"}, topic=topic)
        assert made.stop() == 0, made.log()
    finally:
        made.kill()
    return made.data_dir


@pytest.fixture
def broker(make_broker: MakeBroker, sound: Path) -> BrokerProcess:
    """Stopped; its directory is a copy of the sound one."""
    made = make_broker(start=False)
    shutil.copytree(sound, made.data_dir)
    return made


def indexes(broker: BrokerProcess, topic: str = TOPIC) -> list[Path]:
    found = sorted((broker.data_dir / f"{topic}-0").glob("*.txnindex"))
    assert len(found) > 3, found
    return found


def swap_neighbours(broker: BrokerProcess) -> None:
    contents = [path.read_bytes() for path in indexes(broker)]
    for number, path in enumerate(indexes(broker)):
        path.write_bytes(contents[(number ^ 1) % len(contents)])


def take_from_other_topic(broker: BrokerProcess) -> None:
    for path, foreign in zip(indexes(broker), indexes(broker, OTHER), strict=False):
        shutil.copyfile(foreign, path)


def cut(broker: BrokerProcess) -> None:
    for number, path in enumerate(indexes(broker)):
        # the last entry of one, a part of that of the next
        os.truncate(path, path.stat().st_size - (ENTRY_BYTES if number % 2 else 5))


def empty(broker: BrokerProcess) -> None:
    for path in indexes(broker):
        path.write_bytes(b"")


def remove_all(broker: BrokerProcess) -> None:
    # as a person does who wants all indexes built anew
    for path in (broker.data_dir / f"{TOPIC}-0").glob("*index*"):
        path.unlink()


def check_rebuilt(broker: BrokerProcess, spoil: Spoil) -> None:
    own = indexes(broker)
    before = {path: path.read_bytes() for path in own}
    spoil(broker)
    assert all(not path.exists() or path.read_bytes() != before[path] for path in own)
    broker.start()
    check(broker.bootstrap, TOPIC, LOGS[TOPIC])
    check(broker.bootstrap, OTHER, LOGS[OTHER])
    told = [line for line in broker.log().splitlines() if REBUILT in line]
    assert len(told) == len(own)
    assert all(f"{TOPIC}-0" in line for line in told)
    assert broker.stop() == 0, broker.log()
    assert {path: path.read_bytes() for path in own} == before


@pytest.mark.parametrize("spoil", [swap_neighbours, take_from_other_topic, cut, empty, remove_all])
def test_no_aborted_record_is_shown_by_a_transaction_index_that_is_wrong(
    broker: BrokerProcess, spoil: Spoil
) -> None:
    check_rebuilt(broker, spoil)


@pytest.mark.parametrize("spoil", [swap_neighbours, take_from_other_topic, cut])
def test_nor_where_nothing_is_noted_of_the_indexes(broker: BrokerProcess, spoil: Spoil) -> None:
    # as Kafka leaves a directory
    (broker.data_dir / f"{TOPIC}-0" / NOTES).unlink()
    check_rebuilt(broker, spoil)
