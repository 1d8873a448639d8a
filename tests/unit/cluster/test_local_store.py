"""The single node's metadata store: the contract, and what is its own."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import pytest

from fastlog.cluster.local import FILE_NAME, LocalStore, encode_cluster_id
from fastlog.ports import AlreadyExistsError, ConfigResource, NotFoundError, StoreError
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
