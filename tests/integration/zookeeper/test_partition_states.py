"""What a cluster knows of a partition, and replicas that move: the topic's znode and the partition's at once."""

from __future__ import annotations

import threading

import msgspec

from fastlog.cluster.zookeeper.metadata.store import ZooKeeperStore
from fastlog.ports import Conflict, PartitionKey, PartitionState, PartitionWrite, Topic, Written
from tests.support.store_contract import topic
from tests.support.zookeeper import Connect

FULL = PartitionState(
    replicas=(1, 2, 3, 4),
    leader=2,
    leader_epoch=7,
    isr=(2, 1),
    isr_epochs=(40, 51),
    elr=(3,),
    recovering=True,
    adding=(4,),
    removing=(1,),
)
LEADERLESS = PartitionState(replicas=(1, 2), leader=-1, leader_epoch=3, isr=(), elr=(1, 2))


def test_all_of_a_state_is_kept(connect: Connect) -> None:
    store = ZooKeeperStore(connect().connection)
    orders = msgspec.structs.replace(topic("orders"), partitions=(FULL, LEADERLESS))
    store.create_topic(orders, {})
    again = ZooKeeperStore(connect().connection)
    assert again.topics() == [orders]
    swapped = [
        PartitionWrite(PartitionKey(orders.topic_id, 0), LEADERLESS),
        PartitionWrite(PartitionKey(orders.topic_id, 1), FULL),
    ]
    assert again.update_partitions(swapped) == [Written(1), Written(1)]
    expected = (
        msgspec.structs.replace(LEADERLESS, version=1),
        msgspec.structs.replace(FULL, version=1),
    )
    assert store.topics()[0].partitions == expected
    assert store.read_partitions([write.key for write in swapped]) == list(expected)


def test_a_writer_that_read_old_replicas_meets_a_conflict(connect: Connect) -> None:
    stale, mover = (ZooKeeperStore(connect().connection) for _ in range(2))
    orders = topic("orders", 2)
    stale.create_topic(orders, {})
    key = PartitionKey(orders.topic_id, 0)
    moved = msgspec.structs.replace(orders.partitions[0], replicas=(1, 9), adding=(9,))
    assert mover.update_partitions([PartitionWrite(key, moved)]) == [Written(1)]
    actual = msgspec.structs.replace(moved, version=1)
    late = msgspec.structs.replace(orders.partitions[0], leader_epoch=1)
    assert stale.update_partitions([PartitionWrite(key, late)]) == [Conflict(actual)]
    # the one that did not move is as it was, and so is what the stale writer thinks of it
    other = PartitionWrite(PartitionKey(orders.topic_id, 1), msgspec.structs.replace(late))
    assert stale.update_partitions([other]) == [Written(1)]
    assert mover.topics()[0].partitions[0] == actual


def test_many_replicas_move_beside_partitions_that_stay(connect: Connect) -> None:
    store = ZooKeeperStore(connect().connection)
    orders, clicks = topic("orders", 250), topic("clicks", 5)
    store.create_topic(orders, {})
    store.create_topic(clicks, {})
    moved = msgspec.structs.replace(orders.partitions[0], replicas=(1, 2), adding=(2,))
    stay = msgspec.structs.replace(clicks.partitions[0], leader_epoch=4)
    writes = [PartitionWrite(PartitionKey(orders.topic_id, index), moved) for index in range(250)]
    writes[100:100] = [PartitionWrite(PartitionKey(clicks.topic_id, index), stay) for index in range(5)]
    assert store.update_partitions(writes) == [Written(1)] * 255
    found: dict[str, Topic] = {each.name: each for each in ZooKeeperStore(connect().connection).topics()}
    assert found["orders"].partitions == (msgspec.structs.replace(moved, version=1),) * 250
    assert found["clicks"].partitions == (msgspec.structs.replace(stay, version=1),) * 5


def test_a_reader_never_sees_replicas_and_state_of_different_moments(connect: Connect) -> None:
    writer, reader = (ZooKeeperStore(connect().connection) for _ in range(2))
    orders = msgspec.structs.replace(topic("orders"), partitions=(LEADERLESS, LEADERLESS))
    writer.create_topic(orders, {})
    key = PartitionKey(orders.topic_id, 0)
    stop = threading.Event()

    def write() -> None:
        state = LEADERLESS
        while not stop.wait(0.01):
            # whoever mixes two moments sees a broker in elr that is no replica
            other = 2 if state.replicas == (1, 3) else 3
            fresh = msgspec.structs.replace(state, replicas=(1, other), elr=(1, other))
            assert writer.update_partitions([PartitionWrite(key, fresh)]) == [Written(state.version + 1)]
            state = msgspec.structs.replace(fresh, version=state.version + 1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        versions = []
        for _ in range(100):
            snapshot = reader.snapshot()
            assert snapshot.broken == ()
            versions.append(snapshot.topics[0].partitions[0].version)
    finally:
        stop.set()
        thread.join()
    assert versions == sorted(versions)
    assert versions[-1] > versions[0]
