"""A mount point without its mount is not taken for the object store, nor is another store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import MakeBroker
from tests.integration.test_tiers import (
    TOPIC,
    check_all_there,
    consumed,
    produce,
    segments,
    settings,
    tiered,
    values,
)
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until

pytestmark = pytest.mark.timeout(180)

NOTE, IDENTITY = "fastlog.store", "fastlog-store"


def files(store: Path) -> list[Path]:
    return [it for it in store.rglob("*") if it.is_file()]


def check_untouched(broker: BrokerProcess, topic: str, sent: list[bytes], store: Path, said: str) -> None:
    """What is made meanwhile stays on the disk, where it is served from, and nothing goes to the store."""
    create_topic(broker.bootstrap, topic, config=TOPIC)
    produce(broker, topic, sent)
    told = broker.log().count(said)
    wait_until("it is told in each turn", lambda: broker.log().count(said) > told + 6, seconds=30)
    assert len(segments(broker, topic)) > 5, "something went from the disk"
    assert consumed(broker, topic, len(sent)) == sent
    assert files(store) == []


def wait_given_up(broker: BrokerProcess, topic: str) -> None:
    wait_until(
        "only the active segment is on the disk", lambda: len(segments(broker, topic)) == 1, seconds=60
    )


@pytest.mark.parametrize("leaves", ["nothing", "a mount point"])
def test_a_store_that_is_not_mounted_is_waited_for(
    make_broker: MakeBroker, tmp_path: Path, topic_name: str, leaves: str
) -> None:
    store, away = tmp_path / "mnt" / "store", tmp_path / "away"
    broker, sent = make_broker(settings=settings(str(store))), values()
    tiered(broker, topic_name, sent)

    def unmount() -> None:
        store.rename(away)
        if leaves == "a mount point":
            store.mkdir()

    def mount() -> None:
        shutil.rmtree(store, ignore_errors=True)
        away.rename(store)

    said = f"has no object {IDENTITY}"
    # while it runs
    unmount()
    check_untouched(broker, f"{topic_name}-running", sent, store, said)
    mount()
    wait_given_up(broker, f"{topic_name}-running")
    # and as it starts
    assert broker.stop() == 0
    unmount()
    broker.start()
    check_untouched(broker, f"{topic_name}-started", sent, store, said)
    assert store.exists() == (leaves == "a mount point")
    mount()
    for topic in (f"{topic_name}-started", f"{topic_name}-running", topic_name):
        wait_given_up(broker, topic)
        check_all_there(broker, topic, sent)
    assert broker.stop() == 0


def test_another_store_is_used_when_a_person_says_so(
    make_broker: MakeBroker, tmp_path: Path, topic_name: str
) -> None:
    store, away = tmp_path / "store", tmp_path / "away"
    broker, sent = make_broker(settings=settings(str(store))), values()
    tiered(broker, topic_name, sent)
    assert (store / IDENTITY).read_text().split()[2] == (broker.data_dir / NOTE).read_text().split()[2]
    store.rename(away)
    store.mkdir()
    other = (away / IDENTITY).read_text()
    wait_until("it is told", lambda: f"as {broker.data_dir / NOTE} says" in broker.log(), seconds=30)
    # as the message says
    (broker.data_dir / NOTE).write_text("")
    second = f"{topic_name}-second"
    tiered(broker, second, sent)
    check_all_there(broker, second, sent)
    assert (store / IDENTITY).read_text() != other
    # what only the old one has is not there, and nothing of it is forgotten
    assert consumed(broker, topic_name, 1, seconds=2) == []
    shutil.copytree(away, store, ignore=shutil.ignore_patterns(IDENTITY), dirs_exist_ok=True)
    check_all_there(broker, topic_name, sent)
    assert broker.stop() == 0


def test_a_store_of_before_it_had_a_name_is_gone_on_with(
    make_broker: MakeBroker, tmp_path: Path, topic_name: str
) -> None:
    store, away = tmp_path / "store", tmp_path / "away"
    broker, sent = make_broker(settings=settings(str(store))), values()
    tiered(broker, topic_name, sent)
    # as a release left it that knew of no names
    assert broker.stop() == 0
    (store / IDENTITY).unlink()
    (broker.data_dir / NOTE).unlink()
    store.rename(away)
    store.mkdir()
    broker.start()
    check_untouched(broker, f"{topic_name}-second", sent, store, f"has nothing of {topic_name}-")
    assert not (broker.data_dir / NOTE).exists()
    store.rmdir()
    away.rename(store)
    for topic in (topic_name, f"{topic_name}-second"):
        wait_given_up(broker, topic)
        check_all_there(broker, topic, sent)
    assert (store / IDENTITY).exists()
    assert broker.stop() == 0
