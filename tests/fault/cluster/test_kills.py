"""Brokers that die without a farewell while records are produced: it goes on at once, and nothing is lost."""

from __future__ import annotations

import time

import pytest

from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from tests.fault.cluster.conftest import watched
from tests.support.faults.cluster_witness import ClusterWitness

# a session: what no death of a single process may cost, since its ports refuse at once
SESSION_SECONDS = 4.0
RESTART_SECONDS = 0.2

pytestmark = pytest.mark.timeout(120)


def back_in_sync(cluster: Cluster, topic: str) -> None:
    cluster.wait_ready()
    cluster.wait_in_sync(topic, 3)


def die_and_return(cluster: Cluster, witness: ClusterWitness, broker: ClusterBroker, what: str) -> None:
    """A broker is killed, comes back when the others went on, and is in sync again."""
    killed = time.monotonic()
    broker.kill()
    witness.wait_for_more()
    print(f"kill -9 of {what}: {witness.gap(killed):.2f} s without an acknowledgement")
    broker.restart()
    back_in_sync(cluster, witness.topic)


@pytest.mark.parametrize("with_sdk", [False, True], ids=["librdkafka", "fastlog"])
def test_a_leader(cluster: Cluster, topic_name: str, with_sdk: bool) -> None:
    with watched(cluster, topic_name, with_sdk=with_sdk) as witness:
        for partition in range(2):
            leader = cluster.leader_of(topic_name, partition)
            die_and_return(cluster, witness, leader, "a leader")
        assert witness.gap() < SESSION_SECONDS
    witness.check()


def test_a_follower(cluster: Cluster, witness: ClusterWitness) -> None:
    with witness:
        follower = next(it for it in cluster.brokers.values() if it is not cluster.leader_of(witness.topic))
        die_and_return(cluster, witness, follower, "a follower")
        assert witness.gap() < SESSION_SECONDS
    witness.check()


def test_the_controller(cluster: Cluster, witness: ClusterWitness) -> None:
    with witness:
        controller = cluster.controller()
        killed = time.monotonic()
        controller.kill()
        witness.wait_for_more()
        cluster.wait_until("another one controls", lambda: cluster.controller() is not controller)
        with cluster.admin() as admin:
            # what the one that died may have begun is the other's to end
            admin.create_topic(f"{witness.topic}-more", partitions=3, replication_factor=2)
        print(f"kill -9 of the controller: topics can be made after {time.monotonic() - killed:.2f} s")
        controller.restart()
        back_in_sync(cluster, witness.topic)
    witness.check()


def test_a_leader_and_the_controller(cluster: Cluster, witness: ClusterWitness) -> None:
    with witness:
        controller = cluster.controller()
        leaders = [cluster.leader_of(witness.topic, it) for it in range(2)]
        leader = next(it for it in leaders if it is not controller)
        killed = time.monotonic()
        leader.kill()
        controller.kill()
        # the third alone is fewer than min.insync.replicas: nothing is acknowledged before one of them is back
        leader.restart()
        witness.wait_for_more()
        print(f"kill -9 of leader and controller: {witness.gap(killed):.2f} s without an acknowledgement")
        controller.restart()
        back_in_sync(cluster, witness.topic)
    witness.check()


def test_a_leader_that_controls(cluster: Cluster, witness: ClusterWitness) -> None:
    with witness:
        # three partitions, three leaders: the controller is one of them
        die_and_return(cluster, witness, cluster.controller(), "a leader that is the controller too")
        assert witness.gap() < SESSION_SECONDS
    witness.check()


def test_a_restart_within_200_ms(cluster: Cluster, witness: ClusterWitness) -> None:
    with witness:
        for _ in range(2):
            leader = cluster.leader_of(witness.topic)
            killed = time.monotonic()
            leader.kill()
            time.sleep(RESTART_SECONDS / 2)
            leader.restart()
            witness.wait_for_more()
            print(f"kill -9 and start at once: {witness.gap(killed):.2f} s without an acknowledgement")
            back_in_sync(cluster, witness.topic)
        assert witness.gap() < SESSION_SECONDS
    witness.check()


def test_all_at_once(cluster: Cluster, witness: ClusterWitness) -> None:
    with witness:
        for broker in cluster.brokers.values():
            broker.kill()
        for broker in cluster.brokers.values():
            broker.start()
        for broker in cluster.brokers.values():
            broker.wait()
        back_in_sync(cluster, witness.topic)
        witness.wait_for_more()
    # the processes died, the machine did not: every replica has all that it had
    witness.check()
