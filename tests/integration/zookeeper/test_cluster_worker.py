"""Brokers that find each other in ZooKeeper: one controls, and all hear what it decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastlog.broker.peers.messages import Answer, AskSnapshot, SetConfigs, Settings
from fastlog.cluster.zookeeper.membership import NodeIdInUseError
from fastlog.cluster.zookeeper.metadata.store import ZooKeeperStore
from fastlog.ports import ConfigResource, StoreError
from fastlog.state.controller import events as ev
from fastlog.testing.zookeeper import ZooKeeper
from tests.support.broker import wait_until
from tests.support.cluster_workers import Network, Node, settled
from tests.support.zookeeper import Connect

MakeNode = Callable[..., Node]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def make_node(zookeeper: ZooKeeper, root: str, network: Network, tmp_path: Path) -> Iterator[MakeNode]:
    """Makes brokers of the test's cluster and starts them; they are stopped at its end."""
    made: list[Node] = []

    def make(broker_id: int, *, directory: str = "", start: bool = True, **options: int) -> Node:
        folder = tmp_path / (directory or str(broker_id))
        node = Node(network, broker_id, folder, zookeeper.hosts, root, **options)
        made.append(node)
        if start:
            node.worker.start()
        return node

    yield make
    for node in made:
        node.worker.stop()


def test_the_first_start_makes_the_cluster_and_one_controls(make_node: MakeNode, network: Network) -> None:
    nodes = [make_node(it) for it in (1, 2, 3)]
    controller = settled(network)
    assert controller is nodes[0]
    for node in nodes:
        own = node.worker.registered
        assert own is not None
        assert own in node.known
        wait_until("it has a lease", lambda node=node: node.lease_ns > time.monotonic_ns())
        # a thread of its own keeps the lease: nothing is led when it begins, but the registration may be told after it
        assert node.happened[0] == "resigned"
        assert sorted(node.happened[1:]) == ["lease", f"registered {own.broker_epoch}"]


def test_any_broker_has_a_topic_made_and_all_hear_of_it(
    make_node: MakeNode, network: Network, connect: Connect
) -> None:
    nodes = [make_node(it) for it in (1, 2, 3)]
    settled(network)
    answer = nodes[2].create("orders", partitions=250, factor=3)
    assert answer.code == 0
    for node in nodes:
        wait_until("it has heard", lambda node=node: node.topic("orders") == answer.body.topic.topic_id)
    (stored,) = ZooKeeperStore(connect(join=False).connection).topics()
    assert stored == answer.body.topic
    resource = ConfigResource("topic", "orders")
    values = {"min.insync.replicas": "2"}
    told = nodes[1].request(SetConfigs(resource=resource, values=values, expected_version=1))
    assert told.body == Settings(resource=resource, values=values, version=2)
    for node in nodes:
        wait_until("it has heard", lambda node=node: node.view.settings.get(resource) == told.body)


def test_a_broker_that_comes_later_gets_all_there_is(make_node: MakeNode, network: Network) -> None:
    first = make_node(1)
    settled(network)
    assert first.create("orders", partitions=3).code == 0
    late = make_node(2)
    settled(network)
    assert late.view.snapshot(1) == first.view.snapshot(1)
    assert late.topic("orders")


def test_a_node_id_in_use_and_a_wrong_cluster_do_not_start(make_node: MakeNode, network: Network) -> None:
    first = make_node(1)
    other = make_node(1, directory="other", start=False)
    with pytest.raises(NodeIdInUseError, match=r"node\.id 1 is in use"):
        other.worker.start()
    network.nodes[1] = first
    stranger = make_node(2, start=False)

    def refuse(connection: object) -> None:
        raise StoreError("the data directory belongs to another cluster")

    stranger.worker._join = refuse
    with pytest.raises(StoreError, match="another cluster"):
        stranger.worker.start()
    assert {it.broker_id for it in first.known} == {1}


def test_a_controller_that_stops_hands_over_at_once(make_node: MakeNode, network: Network) -> None:
    nodes = {it: make_node(it) for it in (1, 2, 3)}
    controller = settled(network)
    assert controller.create("orders", partitions=6, factor=3).code == 0
    others = [it for it in nodes.values() if it is not controller]
    asked = time.monotonic()
    left = controller.worker.shut_down()
    moved = time.monotonic()
    assert left == ()
    topic_id = controller.topic("orders")
    assert topic_id is not None
    led_by = {state.leader for state in others[0].view.topics[topic_id]}
    assert controller.id not in led_by
    controller.worker.stop()
    stopped = time.monotonic()
    del network.nodes[controller.id]
    assert settled(network) in others
    elected = network.elected[2]
    print(
        f"leaders moved after {moved - asked:.3f} s, stopped after {stopped - moved:.3f} s, "
        f"the next controller {elected - moved:.3f} s after the stop began"
    )
    assert elected - moved < 0.5
    assert others[0].create("payments", factor=2).code == 0
    # it does not leave anybody waiting
    answers: list[Answer] = []
    controller._handlers[AskSnapshot](AskSnapshot(), answers.append)
    assert [it.code for it in answers] == [41]


