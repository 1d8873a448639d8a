"""The single node's metadata store: the contract, and what is its own."""

from __future__ import annotations

import contextlib
import sqlite3
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import pytest

from fastlog.cluster.local import FILE_NAME, LocalStore, check_store, encode_cluster_id
from fastlog.ports import AlreadyExistsError, ConfigResource, NotFoundError, StoredConfigs, StoreError
from tests.support.store_contract import StoreContract, topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


CLUSTER_ID = encode_cluster_id(UUID(int=7))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[list[LocalStore]]:
    """The stores that a test opened on one directory, the last one in use."""
    stores = [LocalStore(tmp_path, CLUSTER_ID)]
    yield stores
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: list[LocalStore]) -> LocalStore:
    """The store of a fresh directory."""
    return opened[0]


@pytest.fixture
def reopen(opened: list[LocalStore], tmp_path: Path) -> Callable[[], LocalStore]:
    """Closes the store and opens it again."""

    def again() -> LocalStore:
        opened[-1].close()
        opened.append(LocalStore(tmp_path, CLUSTER_ID))
        return opened[-1]

    return again


class TestLocalStore(StoreContract):
    """The contract of every store."""


def test_a_store_that_was_not_closed_keeps_what_it_confirmed(tmp_path: Path) -> None:
    left_open = LocalStore(tmp_path, CLUSTER_ID)
    orders = topic("orders")
    left_open.create_topic(orders, {})
    other = LocalStore(tmp_path, CLUSTER_ID)
    assert other.topics() == [orders]
    other.close()
    left_open.close()


def test_many_topics_are_deleted_at_once(store: LocalStore, reopen: Callable[[], LocalStore]) -> None:
    orders, clicks, views = (topic(name) for name in ("orders", "clicks", "views"))
    assert store.create_topics([(it, {"retention.ms": "1"}) for it in (orders, clicks, views)]) == [None] * 3
    stranger = UUID(int=99)
    errors = store.delete_topics([orders.topic_id, stranger, clicks.topic_id])
    assert [type(error) for error in errors] == [type(None), NotFoundError, type(None)]
    again = reopen()
    assert again.topics() == [views]
    assert [it.name for it in again.deletions()] == ["clicks", "orders"]
    assert list(again.configs()) == [ConfigResource("topic", "views")]
    assert again.delete_topics([orders.topic_id]) == [None], "again changes nothing"
    again.forget_deletions([clicks.topic_id, orders.topic_id, stranger])
    assert reopen().deletions() == []


def test_each_partition_gets_its_next_leader_epoch(
    store: LocalStore, reopen: Callable[[], LocalStore]
) -> None:
    store.create_topic(topic("orders", 2), {})
    (before,) = store.topics()
    store.raise_leader_epochs()
    (after,) = reopen().topics()
    assert [it.leader_epoch for it in after.partitions] == [1 + it.leader_epoch for it in before.partitions]
    assert [it.version for it in after.partitions] == [1 + it.version for it in before.partitions]


def test_a_store_of_a_newer_version_is_refused_untouched(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("PRAGMA user_version = 99")
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(StoreError, match="written by a newer fastlog"):
        LocalStore(tmp_path, CLUSTER_ID)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_a_store_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match=FILE_NAME):
        LocalStore(tmp_path, CLUSTER_ID)


def everything(store: LocalStore) -> object:
    return store.snapshot(), store.allocate_producer_ids(1).start


@pytest.fixture
def filled(tmp_path: Path) -> bytes:
    """The bytes of a store that has something of everything."""
    (tmp_path / "filled").mkdir()
    store = LocalStore(tmp_path / "filled", CLUSTER_ID)
    for name in ("orders", "clicks", "gone"):
        store.create_topic(topic(name, 2), {"retention.ms": "604800000"})
    store.delete_topic(store.topics()[1].topic_id)
    store.allocate_producer_ids(1000)
    store.close()
    return (tmp_path / "filled" / FILE_NAME).read_bytes()


def test_whatever_bit_of_the_file_turns_nothing_else_is_believed(tmp_path: Path, filled: bytes) -> None:
    sound = LocalStore(tmp_path / "filled", CLUSTER_ID)
    expected = everything(sound)
    sound.close()
    path, seen = tmp_path / FILE_NAME, {"refused": 0, "the same": 0}
    random = Random(1)
    for at in [at for at, byte in enumerate(filled) if byte][::3]:
        turned = bytearray(filled)
        turned[at] ^= 1 << random.randrange(8)
        path.write_bytes(turned)
        for derived in tmp_path.glob(f"{FILE_NAME}-*"):
            derived.unlink()
        try:
            check_store(tmp_path, CLUSTER_ID)
            with contextlib.closing(LocalStore(tmp_path, CLUSTER_ID)) as store:
                found = everything(store)
        except StoreError as error:
            told = str(error)
            assert str(path) in told
            # SQLite's own sentence may have several
            assert len(told.splitlines()) == 1
            seen["refused"] += 1
        else:
            assert found == expected, f"byte {at}: {filled[at]:#04x} became {turned[at]:#04x}"
            seen["the same"] += 1
    assert seen["refused"] > 4 * seen["the same"], seen


