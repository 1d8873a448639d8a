"""Leaders change, registrations end, topics go, replicas move; notices get lost."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from fastlog.state.controller import events as ev
from tests.support.replica_wiring import wait_until

if TYPE_CHECKING:
    from tests.support.replicas import Cluster

NOT_LEADER = 6


def test_who_resigned_leads_nothing_until_it_is_registered_and_elected_anew(cluster: Cluster) -> None:
    first, _ = cluster.start(1, 2)
    key = cluster.create("t", 1, (1, 2))
    assert first.produce("t", [b"a"]) == (0, 0)
    cluster.wiring.deaf.add(1)
    first.manager.resign()
    assert first.produce("t", [b"b"])[0] == NOT_LEADER
    # its states still name its former registration
    registration = cluster.wiring.register(first)
    first.manager.registered(registration)
    assert first.produce("t", [b"b"])[0] == NOT_LEADER
    cluster.wiring.deaf.clear()
    leader = cluster.leader(key)
    assert leader.produce("t", [b"c"]) == (0, 1)
    wait_until(lambda: cluster.wiring.state(key).isr_epochs.count(registration.broker_epoch) == 1, "1 is in")
    assert cluster.wiring.state(key).leader_epoch > 0


def test_a_broker_that_was_named_before_it_knew_its_epoch_leads_when_it_does(cluster: Cluster) -> None:
    first, _ = cluster.start(1, 2)
    first.manager.resign()
    registration = cluster.wiring.register(first)
    key = cluster.create("t", 1, (1, 2))
    assert first.produce("t", [b"a"])[0] != 0
    first.manager.registered(registration)
    wait_until(lambda: first.produce("t", [b"a"])[0] == 0, "1 leads")
    assert cluster.wiring.state(key).leader == 1


def test_what_a_broker_did_not_hear_it_learns_from_a_snapshot(cluster: Cluster) -> None:
    first, second, third = cluster.start(1, 2, 3)
    key = cluster.create("t", 1, (1, 2, 3))
    assert first.produce("t", [b"a"]) == (0, 0)
    snapshots = third.manager.counts().snapshots
    cluster.wiring.deaf.add(3)
    cluster.kill(1)
    wait_until(lambda: second.produce("t", [b"b"])[0] == 0, "3 follows, or has left the in-sync replicas")
    wait_until(lambda: set(cluster.wiring.state(key).isr) == {2, 3}, "3 follows the new leader")
    assert third.manager.counts().snapshots > snapshots
    assert third.log_end("t") == 2


def test_another_controller_goes_on_where_the_last_one_ended(cluster: Cluster) -> None:
    first, second = cluster.start(1, 2)
    key = cluster.create("t", 1, (1, 2))
    cluster.wiring.elect(2)
    wait_until(lambda: first.manager.image.controller_id == 2, "1 knows the controller")
    cluster.kill(1)
    wait_until(lambda: second.produce("t", [b"a"])[0] == 0, "2 leads")
    (first,) = cluster.start(1)
    wait_until(lambda: set(cluster.wiring.state(key).isr) == {1, 2}, "1 is proposed to the new controller")


def test_a_deleted_topic_is_gone_everywhere_and_its_name_is_free(cluster: Cluster) -> None:
    nodes = cluster.start(1, 2, 3)
    key = cluster.create("t", 3, (1, 2, 3))
    assert nodes[0].produce("t", [b"old"]) == (0, 0)
    cluster.wiring.ask(ev.DeleteAsked(token=None, topic_id=key.topic_id))
    again = cluster.create("t", 3, (2, 3, 1))
    assert again.topic_id != key.topic_id
    wait_until(lambda: nodes[1].produce("t", [b"new"])[0] == 0, "the new topic is led")
    for node in nodes:
        wait_until(lambda it=node: it.consume("t")[2] == [b"new"], "the new topic is followed")  # type: ignore[misc]
        left = [it.name for it in cluster.directory.joinpath(str(node.node_id)).iterdir() if it.is_dir()]
        assert len([it for it in left if it in ("t-0", "t-1", "t-2")]) == 3
        assert len([it for it in left if it.endswith("-delete")]) == 3


def test_a_reassigned_partition_leaves_its_old_broker(cluster: Cluster) -> None:
    first, second, third = cluster.start(1, 2, 3)
    key = cluster.create("t", 1, (1, 2))
    assert first.produce("t", [b"a"]) == (0, 0)
    cluster.wiring.ask(ev.ReassignAsked(token=None, targets=((key, (2, 3)),)))
    wait_until(lambda: cluster.wiring.state(key).replicas == (2, 3), "it has moved")
    wait_until(lambda: second.produce("t", [b"b"]) == (0, 1), "2 leads")
    wait_until(lambda: first.place("t") is None, "1 has put its replica away")
    assert third.log_end("t") == 2


def test_the_only_replica_comes_back_after_a_kill_by_its_log_end(cluster: Cluster) -> None:
    cluster.start(1, 2)
    key = cluster.create("t", 1, (2,))
    assert cluster.nodes[2].produce("t", [b"a"]) == (0, 0)
    cluster.kill(2)
    assert cluster.wiring.state(key).leader == -1
    (second,) = cluster.start(2, clean=False)
    wait_until(lambda: second.produce("t", [b"b"]) == (0, 1), "2 leads again")
    wait_until(lambda: not cluster.wiring.state(key).recovering, "it has said that it recovered")
    assert second.accepted[-1][0] == cluster.wiring.registrations[2].broker_epoch


def test_nothing_acknowledged_is_lost_while_leaders_die_one_after_another(cluster: Cluster) -> None:
    cluster.start(1, 2, 3)
    key = cluster.create("t", 1, (1, 2, 3), min_isr=2)
    draw = random.Random(1)
    acknowledged: list[bytes] = []
    number = 0
    for _ in range(6):
        for _ in range(20):
            number += 1
            value = b"%d" % number
            if cluster.leader(key).produce("t", [value], timeout_ms=3_000)[0] == 0:
                acknowledged.append(value)
        leader = cluster.wiring.state(key).leader
        dies = leader if draw.random() < 0.7 else draw.choice([1, 2, 3])
        cluster.kill(dies)
        # what nobody else may have: it is cut when this broker comes back
        cluster.leader(key).produce("t", [b"perhaps"], acks=1)
        cluster.start(dies, clean=False)
        wait_until(lambda: len(cluster.wiring.state(key).isr) == 3, "all are in sync again")
    leader_node = cluster.leader(key)
    wait_until(lambda: leader_node.high_watermark("t") == leader_node.log_end("t"), "all is committed")
    _, high_watermark, values = leader_node.consume("t")
    kept = [it for it in values if it in set(acknowledged)]
    assert kept == acknowledged
    for node in cluster.nodes.values():
        wait_until(lambda it=node: it.consume("t")[1:] == (high_watermark, values), "all have the same")  # type: ignore[misc]
        assert node.manager.counts().fetching.below_high_watermark == 0
    assert len(acknowledged) >= 100
