"""The connection is cut between a request and its answer: what took effect is found out, never assumed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import msgspec
import pytest

from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
from fastlog.cluster.zookeeper.election import Election
from fastlog.cluster.zookeeper.membership import Membership
from fastlog.cluster.zookeeper.metadata.fence import Fence
from fastlog.cluster.zookeeper.metadata.store import ZooKeeperStore
from fastlog.ports import (
    ConfigResource,
    PartitionKey,
    PartitionWrite,
    Registration,
    Topic,
    Written,
)
from tests.support.broker import wait_until
from tests.support.store_contract import state, topic
from tests.support.zookeeper import Connect
from tests.support.zookeeper_proxy import Proxy

SMALL, LARGE = topic("small", 3), topic("large", 300)
OLD, GONE = topic("old", 250), topic("gone", 2)
GROWN = [state()] * 2
SETTINGS = ConfigResource("topic", "old")
MOVED = msgspec.structs.replace(state(leader=2), replicas=(2, 3))

Act = Callable[[ZooKeeperStore], object]
Shown = Callable[[ZooKeeperStore], object]


def named(store: ZooKeeperStore, name: str) -> Topic:
    return next(each for each in store.topics() if each.name == name)


def write_all(store: ZooKeeperStore, how: object) -> object:
    assert isinstance(how, type(MOVED))
    return store.update_partitions([PartitionWrite(PartitionKey(OLD.topic_id, at), how) for at in range(250)])


# what is done, what it answers, and what is stored after it
CASES: dict[str, tuple[Act, object, Shown, object]] = {
    "create": (
        lambda it: it.create_topic(SMALL, {"a": "1"}),
        None,
        lambda it: named(it, "small"),
        SMALL,
    ),
    "create a large one": (
        lambda it: it.create_topic(LARGE, {"a": "1"}),
        None,
        lambda it: named(it, "large"),
        LARGE,
    ),
    "grow": (
        lambda it: len(it.add_partitions(OLD.topic_id, 250, GROWN).partitions),
        252,
        lambda it: len(named(it, "old").partitions),
        252,
    ),
    "grow by many": (
        lambda it: len(it.add_partitions(OLD.topic_id, 250, GROWN * 100).partitions),
        450,
        lambda it: len(named(it, "old").partitions),
        450,
    ),
    "write states": (
        lambda it: write_all(it, state(leader=1)),
        [Written(1)] * 250,
        lambda it: {each.version for each in named(it, "old").partitions},
        {1},
    ),
    "move replicas": (
        lambda it: write_all(it, MOVED),
        [Written(1)] * 250,
        lambda it: set(named(it, "old").partitions),
        {msgspec.structs.replace(MOVED, version=1)},
    ),
    "delete": (
        lambda it: it.delete_topic(OLD.topic_id),
        None,
        lambda it: ([each.name for each in it.topics()], sorted(each.name for each in it.deletions())),
        ([], ["gone", "old"]),
    ),
    "forget": (lambda it: it.forget_deletion(GONE.topic_id), None, lambda it: it.deletions(), []),
    "settings": (
        lambda it: it.put_configs(SETTINGS, {"a": "2"}, 1),
        2,
        lambda it: it.configs()[SETTINGS].version,
        2,
    ),
}


def run(proxy: Proxy, lose: str, act: Callable[[], object]) -> object:
    """Does `act` while the proxy loses one direction, cuts the connection once bytes were lost, and lets it go on."""
    setattr(proxy, lose, True)
    with ThreadPoolExecutor(1) as pool:
        before = proxy.lost_bytes
        running = pool.submit(act)
        wait_until("something is lost", lambda: proxy.lost_bytes > before)
        # all that was sent is there, so that the answers are lost of everything
        threading.Event().wait(0.1)
        proxy.cut()
        return running.result(30)


@pytest.mark.parametrize("lose", ["lose_answers", "lose_requests"])
@pytest.mark.parametrize("case", CASES)
def test_a_change_takes_effect_once(connect: Connect, proxy: Proxy, case: str, lose: str) -> None:
    act, answer, shown, expected = CASES[case]
    other = ZooKeeperStore(connect().connection)
    other.create_topic(OLD, {"a": "1"})
    other.create_topic(GONE, {})
    other.delete_topic(GONE.topic_id)
    connection = connect(proxy.address).connection
    fence = Election(connection, broker_id=1, broker_epoch=1).stand()
    assert isinstance(fence, Fence)
    store = ZooKeeperStore(connection).fenced(fence)
    # what it decides by is read before, so that a write is what gets lost
    store.snapshot()
    session = connection.session
    assert run(proxy, lose, lambda: act(store)) == answer
    assert shown(other) == expected
    assert other.snapshot().broken == ()
    assert connection.session == session


@pytest.mark.parametrize("lose", ["lose_answers", "lose_requests"])
def test_an_election_is_won_once(connect: Connect, proxy: Proxy, lose: str) -> None:
    connection, other = connect(proxy.address).connection, connect().connection
    election = Election(connection, broker_id=1, broker_epoch=1)
    fence = run(proxy, lose, lambda: retried(election.stand))
    assert isinstance(fence, Fence)
    seen = Election(other, broker_id=2, broker_epoch=2).current()
    assert seen is not None
    assert (seen.broker_id, seen.controller_epoch, seen.version) == (1, fence.controller_epoch, fence.version)
    ZooKeeperStore(connection).fenced(fence).create_topic(SMALL, {})


@pytest.mark.parametrize("lose", ["lose_answers", "lose_requests"])
def test_a_registration_is_recognised_as_ones_own(connect: Connect, proxy: Proxy, lose: str) -> None:
    connection, other = connect(proxy.address).connection, connect().connection
    broker = Registration(
        broker_id=1, broker_epoch=-1, incarnation=uuid4(), endpoints={"PLAINTEXT": ("127.0.0.1", 1)}
    )
    registered = run(proxy, lose, lambda: Membership(connection).register(broker, ()))
    assert Membership(other).live().registrations == (registered,)


@pytest.mark.parametrize("lose", ["lose_answers", "lose_requests"])
def test_producer_ids_may_be_lost_and_never_come_twice(connect: Connect, proxy: Proxy, lose: str) -> None:
    store, other = ZooKeeperStore(connect(proxy.address).connection), ZooKeeperStore(connect().connection)
    block = run(proxy, lose, lambda: store.allocate_producer_ids(1000))
    assert isinstance(block, range)
    assert other.allocate_producer_ids(1000).start >= block.stop


def retried(act: Callable[[], object]) -> object:
    """A read that got no answer is an error that a broker answers by trying again."""
    from fastlog.ports import StoreUnavailableError

    try:
        return act()
    except StoreUnavailableError:
        return act()


def test_a_loss_in_the_middle_of_an_election_is_recognised(connect: Connect, proxy: Proxy) -> None:
    connection, other = connect(proxy.address).connection, connect().connection
    election = Election(connection, broker_id=1, broker_epoch=1)
    commit = connection.commit

    def lost_commit(operations: object) -> object:
        connection.commit = commit  # type: ignore[method-assign]
        return run(proxy, "lose_answers", lambda: commit(operations))  # type: ignore[arg-type]

    connection.commit = lost_commit  # type: ignore[method-assign, assignment]
    fence = election.stand()
    assert isinstance(fence, Fence)
    # one election, not two
    assert fence.controller_epoch == 1
    seen = Election(other, broker_id=2, broker_epoch=2).current()
    assert seen is not None
    assert (seen.controller_epoch, seen.version) == (1, fence.version)


def test_a_call_without_any_answer_ends_in_time_and_says_what_is_not_known(
    connect: Connect, proxy: Proxy
) -> None:
    connection = connect(proxy.address).connection
    assert isinstance(connection, ZooKeeperConnection)
    ZooKeeperStore(connection).create_topic(OLD, {})
    proxy.close()
    results = ZooKeeperStore(connection).update_partitions(
        [PartitionWrite(PartitionKey(OLD.topic_id, at), state()) for at in range(250)]
    )
    assert {type(each).__name__ for each in results} == {"Unknown"}
