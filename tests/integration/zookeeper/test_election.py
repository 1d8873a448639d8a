"""The controller's election, and that nothing of an old controller takes effect."""

from __future__ import annotations

from uuid import uuid4

import msgspec
import pytest

from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
from fastlog.cluster.zookeeper.election import Controller, Election
from fastlog.cluster.zookeeper.events import Changed
from fastlog.cluster.zookeeper.metadata.fence import Fence
from fastlog.cluster.zookeeper.metadata.store import ZooKeeperStore
from fastlog.ports import (
    ConfigResource,
    CorruptStoreError,
    FencedError,
    PartitionKey,
    PartitionWrite,
    Snapshot,
)
from tests.support.store_contract import state, topic
from tests.support.zookeeper import Connect


def won(result: Fence | Controller) -> Fence:
    """The fence of an election that must have been won."""
    assert isinstance(result, Fence), result
    return result


def lost(result: Fence | Controller) -> Controller:
    """The controller of an election that must have been lost."""
    assert isinstance(result, Controller), result
    return result


def election(connection: ZooKeeperConnection, broker_id: int, broker_epoch: int = 10) -> Election:
    return Election(connection, broker_id=broker_id, broker_epoch=broker_epoch)


def test_one_wins_and_the_others_see_who(connect: Connect) -> None:
    one, two = connect(), connect()
    fence = won(election(one.connection, 1).stand())
    assert (fence.controller_epoch, fence.session) == (1, one.connection.session)
    seen = lost(election(two.connection, 2).stand())
    assert (seen.broker_id, seen.broker_epoch, seen.controller_epoch) == (1, 10, 1)
    assert election(two.connection, 2).current() == seen


def test_the_next_is_elected_when_the_controller_goes(connect: Connect) -> None:
    one, two = connect(), connect()
    first = won(election(one.connection, 1).stand())
    second = election(two.connection, 2)
    lost(second.stand())
    one.close()
    two.wait_for(Changed("controller"))
    fence = won(second.stand())
    assert fence.controller_epoch == 2
    assert fence.version > first.version


def test_resigning_makes_room_and_only_for_the_one_that_holds_it(connect: Connect) -> None:
    one, two = connect(), connect()
    first, second = election(one.connection, 1), election(two.connection, 2)
    old = won(first.stand())
    first.resign(old)
    assert second.current() is None
    won(second.stand())
    first.resign(old)
    assert lost(first.stand()).broker_id == 2


def test_a_dead_controller_is_replaced_within_its_session(connect: Connect) -> None:
    one, two = connect(), connect()
    old = won(election(one.connection, 1).stand())
    second = election(two.connection, 2)
    fence = won(second.take_over(lost(second.stand())))
    assert fence.controller_epoch == old.controller_epoch + 1
    one.wait_for(Changed("controller"))
    assert lost(election(one.connection, 1).stand()).broker_id == 2


def test_a_suspicion_of_before_an_election_replaces_nobody(connect: Connect) -> None:
    one, two, three = connect(), connect(), connect()
    first = election(one.connection, 1)
    old = won(first.stand())
    second, third = election(two.connection, 2), election(three.connection, 3)
    suspected = lost(second.stand())
    first.resign(old)
    won(third.stand())
    assert lost(second.take_over(suspected)).broker_id == 3
    # the same broker, elected again, is another controller too
    one_again = won(first.take_over(lost(first.stand())))
    assert lost(second.take_over(suspected)).controller_epoch == one_again.controller_epoch


def test_a_restarted_controller_replaces_its_own_past(connect: Connect) -> None:
    before, after = connect(), connect()
    old = won(election(before.connection, 1, broker_epoch=10).stand())
    fresh = won(election(after.connection, 1, broker_epoch=11).stand())
    assert fresh.controller_epoch == old.controller_epoch + 1
    # and never its future
    assert lost(election(before.connection, 1, broker_epoch=10).stand()).broker_epoch == 11


def everything(store: ZooKeeperStore) -> Snapshot:
    """All that is stored."""
    return store.snapshot()