def test_a_damaged_store_says_what_to_do_and_is_left_as_it_is(tmp_path: Path, filled: bytes) -> None:
    path = tmp_path / FILE_NAME
    turned = filled.replace(b"604800000", b"004800000", 1)
    path.write_bytes(turned)
    with pytest.raises(StoreError, match=r"is damaged .*configs_twice.*put back a copy") as told:
        check_store(tmp_path, CLUSTER_ID)
    assert str(path) in str(told.value)
    assert path.read_bytes() == turned


def test_a_store_of_an_older_version_gets_its_second_copies(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, CLUSTER_ID)
    store.create_topic(topic("orders"), {"retention.ms": "1"})
    store.close()
    names = "SELECT name FROM sqlite_schema WHERE name LIKE '%_twice' ORDER BY name"
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        made = db.execute(names).fetchall()
        assert len(made) == 5
        for (name,) in made:
            db.execute(f"DROP INDEX {name}")
    db.close()
    check_store(tmp_path, CLUSTER_ID)
    LocalStore(tmp_path, CLUSTER_ID).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        assert db.execute(names).fetchall() == made
    db.close()


def test_a_store_of_another_cluster_is_refused(tmp_path: Path) -> None:
    LocalStore(tmp_path, CLUSTER_ID).close()
    with pytest.raises(StoreError, match="from another broker"):
        LocalStore(tmp_path, encode_cluster_id(UUID(int=8)))


def test_what_only_a_cluster_knows_is_refused_rather_than_lost(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, CLUSTER_ID)
    orders = topic("orders", 1)
    store.create_topic(orders, {})
    with pytest.raises(StoreError, match="single node"):
        store.update_partition(
            orders.topic_id, 0, msgspec.structs.replace(orders.partitions[0], isr_epochs=(7,))
        )
    assert store.topics() == [orders]
    store.close()


def test_many_topics_are_added_each_for_itself(store: LocalStore, reopen: Callable[[], LocalStore]) -> None:
    taken, again = topic("taken"), topic("again")
    store.create_topics([(taken, {}), (again, {"retention.ms": "1"})])
    orders, clicks = topic("orders", 3), topic("clicks")
    wanted = [orders, topic("taken"), again, topic("orders"), clicks]
    errors = store.create_topics([(it, {}) for it in wanted])
    assert [error is None for error in errors] == [True, False, True, False, True]
    assert all(isinstance(error, AlreadyExistsError) for error in errors if error is not None)
    assert reopen().topics() == [again, clicks, orders, taken]
    assert reopen().configs()[ConfigResource("topic", "again")].values == {"retention.ms": "1"}


def test_where_one_of_many_topics_cannot_be_kept_none_is(store: LocalStore) -> None:
    wrong = topic("wrong", 1)
    partition = msgspec.structs.replace(wrong.partitions[0], isr_epochs=(7,))
    wrong = msgspec.structs.replace(wrong, partitions=(partition,))
    with pytest.raises(StoreError, match="single node"):
        store.create_topics([(topic("orders"), {}), (wrong, {}), (topic("clicks"), {})])
    assert store.topics() == []


def test_topics_that_set_nothing_can_be_left_out(store: LocalStore, reopen: Callable[[], LocalStore]) -> None:
    plain, own, reset = (ConfigResource("topic", name) for name in ("plain", "own", "reset"))
    made = [(topic("plain"), {}), (topic("own"), {"retention.ms": "1"}), (topic("reset"), {})]
    assert store.create_topics(made) == [None] * 3
    store.put_configs(reset, {"retention.ms": "2"}, 1)
    store.put_configs(reset, {}, 2)
    group = ConfigResource("group", "g")
    store.put_configs(group, {}, 0)
    some = {
        own: StoredConfigs({"retention.ms": "1"}, 1),
        reset: StoredConfigs({}, 3),
        group: StoredConfigs({}, 1),
    }
    assert reopen().configs(plain_topics=False) == some
    assert reopen().configs() == {**some, plain: StoredConfigs({}, 1)}
