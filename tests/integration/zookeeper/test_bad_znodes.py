"""Znodes that are garbage or missing: named, worked around where that is safe, and never a reason to delete."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
from fastlog.cluster.zookeeper.metadata.store import ZooKeeperStore
from fastlog.ports import (
    AlreadyExistsError,
    ConfigResource,
    CorruptStoreError,
    PartitionKey,
    PartitionWrite,
    StoreError,
    Topic,
    Unknown,
    Written,
)
from tests.support.store_contract import state, topic
from tests.support.zookeeper import Connect

Break = Callable[[ZooKeeperConnection, Topic], str]


def spoil(path: str, connection: ZooKeeperConnection, data: bytes = b"\x00garbage") -> str:
    connection.ask(lambda client: client.set_async(path, data))
    return path


def remove(path: str, connection: ZooKeeperConnection) -> str:
    connection.ask(lambda client: client.delete_async(path))
    return path


BROKEN: dict[str, Break] = {
    "topic is garbage": lambda zk, it: spoil(zk.paths.topic(it.name), zk),
    "topic has a gap": lambda zk, it: spoil(
        zk.paths.topic(it.name),
        zk,
        f'{{"topic_id":"{it.topic_id}","partitions":{{"0":[1],"2":[1]}}}}'.encode(),
    ),
    "topic names a replica twice": lambda zk, it: spoil(
        zk.paths.topic(it.name), zk, f'{{"topic_id":"{it.topic_id}","partitions":{{"0":[1,1]}}}}'.encode()
    ),
    "topic has a replica of no type": lambda zk, it: spoil(
        zk.paths.topic(it.name),
        zk,
        f'{{"topic_id":"{it.topic_id}","partitions":{{"0":[{10**20}]}}}}'.encode(),
    ),
    "partition has an epoch of no type": lambda zk, it: spoil(
        zk.paths.partition(it.name, 1),
        zk,
        f'{{"leader":1,"leader_epoch":{10**20},"isr":[[1,1]],"elr":[],"recovering":false,"controller_epoch":1}}'.encode(),
    ),
    "partition is garbage": lambda zk, it: spoil(zk.paths.partition(it.name, 1), zk),
    "partition is another's": lambda zk, it: spoil(
        zk.paths.partition(it.name, 1),
        zk,
        b'{"leader":5,"leader_epoch":1,"isr":[[5,1]],"elr":[],"recovering":false,"controller_epoch":1}',
    ),
    "partition is led from outside its isr": lambda zk, it: spoil(
        zk.paths.partition(it.name, 1),
        zk,
        b'{"leader":1,"leader_epoch":1,"isr":[],"elr":[],"recovering":false,"controller_epoch":1}',
    ),
    "partition is missing": lambda zk, it: remove(zk.paths.partition(it.name, 1), zk),
    "settings are garbage": lambda zk, it: spoil(zk.paths.topic_config(it.name), zk),
    # by the default retention records would be deleted that the topic's own keeps
    "settings are missing": lambda zk, it: remove(zk.paths.topic_config(it.name), zk),
}


@pytest.fixture
def store(connect: Connect) -> ZooKeeperStore:
    """The store of a fresh cluster."""
    return ZooKeeperStore(connect().connection)


@pytest.fixture
def by_hand(connect: Connect) -> ZooKeeperConnection:
    """What the damage comes through."""
    return connect().connection


@pytest.mark.parametrize("damage", BROKEN)
def test_a_broken_topic_is_named_and_the_others_stay(
    connect: Connect, store: ZooKeeperStore, by_hand: ZooKeeperConnection, damage: str
) -> None:
    orders, clicks = topic("orders"), topic("clicks")
    store.create_topic(orders, {"retention.ms": "1000"})
    store.create_topic(clicks, {})
    path = BROKEN[damage](by_hand, orders)
    fresh = ZooKeeperStore(connect().connection)
    snapshot = fresh.snapshot()
    assert snapshot.topics == (clicks,)
    assert snapshot.deletions == ()
    (broken,) = snapshot.broken
    assert (broken.path, broken.topic) == (path, "orders")
    assert path in broken.reason
    for read in (fresh.topics, fresh.configs):
        with pytest.raises(CorruptStoreError, match=path):
            read()
    # its name is not given away
    with pytest.raises((AlreadyExistsError, CorruptStoreError)):
        fresh.create_topic(topic("orders"), {})
    assert fresh.clear_unfinished() == []
    assert by_hand.children(by_hand.paths.topics) == ["clicks", "orders"]


def test_a_topic_whose_znode_is_missing_is_not_taken_for_deleted(
    connect: Connect, store: ZooKeeperStore, by_hand: ZooKeeperConnection
) -> None:
    orders, clicks = topic("orders"), topic("clicks")
    for each in (orders, clicks):
        store.create_topic(each, {})
    store.delete_topic(clicks.topic_id)
    path = by_hand.paths.topic("orders")
    for index in range(len(orders.partitions)):
        remove(by_hand.paths.partition("orders", index), by_hand)
    remove(by_hand.paths.partitions("orders"), by_hand)
    remove(path, by_hand)
    fresh = ZooKeeperStore(connect().connection)
    (broken,) = fresh.snapshot().broken
    assert (broken.path, broken.topic) == (path, "orders")
    id_path = by_hand.paths.topic_id(orders.topic_id)
    assert path in broken.reason
    assert id_path in broken.reason
    # given up, as the reason says
    remove(id_path, by_hand)
    assert fresh.snapshot().broken == ()
    # also without any id all that is there is read
    for topic_id in by_hand.children(by_hand.paths.topic_ids):
        remove(f"{by_hand.paths.topic_ids}/{topic_id}", by_hand)
    remove(by_hand.paths.topic_ids, by_hand)
    assert [it.path for it in fresh.snapshot().broken] == [by_hand.paths.topic_ids]


@pytest.mark.parametrize("fresh", [False, True], ids=["known", "unread"])
def test_a_broken_partition_stops_no_other_write(
    connect: Connect, store: ZooKeeperStore, by_hand: ZooKeeperConnection, fresh: bool
) -> None:
    orders, clicks = topic("orders", 3), topic("clicks", 1)
    store.create_topic(orders, {})
    store.create_topic(clicks, {})
    path = remove(by_hand.paths.partition("orders", 1), by_hand)
    writer = ZooKeeperStore(connect().connection) if fresh else store
    keys = [PartitionKey(orders.topic_id, 1), PartitionKey(clicks.topic_id, 0)]
    unknown, written = writer.update_partitions([PartitionWrite(key, state(leader=2)) for key in keys])
    assert isinstance(unknown, Unknown)
    assert path in unknown.reason
    assert written == Written(1)
    broken, read = writer.read_partitions(keys)
    assert isinstance(broken, Unknown)
    assert path in broken.reason
    assert read == state(leader=2, version=1)


def test_an_id_that_is_garbage_stops_no_other_partition(
    connect: Connect, store: ZooKeeperStore, by_hand: ZooKeeperConnection
) -> None:
    orders, clicks = topic("orders", 1), topic("clicks", 1)
    store.create_topic(orders, {})
    store.create_topic(clicks, {})
    path = spoil(by_hand.paths.topic_id(orders.topic_id), by_hand)
    keys = [PartitionKey(it.topic_id, 0) for it in (orders, clicks)]
    broken, read = ZooKeeperStore(connect().connection).read_partitions(keys)
    assert isinstance(broken, Unknown)
    assert path in broken.reason
    assert read == clicks.partitions[0]
    writer = ZooKeeperStore(connect().connection)
    unknown, written = writer.update_partitions([PartitionWrite(key, state(leader=2)) for key in keys])
    assert isinstance(unknown, Unknown)
    assert written == Written(1)


def test_a_move_that_meets_garbage_stops_no_other_write(
    store: ZooKeeperStore, by_hand: ZooKeeperConnection
) -> None:
    orders, clicks = topic("orders", 1), topic("clicks", 1)
    store.create_topic(orders, {})
    store.create_topic(clicks, {})
    path = spoil(by_hand.paths.topic("orders"), by_hand)
    moved = msgspec.structs.replace(state(), replicas=(1, 2), adding=(2,))
    writes = [PartitionWrite(PartitionKey(it.topic_id, 0), moved) for it in (orders, clicks)]
    unknown, written = store.update_partitions(writes)
    assert isinstance(unknown, Unknown)
    assert path in unknown.reason
    assert written == Written(1)


def test_a_copy_of_a_topic_is_not_the_topic(store: ZooKeeperStore, by_hand: ZooKeeperConnection) -> None:
    orders = topic("orders", 1)
    store.create_topic(orders, {})
    paths = by_hand.paths
    for there, copy in (
        (paths.topic("orders"), paths.topic("copy")),
        (paths.partitions("orders"), paths.partitions("copy")),
        (paths.partition("orders", 0), paths.partition("copy", 0)),
        (paths.topic_config("orders"), paths.topic_config("copy")),
    ):
        data, _ = by_hand.get(there)
        by_hand.ask(lambda client, copy=copy, data=data: client.create_async(copy, data))  # type: ignore[misc]
    snapshot = store.snapshot()
    assert snapshot.topics == (orders,)
    assert [(it.path, it.topic) for it in snapshot.broken] == [(paths.topic("copy"), "copy")]


@pytest.mark.parametrize("deep", [False, True], ids=["a znode", "with one below it"])
def test_what_else_lies_below_an_unfinished_topic_keeps_no_controller_from_beginning(
    store: ZooKeeperStore, by_hand: ZooKeeperConnection, deep: bool
) -> None:
    orders, clicks = topic("orders", 1), topic("clicks", 1)
    store.create_topic(orders, {})
    store.create_topic(clicks, {})
    data, _ = by_hand.get(by_hand.paths.topic("orders"))
    spoil(by_hand.paths.topic("orders"), by_hand, data[:-1] + b',"unfinished":"making"}')
    odd = f"{by_hand.paths.partitions('orders')}/odd"
    by_hand.ask(lambda client: client.create_async(odd))
    if deep:
        by_hand.ask(lambda client: client.create_async(f"{odd}/below"))
    assert store.clear_unfinished() == ([] if deep else ["orders"])
    assert store.snapshot().topics == (clicks,)


def test_a_topic_with_a_missing_partition_can_be_deleted(
    store: ZooKeeperStore, by_hand: ZooKeeperConnection
) -> None:
    orders = topic("orders", 3)
    store.create_topic(orders, {})
    remove(by_hand.paths.partition("orders", 1), by_hand)
    remove(by_hand.paths.topic_config("orders"), by_hand)
    store.delete_topic(orders.topic_id)
    assert store.snapshot().broken == ()
    assert [each.partition_count for each in store.deletions()] == [3]


def test_a_deletion_that_is_garbage_deletes_nothing(
    store: ZooKeeperStore, by_hand: ZooKeeperConnection
) -> None:
    orders = topic("orders")
    store.create_topic(orders, {})
    store.delete_topic(orders.topic_id)
    garbage = spoil(by_hand.paths.deletion(orders.topic_id), by_hand)
    odd = f"{by_hand.paths.deletions}/odd"
    by_hand.ask(lambda client: client.create_async(odd, b'{"topic":"clicks","partitions":3}'))
    # the same id, written in another way
    twin = f"{by_hand.paths.deletions}/{orders.topic_id.hex}"
    by_hand.ask(lambda client: client.create_async(twin, b'{"topic":"clicks","partitions":3}'))
    snapshot = store.snapshot()
    assert snapshot.deletions == ()
    assert [each.path for each in snapshot.broken] == sorted([garbage, odd, twin])
    assert store.deletions() == []


def test_producer_ids_are_not_begun_anew(store: ZooKeeperStore, by_hand: ZooKeeperConnection) -> None:
    store.allocate_producer_ids(10)
    path = spoil(by_hand.paths.producer_ids, by_hand)
    with pytest.raises(CorruptStoreError, match=path):
        store.allocate_producer_ids(10)
    remove(path, by_hand)
    with pytest.raises(CorruptStoreError, match=path):
        store.allocate_producer_ids(10)


def test_broker_settings_that_are_garbage_are_named(
    store: ZooKeeperStore, by_hand: ZooKeeperConnection
) -> None:
    store.put_configs(ConfigResource("broker", "1"), {"a": "1"}, 0)
    path = spoil(by_hand.paths.broker_config("1"), by_hand)
    assert [each.path for each in store.snapshot().broken] == [path]
    with pytest.raises(CorruptStoreError, match=path):
        store.put_configs(ConfigResource("broker", "1"), {"a": "2"}, 2)


def test_what_zookeeper_would_not_take_is_refused_here(store: ZooKeeperStore) -> None:
    orders = topic("orders", 1)
    store.create_topic(orders, {})
    with pytest.raises(StoreError, match=r"/config/topics/orders would hold 1200\d+ bytes"):
        store.put_configs(ConfigResource("topic", "orders"), {"a": "x" * 1_200_000}, 1)
    assert store.topics() == [orders]