def test_a_dead_controller_is_replaced_within_its_session(make_node: MakeNode, network: Network) -> None:
    nodes = {it: make_node(it, session_ms=4_000) for it in (1, 2, 3)}
    controller = settled(network)
    topic = controller.create("orders", partitions=6, factor=3).body.topic
    others = [it for it in nodes.values() if it is not controller]
    wait_until("all have heard", lambda: all(it.topic("orders") for it in others))
    # its process is gone as far as anybody can tell, and its session is not over
    died = time.monotonic()
    network.refusing.add(controller.id)
    wait_until("another controls", lambda: 2 in network.elected)
    took = network.elected[2] - died

    def led_by_others() -> bool:
        return all(it.leader != controller.id for it in others[0].view.topics[topic.topic_id])

    wait_until("others lead", led_by_others)
    print(f"another controls after {took:.3f} s, and leads after {time.monotonic() - died:.3f} s")
    assert took < 1
    assert time.monotonic() - died < 2
    # it was wrong: the former controller lives, and does what the others say
    network.refusing.clear()
    settled(network)
    for node in nodes.values():
        wait_until("it is named to all", lambda node=node: node.named == (2, settled(network).id))
    assert not controller.is_controller
    assert controller.create("payments", factor=3).code == 0


def test_a_controller_with_an_error_of_its_own_makes_room(
    make_node: MakeNode, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = {it: make_node(it) for it in (1, 2, 3)}
    controller = settled(network)
    publish = controller.publish

    def fail(notice: object) -> None:
        controller.publish = publish  # type: ignore[method-assign]
        raise RuntimeError("planned")

    controller.publish = fail  # type: ignore[method-assign]
    wait_until("another is elected", lambda: 2 in network.elected)
    assert settled(network) is not controller
    assert "planned" in caplog.text
    assert "Traceback" in caplog.text
    assert nodes[1].create("orders", factor=3).code == 0


def test_one_of_two_replaces_nobody_before_the_session_is_over(make_node: MakeNode, network: Network) -> None:
    nodes = {it: make_node(it) for it in (1, 2)}
    controller = settled(network)
    network.refusing.add(controller.id)
    time.sleep(1.5)
    assert list(network.elected) == [1]
    network.refusing.clear()
    settled(network)
    assert nodes[2].worker.controller == controller.worker.controller


def test_a_deletion_waits_for_every_replica(make_node: MakeNode, network: Network, connect: Connect) -> None:
    nodes = [make_node(it) for it in (1, 2)]
    settled(network)
    topic = nodes[0].create("orders", factor=2).body.topic
    nodes[1].does_stop_replicas = False
    assert nodes[0].request(ev.DeleteAsked(token=None, topic_id=topic.topic_id)).code == 0
    store = ZooKeeperStore(connect(join=False).connection)
    wait_until("the first has stopped", lambda: nodes[0].stopped == [topic.topic_id])
    assert [it.topic_id for it in store.deletions()] == [topic.topic_id]
    nodes[1].does_stop_replicas = True
    wait_until("all is gone", lambda: not store.deletions())
    assert nodes[1].topic("orders") is None


def test_an_unclean_start_is_said_until_a_controller_has_published_it(
    make_node: MakeNode, network: Network, connect: Connect
) -> None:
    node = make_node(1, clean_start=False)
    settled(network)
    own = node.worker.registered
    assert own is not None
    assert not own.clean_start
    confirmed: list[int] = []
    # of another controller, or another registration, nothing follows
    epoch = own.broker_epoch
    node.worker.confirm(epoch - 1, 1, lambda: confirmed.append(8))
    node.worker.confirm(epoch, 0, lambda: confirmed.append(9))
    node.worker.confirm(epoch, 1, lambda: confirmed.append(1))
    wait_until("it is confirmed", lambda: confirmed == [1])
    # its next registration says that it is clean
    connection = connect(join=False).connection
    connection.ask(lambda client: client.delete_async(connection.paths.broker(1)))

    def is_clean() -> bool:
        fresh = node.worker.registered
        return fresh is not None and fresh.broker_epoch > epoch and fresh.clean_start

    wait_until("it is registered anew, and clean", is_clean)
    assert confirmed == [1]
