"""What is acknowledged is on every in-sync replica, whoever leads next."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fastlog.ports import PartitionKey
from tests.support.replica_wiring import wait_until

if TYPE_CHECKING:
    import pytest

    from fastlog.ports import PartitionState
    from tests.support.replica_node import ReplicaNode
    from tests.support.replicas import Cluster

NOT_LEADER = 6


def shows(node: ReplicaNode, topic: str, values: list[bytes]) -> None:
    """Waits until a node shows these records to consumers."""
    wait_until(lambda: node.high_watermark(topic) >= len(values), f"{node.node_id} shows so many")
    assert node.consume(topic) == (0, len(values), values)


def nobody_fetches(leader: ReplicaNode) -> bool:
    """Whether no follower has asked for longer than a long poll takes."""
    (position,) = leader.engine.replica_positions()
    return all(behind_ms > 600 for *_, behind_ms in position[6])


def state_of(cluster: Cluster, key: PartitionKey) -> PartitionState:
    return cluster.wiring.state(key)


def test_acks_all_is_answered_when_every_replica_has_it_and_followers_learn_of_it(cluster: Cluster) -> None:
    first, second, third = cluster.start(1, 2, 3)
    cluster.create("t", 1, (1, 2, 3), min_isr=2)
    assert first.produce("t", [b"a", b"b"]) == (0, 0)
    assert [node.log_end("t") for node in (first, second, third)] == [2, 2, 2]
    for node in (first, second, third):
        shows(node, "t", [b"a", b"b"])
    assert second.produce("t", [b"c"])[0] == NOT_LEADER


def test_a_follower_that_comes_back_joins_by_proposal(cluster: Cluster) -> None:
    first, _ = cluster.start(1, 2)
    key = cluster.create("t", 1, (1, 2))
    assert first.produce("t", [b"a"]) == (0, 0)
    cluster.kill(2)
    assert state_of(cluster, key).isr == (1,)
    assert first.produce("t", [b"b"]) == (0, 1)
    (second,) = cluster.start(2)
    wait_until(lambda: state_of(cluster, key).isr == (1, 2), "2 is in sync again")
    assert second.log_end("t") == 2
    assert first.produce("t", [b"c"]) == (0, 2)
    assert second.log_end("t") == 3


def test_a_follower_that_does_not_fetch_leaves_the_isr_and_does_not_hold_up_producers_any_more(
    cluster: Cluster,
) -> None:
    first, second = cluster.start(1, 2)
    key = cluster.create("t", 1, (1, 2))
    assert first.produce("t", [b"a"]) == (0, 0)
    second.manager.resign()
    assert first.produce("t", [b"b"]) == (0, 1), "it waited until 2 was out of sync"
    assert state_of(cluster, key).isr == (1,)
    second.manager.registered(cluster.wiring.registrations[2])
    wait_until(lambda: state_of(cluster, key).isr == (1, 2), "2 is in sync again")


def test_a_tail_that_nobody_had_is_cut_when_its_leader_comes_back(cluster: Cluster) -> None:
    first, second, third = cluster.start(1, 2, 3)
    key = cluster.create("t", 1, (1, 2, 3), min_isr=2)
    assert first.produce("t", [b"kept"]) == (0, 0)
    for follower in (second, third):
        follower.manager.resign()
    wait_until(lambda: nobody_fetches(first), "the last long poll is over")
    assert first.produce("t", [b"lost", b"lost too"], acks=1) == (0, 1)
    cluster.kill(1)
    for follower in (second, third):
        follower.manager.registered(cluster.wiring.registrations[follower.node_id])
    assert state_of(cluster, key).leader == 2
    wait_until(lambda: second.produce("t", [b"new"])[0] == 0, "2 leads")
    (first,) = cluster.start(1)
    wait_until(lambda: 1 in state_of(cluster, key).isr, "1 is in sync again")
    for node in (first, second, third):
        shows(node, "t", [b"kept", b"new"])
    fetching = first.manager.counts().fetching
    assert (fetching.truncations, fetching.below_high_watermark) == (1, 0)


def test_committed_records_that_an_unclean_election_gives_up_are_counted_and_told(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = cluster.start(1, 2)
    key = cluster.create("t", 1, (1, 2), unclean=True)
    assert first.produce("t", [b"kept"]) == (0, 0)
    cluster.kill(2)
    assert first.produce("t", [b"lost", b"lost too"]) == (0, 1)
    first.manager.resign()
    cluster.wiring.unregister(1)
    (second,) = cluster.start(2, clean=False)
    assert cluster.leader(key) is second
    assert second.produce("t", [b"new"]) == (0, 1)
    first.manager.registered(cluster.wiring.register(first))
    wait_until(lambda: set(state_of(cluster, key).isr) == {1, 2}, "1 is in sync again")
    shows(first, "t", [b"kept", b"new"])
    assert first.manager.counts().fetching.below_high_watermark == 1
    (told,) = [it for it in caplog.records if "committed records are cut" in it.getMessage()]
    assert told.levelname == "ERROR"


def test_a_replica_that_is_far_behind_its_leaders_log_start_begins_there(cluster: Cluster) -> None:
    first, _ = cluster.start(1, 2)
    key = cluster.create("t", 1, (1, 2))
    for number in range(10):
        assert first.produce("t", [b"%d" % number]) == (0, number)
    cluster.kill(2)
    cluster.wipe(2)
    first.engine.delete_records("t", 0, 7)
    (second,) = cluster.start(2)
    wait_until(lambda: state_of(cluster, key).isr == (1, 2), "2 is in sync again")
    assert second.place("t") == (10, 0, 10, 7, 10)
    assert second.manager.counts().fetching.restarts == 1


def test_durable_topics_are_followed_without_waiting_for_a_long_poll(cluster: Cluster) -> None:
    first, second = cluster.start(1, 2)
    cluster.create("t", 1, (1, 2), min_isr=2, configs={"fastlog.durability": "fsync"})
    began = time.monotonic()
    for number in range(20):
        assert first.produce("t", [b"%d" % number]) == (0, number)
    # a poll of 500 ms for each would be 10 s
    assert time.monotonic() - began < 5
    assert second.place("t") is not None
    assert second.log_end("t") == 20


def test_many_idle_partitions_cost_two_fetches_a_second(cluster: Cluster) -> None:
    first, second = cluster.start(1, 2)
    cluster.create("t", 300, (1, 2))
    for index in range(300):
        assert first.produce("t", [b"x"], index=index, acks=1) == (0, 0)
    wait_until(lambda: all(second.high_watermark("t", index) == 1 for index in range(300)), "all is followed")
    before = second.manager.counts().fetching.fetches
    time.sleep(2)
    assert 1 <= second.manager.counts().fetching.fetches - before <= 8
    assert first.produce("t", [b"y"], index=299) == (0, 1), "and are followed at once"
