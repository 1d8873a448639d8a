"""A bad way to ZooKeeper for a while: all that was confirmed is there, once, as in a store that never fails."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest

from fastlog.cluster.local import LocalStore
from fastlog.cluster.zookeeper.election import Election
from fastlog.cluster.zookeeper.metadata.fence import Fence
from fastlog.cluster.zookeeper.metadata.store import ZooKeeperStore
from fastlog.ports import (
    ConfigResource,
    MetadataStore,
    PartitionKey,
    PartitionState,
    PartitionWrite,
    StoreUnavailableError,
    Topic,
    Unknown,
    VersionConflictError,
    Written,
)
from tests.support.store_contract import state, topic
from tests.support.zookeeper import CLUSTER_ID, Connect
from tests.support.zookeeper_proxy import Proxy

CHANGES = 70
NAMES = [f"t{number}" for number in range(6)]
# a small topic, and one that takes several transactions
SIZES = [1, 3, 130]


class Writer:
    """Makes random changes, each until its outcome is known, to the store under test and to the model."""

    def __init__(self, seed: int, store: ZooKeeperStore, model: LocalStore) -> None:
        self.random = random.Random(seed)
        self.store = store
        self.model = model
        self.unknown = 0

    def repeat(self, change: Callable[[], object]) -> object:
        """`change` until it is answered."""
        while True:
            try:
                return change()
            except StoreUnavailableError:
                self.unknown += 1

    def step(self) -> None:
        """One change."""
        name = self.random.choice(NAMES)
        found = next((each for each in self.model.topics() if each.name == name), None)
        if found is None:
            self.create(name)
        else:
            act = self.random.choice(
                [self.write, self.write, self.write, self.grow, self.settings, self.delete]
            )
            act(found)

    def create(self, name: str) -> None:
        made = topic(name, self.random.choice(SIZES), UUID(int=self.random.getrandbits(128)))
        self.repeat(lambda: self.store.create_topic(made, {"a": "0"}))
        self.model.create_topic(made, {"a": "0"})

    def delete(self, it: Topic) -> None:
        self.repeat(lambda: self.store.delete_topic(it.topic_id))
        self.model.delete_topic(it.topic_id)

    def grow(self, it: Topic) -> None:
        count, more = len(it.partitions), [state()] * self.random.choice(SIZES)

        def change() -> None:
            try:
                self.store.add_partitions(it.topic_id, count, more)
            except VersionConflictError:
                # only where it took effect before, without our knowing
                assert self.count(it.name) == count + len(more)

        self.repeat(change)
        self.model.add_partitions(it.topic_id, count, more)

    def count(self, name: str) -> int:
        return next(len(each.partitions) for each in self.store.topics() if each.name == name)

    def settings(self, it: Topic) -> None:
        resource = ConfigResource("topic", it.name)
        version, value = self.model.configs()[resource].version, {"a": str(self.random.random())}

        def change() -> None:
            try:
                self.store.put_configs(resource, value, version)
            except VersionConflictError:
                assert self.store.configs()[resource].values == value

        self.repeat(change)
        self.model.put_configs(resource, value, version)

    def write(self, it: Topic) -> None:
        leader = self.random.randrange(1000)
        chosen = self.random.sample(range(len(it.partitions)), self.random.randint(1, len(it.partitions)))
        left = {PartitionKey(it.topic_id, at): changed(it.partitions[at], leader) for at in chosen}
        writes = [PartitionWrite(key, each) for key, each in left.items()]
        while left:
            results = self.store.update_partitions([PartitionWrite(key, each) for key, each in left.items()])
            for key, result in zip(list(left), results, strict=True):
                if isinstance(result, Written) or (
                    not isinstance(result, Unknown) and self.is_done(key, left[key])
                ):
                    del left[key]
                else:
                    assert isinstance(result, Unknown), result
                    self.unknown += 1
        self.model.update_partitions(writes)

    def is_done(self, key: PartitionKey, wanted: PartitionState) -> bool:
        (actual,) = self.repeat(lambda: self.store.read_partitions([key]))  # type: ignore[misc]
        return bool(actual == msgspec.structs.replace(wanted, version=wanted.version + 1))


def changed(before: PartitionState, leader: int) -> PartitionState:
    """Another leader, and now and then other replicas, which lie in another znode."""
    other = (leader,) if leader % 4 else (*before.replicas[:1], leader + 1_000_000)
    return msgspec.structs.replace(
        before, replicas=other, leader=-1, isr=(), leader_epoch=before.leader_epoch + 1
    )


def disturb(proxy: Proxy, seed: int, stop: threading.Event) -> None:
    """Loses requests or answers for a moment, and cuts the connection, again and again."""
    chance = random.Random(seed)
    while not stop.wait(chance.uniform(0.02, 0.25)):
        setattr(proxy, chance.choice(["lose_answers", "lose_requests"]), True)
        stop.wait(chance.uniform(0, 0.03))
        proxy.cut()


def same(store: MetadataStore, model: MetadataStore) -> None:
    """Both hold the same, versions included."""
    assert store.topics() == model.topics()
    assert store.configs() == model.configs()
    # a node without a cluster does not note who held replicas
    noted = [msgspec.structs.replace(it, replicas=()) for it in store.deletions()]
    assert sorted(noted, key=str) == sorted(model.deletions(), key=str)


def test_what_was_confirmed_is_there_once(connect: Connect, proxy: Proxy, tmp_path: Path) -> None:
    seed = uuid4().int & 0xFFFFFFFF
    print(f"seed {seed}")
    calm = ZooKeeperStore(connect().connection)
    connection = connect(proxy.address, session_ms=6000, patience_ms=1500).connection
    fence = Election(connection, broker_id=1, broker_epoch=1).stand()
    assert isinstance(fence, Fence)
    writer = Writer(seed, ZooKeeperStore(connection).fenced(fence), LocalStore(tmp_path, CLUSTER_ID))
    stop = threading.Event()
    trouble = threading.Thread(target=disturb, args=(proxy, seed, stop))
    trouble.start()
    try:
        for number in range(CHANGES):
            writer.step()
            if number % 20 == 0:
                same(calm, writer.model)
    except BaseException as error:
        pytest.fail(f"seed {seed}: {error!r}")
    finally:
        stop.set()
        trouble.join()
    same(calm, writer.model)
    assert calm.clear_unfinished() == []
    print(f"{proxy.cuts} cuts, {writer.unknown} outcomes that stayed unknown")
    assert proxy.cuts > 5
    writer.model.close()
