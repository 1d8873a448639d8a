"""A controller dies in the middle of a change that needs several transactions: all of it is seen, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from fastlog.cluster.zookeeper.connection import NotConnectedError, ZooKeeperConnection
from fastlog.cluster.zookeeper.metadata.store import ZooKeeperStore
from fastlog.cluster.zookeeper.operations import Operation
from fastlog.ports import (
    AlreadyExistsError,
    Conflict,
    NotFoundError,
    PartitionKey,
    PartitionWrite,
    StoreUnavailableError,
)
from tests.support.store_contract import state, topic
from tests.support.zookeeper import Connect

LARGE = 350


def die_after(connection: ZooKeeperConnection, count: int) -> Callable[[], None]:
    """The connection takes `count` more transactions and no other; what revives it."""
    commit_all = connection.commit_all
    left = [count]

    def some(transactions: Sequence[Sequence[Operation]]) -> list[list[object] | Exception]:
        done = transactions[: left[0]]
        left[0] -= len(done)
        dead: list[list[object] | Exception] = [NotConnectedError("dead")]
        return commit_all(done) + dead * (len(transactions) - len(done))

    connection.commit_all = some  # type: ignore[method-assign]

    def revive() -> None:
        connection.commit_all = commit_all  # type: ignore[method-assign]

    return revive


# creating takes 1 + 4 + 1 transactions, deleting 1 + 4 + 1, growing by as many 1 + 4 + 1
@pytest.mark.parametrize("done", [0, 1, 2, 4, 5])
def test_a_topic_half_made_was_never_there(connect: Connect, done: int) -> None:
    dying, other = connect().connection, ZooKeeperStore(connect().connection)
    large = topic("large", LARGE)
    revive = die_after(dying, done)
    with pytest.raises(StoreUnavailableError):
        ZooKeeperStore(dying).create_topic(large, {"a": "1"})
    assert other.topics() == []
    assert other.configs() == {}
    with pytest.raises(NotFoundError):
        other.add_partitions(large.topic_id, LARGE, [state()])
    write = PartitionWrite(PartitionKey(large.topic_id, 0), state(leader=2))
    assert other.update_partitions([write]) == [Conflict(None)]
    assert other.clear_unfinished() == (["large"] if done else [])
    # the name is free, and what the dead one still has under way is refused
    small = topic("large", 1)
    other.create_topic(small, {})
    revive()
    with pytest.raises(AlreadyExistsError):
        ZooKeeperStore(dying).create_topic(large, {"a": "1"})
    assert other.topics() == [small]


@pytest.mark.parametrize("done", [0, 1, 2, 4, 5])
def test_whoever_began_may_go_on(connect: Connect, done: int) -> None:
    dying = connect().connection
    store, large = ZooKeeperStore(dying), topic("large", LARGE)
    revive = die_after(dying, done)
    with pytest.raises(StoreUnavailableError):
        store.create_topic(large, {"a": "1"})
    revive()
    store.create_topic(large, {"a": "1"})
    assert store.topics() == [large]
    assert store.clear_unfinished() == []


@pytest.mark.parametrize("done", [1, 2, 4, 5])
def test_a_topic_half_removed_is_gone(connect: Connect, done: int) -> None:
    dying, other = connect().connection, ZooKeeperStore(connect().connection)
    large = topic("large", LARGE)
    other.create_topic(large, {"a": "1"})
    revive = die_after(dying, done)
    with pytest.raises(StoreUnavailableError):
        ZooKeeperStore(dying).delete_topic(large.topic_id)
    assert (other.topics(), other.configs()) == ([], {})
    assert [(each.topic_id, each.partition_count) for each in other.deletions()] == [(large.topic_id, LARGE)]
    revive()
    if done % 2:
        assert other.clear_unfinished() == ["large"]
    else:
        ZooKeeperStore(dying).delete_topic(large.topic_id)
    small = topic("large", 1)
    other.create_topic(small, {})
    assert other.topics() == [small]
    assert [each.topic_id for each in other.deletions()] == [large.topic_id]


@pytest.mark.parametrize("done", [0, 1, 2, 4, 5])
def test_a_topic_half_grown_has_its_old_size_and_can_grow(connect: Connect, done: int) -> None:
    dying, other = connect().connection, ZooKeeperStore(connect().connection)
    orders = topic("orders", 2)
    other.create_topic(orders, {})
    die_after(dying, done)
    with pytest.raises(StoreUnavailableError):
        ZooKeeperStore(dying).add_partitions(orders.topic_id, 2, [state(leader=7)] * LARGE)
    assert other.topics() == [orders]
    assert other.snapshot().broken == ()
    grown = other.add_partitions(orders.topic_id, 2, [state(leader=3)] * 2)
    assert [each.leader for each in grown.partitions] == [1, 1, 3, 3]
    assert other.topics() == [grown]


def test_two_that_make_the_same_topic_make_one(connect: Connect) -> None:
    first, second = (ZooKeeperStore(connect().connection) for _ in range(2))
    mine, theirs = topic("large", LARGE), topic("large", 2)
    slow = first._connection
    commit_all = slow.commit_all

    def overtaken(transactions: Sequence[Sequence[Operation]]) -> list[list[object] | Exception]:
        # after its first transaction another one comes, finds it unfinished, and makes its own
        done = commit_all(transactions)
        slow.commit_all = commit_all  # type: ignore[method-assign]
        second.create_topic(theirs, {})
        return done

    slow.commit_all = overtaken  # type: ignore[method-assign]
    with pytest.raises(AlreadyExistsError):
        first.create_topic(mine, {"a": "1"})
    assert second.topics() == [theirs]
    assert second.snapshot().broken == ()