def test_nothing_that_an_old_controller_writes_takes_effect(connect: Connect) -> None:
    one, two = connect(), connect()
    zombie = ZooKeeperStore(one.connection).fenced(won(election(one.connection, 1).stand()))
    orders = topic("orders", 300)
    zombie.create_topic(orders, {})
    zombie.put_configs(ConfigResource("broker", ""), {"a": "1"}, 0)
    gone = topic("gone", 1)
    zombie.create_topic(gone, {})
    zombie.delete_topic(gone.topic_id)
    second = election(two.connection, 2)
    fence = won(second.take_over(lost(second.stand())))
    store = ZooKeeperStore(two.connection).fenced(fence)
    before = everything(store)
    keys = [PartitionKey(orders.topic_id, index) for index in range(300)]
    moved = msgspec.structs.replace(state(leader=2), replicas=(2, 3))
    for write in (
        lambda: zombie.update_partitions([PartitionWrite(key, state(leader=2)) for key in keys]),
        lambda: zombie.update_partitions([PartitionWrite(keys[7], moved)]),
        lambda: zombie.create_topic(topic("small", 1), {}),
        lambda: zombie.create_topic(topic("large", 300), {}),
        lambda: zombie.add_partitions(orders.topic_id, 300, [state()]),
        lambda: zombie.add_partitions(orders.topic_id, 300, [state()] * 200),
        lambda: zombie.delete_topic(orders.topic_id),
        lambda: zombie.put_configs(ConfigResource("topic", "orders"), {"a": "2"}, 1),
        lambda: zombie.put_configs(ConfigResource("broker", ""), {"a": "2"}, 1),
        lambda: zombie.forget_deletion(gone.topic_id),
    ):
        with pytest.raises(FencedError):
            write()
    assert everything(store) == before
    assert store.clear_unfinished() == []
    # the new controller's take effect
    results = store.update_partitions([PartitionWrite(keys[7], moved)])
    assert store.read_partitions([keys[7]]) == [msgspec.structs.replace(moved, version=1)]
    assert len(results) == 1


def test_a_fence_holds_only_in_its_session(connect: Connect) -> None:
    one, two = connect(), connect()
    fence = won(election(one.connection, 1).stand())
    other = ZooKeeperStore(two.connection).fenced(fence)
    with pytest.raises(FencedError, match="session"):
        other.create_topic(topic("orders"), {})


GARBAGE = [b"", b"garbage", b'{"epoch":"x","broker":-7}']


def spoil(connection: ZooKeeperConnection, path: str, data: bytes) -> None:
    """As by hand."""
    connection.ask(lambda client: client.set_async(path, data))


@pytest.mark.parametrize("data", GARBAGE)
def test_a_controller_epoch_that_is_garbage_is_replaced_by_one_that_no_controller_had(
    connect: Connect, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    one, two = connect(), connect()
    first, second = election(one.connection, 1), election(two.connection, 2)
    for _ in range(3):
        fence = won(first.stand())
        first.resign(fence)
    old = won(first.stand())
    path = one.connection.paths.controller_epoch
    spoil(one.connection, path, data)
    assert first.current() is None
    fresh = won(second.stand())
    assert fresh.controller_epoch > old.controller_epoch
    assert lost(first.stand()).controller_epoch == fresh.controller_epoch
    with pytest.raises(FencedError):
        ZooKeeperStore(one.connection).fenced(old).create_topic(topic("orders"), {})
    ZooKeeperStore(two.connection).fenced(fresh).create_topic(topic("orders"), {})
    assert f"path={path}" in caplog.text


def test_an_epoch_made_anew_by_hand_is_followed_by_one_above_those_in_the_partitions(
    connect: Connect,
) -> None:
    connection = connect().connection
    path = connection.paths.controller_epoch
    spoil(connection, path, b'{"epoch":1000}')
    ZooKeeperStore(connection).fenced(won(election(connection, 1).stand())).create_topic(topic("orders"), {})
    connection.ask(lambda client: client.delete_async(path))
    connection.ask(lambda client: client.create_async(path, b"?"))
    assert won(election(connection, 1).stand()).controller_epoch == 1002


@pytest.mark.parametrize("data", GARBAGE)
def test_a_controller_that_is_garbage_is_replaced(
    connect: Connect, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    one, two = connect(), connect()
    first, second = election(one.connection, 1), election(two.connection, 2)
    old = won(first.stand())
    lost(second.stand())
    path = one.connection.paths.controller
    spoil(one.connection, path, data)
    two.wait_for(Changed("controller"))
    assert second.current() is None
    assert won(second.stand()).controller_epoch == old.controller_epoch + 1
    assert lost(first.stand()).broker_id == 2
    assert f"path={path}" in caplog.text


def test_a_controller_that_no_broker_made_is_replaced(connect: Connect) -> None:
    connection = connect().connection
    path = connection.paths.controller
    connection.ask(lambda client: client.create_async(path, b'{"broker":2,"broker_epoch":7}'))
    assert won(election(connection, 1).stand()).controller_epoch == 1


def test_a_controller_epoch_that_is_missing_elects_nobody_and_says_what_to_do(connect: Connect) -> None:
    connection = connect().connection
    path = connection.paths.controller_epoch
    connection.ask(lambda client: client.delete_async(path))
    with pytest.raises(CorruptStoreError, match=f"{path} is missing.*create it"):
        election(connection, 1).stand()
    assert connection.ask(lambda client: client.exists_async(connection.paths.controller)) is None


def test_who_won_is_written_into_what_is_written(connect: Connect) -> None:
    connection = connect().connection
    store = ZooKeeperStore(connection).fenced(won(election(connection, 1).stand()))
    orders = topic("orders", 1, uuid4())
    store.create_topic(orders, {})
    data, _ = connection.get(connection.paths.partition("orders", 0))
    assert msgspec.json.decode(data) == {
        "leader": 1,
        "leader_epoch": 0,
        "isr": [[1, -1]],
        "elr": [],
        "recovering": False,
        "controller_epoch": 1,
    }
