"""ZooKeeper is away for a while: nothing changes, what the lease gates ends in time, and all resumes by itself."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastlog.cluster.zookeeper.cluster import join_cluster
from fastlog.cluster.zookeeper.election import Election
from fastlog.cluster.zookeeper.events import Connected, Suspended
from fastlog.cluster.zookeeper.membership import Membership
from fastlog.cluster.zookeeper.metadata.fence import Fence
from fastlog.cluster.zookeeper.metadata.store import ZooKeeperStore
from fastlog.ports import (
    ConfigResource,
    PartitionKey,
    PartitionWrite,
    StoreError,
    StoreUnavailableError,
    Unknown,
    Written,
)
from fastlog.testing.zookeeper import ZooKeeper
from tests.integration.zookeeper.test_membership import broker
from tests.support.broker import wait_until
from tests.support.store_contract import state, topic
from tests.support.zookeeper import CLUSTER_ID, Connect
from tests.support.zookeeper_member import Member

SESSION_MS = 2000
PATIENCE_MS = 500


@pytest.mark.parametrize("how", ["stopped", "killed", "paused"])
def test_nothing_changes_meanwhile_and_all_resumes(
    connect: Connect, own_zookeeper: ZooKeeper, root: str, tmp_path: Path, how: str
) -> None:
    (server,) = own_zookeeper.servers
    watcher = connect(own_zookeeper.hosts)
    connected = connect(own_zookeeper.hosts, patience_ms=PATIENCE_MS)
    fence = Election(connected.connection, broker_id=1, broker_epoch=1).stand()
    assert isinstance(fence, Fence)
    store = ZooKeeperStore(connected.connection).fenced(fence)
    orders = topic("orders", 3)
    store.create_topic(orders, {})
    before = store.snapshot()
    member = Member(own_zookeeper.hosts, root, 1, tmp_path / "data", session_ms=SESSION_MS)
    try:
        epoch = member.wait_for("registered")
        wait_until("it acts", lambda: member.last_act(epoch) > 0)
        {"stopped": server.stop, "killed": server.kill, "paused": server.pause}[how]()
        away = time.monotonic_ns()
        refuse_changes(store, orders.topic_id)
        # two thirds of a session after the last write that was answered
        assert (member.last_act(epoch) - away) / 1e6 < SESSION_MS * 2 / 3
        acts = len(member.acts)
        server.resume() if how == "paused" else own_zookeeper.restart()
        # whatever was asked for meanwhile was not done later either
        if how != "paused":
            for each in (connected, watcher):
                each.wait_for(Suspended)
                each.wait_for(Connected)
            members = Membership(watcher.connection)
            # where the restart took longer than its session, it is there with a new one
            wait_until(
                "it is registered",
                lambda: any(it.broker_epoch >= epoch for it in members.live().registrations),
                seconds=20,
            )
            assert store.snapshot() == before
        wait_until("it acts again", lambda: len(member.acts) > acts, seconds=20)
        wait_until("changes succeed", lambda: succeeds(connect, own_zookeeper, store), seconds=20)
    finally:
        member.kill()


def refuse_changes(store: ZooKeeperStore, topic_id: object) -> None:
    """Every change ends in time, with an error that says that nothing, or nothing known, was done."""
    from uuid import UUID

    assert isinstance(topic_id, UUID)
    changes: list[Callable[[], object]] = [
        lambda: store.create_topic(topic("late"), {}),
        lambda: store.add_partitions(topic_id, 3, [state()]),
        lambda: store.delete_topic(topic_id),
        lambda: store.put_configs(ConfigResource("broker", ""), {"a": "1"}, 0),
        lambda: store.allocate_producer_ids(10),
    ]
    started = time.monotonic()
    for change in changes:
        with pytest.raises(StoreUnavailableError):
            change()
    (result,) = store.update_partitions([PartitionWrite(PartitionKey(topic_id, 0), state(leader=1))])
    assert isinstance(result, Unknown)
    # each waits twice at most: for a connection, and for an answer
    assert time.monotonic() - started < 6 * 2 * PATIENCE_MS / 1000 + 1


def succeeds(connect: Connect, zookeeper: ZooKeeper, store: ZooKeeperStore) -> bool:
    """Whether changes are taken again; a new session needs a new election."""
    try:
        store.put_configs(ConfigResource("broker", "7"), {"a": "1"}, 0)
    except StoreError:
        fresh = connect(zookeeper.hosts)
        result = Election(fresh.connection, broker_id=2, broker_epoch=2).stand()
        if not isinstance(result, Fence):
            return False
        ZooKeeperStore(fresh.connection).fenced(result).put_configs(
            ConfigResource("broker", "8"), {"a": "1"}, 0
        )
    return True


def test_a_zookeeper_that_lost_everything_is_not_taken_for_a_fresh_one(
    connect: Connect, own_zookeeper: ZooKeeper
) -> None:
    (server,) = own_zookeeper.servers
    connected = connect(own_zookeeper.hosts)
    orders = topic("orders", 3)
    store = ZooKeeperStore(connected.connection)
    store.create_topic(orders, {})
    Membership(connected.connection).register(broker(), ())
    server.stop()
    connected.wait_for(Suspended)
    shutil.rmtree(server.folder / "version-2")
    own_zookeeper.restart()
    # whoever has seen a later state than it has is turned away by ZooKeeper itself
    with pytest.raises(StoreUnavailableError):
        store.topics()
    # and who starts anew, with records in its directory, is told
    connection = connect(own_zookeeper.hosts, join=False).connection
    store = ZooKeeperStore(connection)
    with pytest.raises(StoreError, match="no cluster at"):
        join_cluster(connection, CLUSTER_ID, CLUSTER_ID)
    with pytest.raises(StoreError, match=r"brokers/ids is missing"):
        Membership(connection).register(broker(), ())
    for read in (store.topics, store.deletions, store.snapshot, store.configs, store.cluster_id):
        with pytest.raises(StoreError, match="is missing"):
            read()


def test_an_ensemble_loses_its_leader_and_nobody_loses_a_session(
    connect: Connect, ensemble: ZooKeeper
) -> None:
    connected = connect(ensemble.hosts, session_ms=4000)
    connection = connected.connection
    store = ZooKeeperStore(connection)
    orders = topic("orders", 3)
    store.create_topic(orders, {})
    members = Membership(connection)
    registered = members.register(broker(), ())
    session = connection.session
    for victim in (ensemble.leader(), ensemble.followers()[0]):
        victim.kill()
        killed = time.monotonic()
        current = store.topics()[0].partitions[0]
        while True:
            (result,) = store.update_partitions([PartitionWrite(PartitionKey(orders.topic_id, 0), current)])
            if isinstance(result, Written):
                break
        print(f"a write succeeded {time.monotonic() - killed:.2f} s after the loss")
        assert time.monotonic() - killed < 10
        ensemble.restart()
    assert connection.session == session
    assert members.live().registrations == (registered,)


def test_a_minority_changes_nothing(connect: Connect, ensemble: ZooKeeper) -> None:
    store = ZooKeeperStore(connect(ensemble.hosts).connection)
    orders = topic("orders", 1)
    store.create_topic(orders, {})
    for victim in ensemble.servers[1:]:
        victim.kill()
    with pytest.raises(StoreUnavailableError):
        store.create_topic(topic("late"), {})
    ensemble.restart()
    wait_until("it is there again", lambda: is_readable(store), seconds=20)
    assert [each.name for each in store.topics()] == ["orders"]


def is_readable(store: ZooKeeperStore) -> bool:
    try:
        store.topics()
    except StoreUnavailableError:
        return False
    return True


def test_closing_does_not_wait_for_a_zookeeper_that_hangs(connect: Connect, own_zookeeper: ZooKeeper) -> None:
    (server,) = own_zookeeper.servers
    connected = connect(own_zookeeper.hosts)
    server.pause()
    started = time.monotonic()
    connected.close()
    assert time.monotonic() - started < SESSION_MS / 1000 + 2
    server.resume()
