"""ZooKeeper is stopped under load and started again: what goes on, what stops in time, and that it all resumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from fastlog import Admin
from fastlog.errors import TopicAlreadyExistsError
from fastlog.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from fastlog.testing import Cluster
from tests.fault.cluster.conftest import SETTINGS
from tests.support.batches import NOW_MS, seal
from tests.support.cluster_load import read_all
from tests.support.faults.cluster_witness import PARTITIONS, ClusterWitness
from tests.support.faults.told_topics import ToldTopic
from tests.support.raw import RawTcp

SESSION_SECONDS = 4.0
LEASE_SECONDS = SESSION_SECONDS * 2 / 3
NOT_LEADER = 6
REQUEST_TIMED_OUT = 7
NOT_CONTROLLER = 41
EVERY_SECONDS = 0.05

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """With a ZooKeeper of its own."""
    with Cluster(3, settings=SETTINGS) as started:
        yield started


def stop_zookeeper(cluster: Cluster) -> float:
    """Ends it; the moment before."""
    assert cluster.zookeeper is not None
    now = time.monotonic()
    cluster.zookeeper.kill()
    return now


def start_zookeeper(cluster: Cluster) -> None:
    assert cluster.zookeeper is not None
    cluster.zookeeper.restart()


def produce(topic: str, acks: int, value: bytes = b"one") -> ProduceRequest:
    data = [PartitionProduceData(index=0, records=seal([(NOW_MS, None, value, ())]))]
    return ProduceRequest(None, acks, 5_000, [TopicProduceData(name=topic, partition_data=data)])


def told(connection: RawTcp, topic: str, acks: int) -> int:
    """The error code of one record for partition 0."""
    answer = connection.ask(produce(topic, acks), 9)
    return int(answer.responses[0].partition_responses[0].error_code)


def acks_1(connection: RawTcp, topic: str) -> int:
    """The error code of one record that the leader of partition 0 alone is to acknowledge."""
    return told(connection, topic, 1)


def last_success(ask: Callable[[], int], until: float) -> tuple[float, int]:
    """When the last answer without an error came, and the first error after it."""
    last, code = time.monotonic(), 0
    while time.monotonic() < until:
        told = ask()
        if told == 0:
            last, code = time.monotonic(), 0
        else:
            code = code or told
        time.sleep(EVERY_SECONDS)
    return last, code


def test_acks_all_goes_on(cluster: Cluster, witness: ClusterWitness) -> None:
    with witness, ToldTopic(cluster, witness.topic) as told:
        stopped = stop_zookeeper(cluster)
        # past every lease and every session
        time.sleep(SESSION_SECONDS + 2)
        witness.wait_for_more()
        print(f"ZooKeeper stopped: {witness.gap(stopped):.2f} s without an acknowledgement")
        assert witness.gap(stopped) < LEASE_SECONDS
        start_zookeeper(cluster)
        cluster.wait_ready()
        witness.wait_for_more()
    # a topic that is known stays known, whatever is read anew
    assert (told.codes, told.partitions) == ({0}, {PARTITIONS})
    witness.check()


def test_what_the_lease_gates_stops_before_a_session_can_be_over(cluster: Cluster, topic_name: str) -> None:
    with cluster.admin() as admin:
        admin.create_topic(topic_name, partitions=1, replication_factor=3)
    leader = cluster.leader_of(topic_name)
    with RawTcp("127.0.0.1", leader.ports["PLAINTEXT"]) as connection:
        assert acks_1(connection, topic_name) == 0
        stopped = stop_zookeeper(cluster)
        last, code = last_success(lambda: acks_1(connection, topic_name), stopped + SESSION_SECONDS + 1)
        print(f"ZooKeeper stopped: the last acks=1 was acknowledged {last - stopped:.2f} s later")
        assert last - stopped < SESSION_SECONDS, "another leader may be there by then"
        assert code == NOT_LEADER
        wanted = CreatableTopic(f"{topic_name}-more", 1, 3)
        answer = connection.ask(CreateTopicsRequest(topics=[wanted], timeout_ms=2_000), 7).topics[0]
        print(f"CreateTopics says {answer.error_code}: {answer.error_message}")
        assert answer.error_code in {REQUEST_TIMED_OUT, NOT_CONTROLLER}
        assert "ZooKeeper at" in answer.error_message
        assert answer.error_message
        start_zookeeper(cluster)
        cluster.wait_ready()
        cluster.wait_until(
            "records are acknowledged by one again", lambda: resumed(cluster, topic_name), SESSION_SECONDS * 3
        )


def test_a_leader_alone_in_its_isr_takes_nothing_past_its_lease(cluster: Cluster, topic_name: str) -> None:
    """With nobody to ask, all the ISR is it: acks=all says no more than acks=1. Of acks=0 nothing is said, or kept."""
    with cluster.admin() as admin:
        admin.create_topic(topic_name, configs={"min.insync.replicas": "1"})
    leader = cluster.leader_of(topic_name)
    port = leader.ports["PLAINTEXT"]
    with RawTcp("127.0.0.1", port) as connection:
        assert told(connection, topic_name, -1) == 0
        stopped = stop_zookeeper(cluster)
        until = stopped + SESSION_SECONDS + 1
        last, code = last_success(lambda: told(connection, topic_name, -1), until)
        assert last - stopped < SESSION_SECONDS
        assert code == NOT_LEADER
    with RawTcp("127.0.0.1", port) as silent:
        silent.send(produce(topic_name, acks=0, value=b"late"), 9)
        # Kafka ends the connection, which is all that it can say
        assert silent.socket.recv(1) == b""
    start_zookeeper(cluster)
    cluster.wait_ready()
    cluster.wait_until("it goes on", lambda: resumed(cluster, topic_name), SESSION_SECONDS * 3)
    assert b"late" not in read_all(cluster.bootstrap, topic_name, 1).values()


def resumed(cluster: Cluster, topic: str) -> bool:
    leader = cluster.leader_of(topic)
    with RawTcp("127.0.0.1", leader.ports["PLAINTEXT"]) as connection:
        return acks_1(connection, topic) == 0


def makes_a_topic(admin: Admin) -> bool:
    with suppress(TopicAlreadyExistsError):
        # an attempt before, of which nobody heard in time what came of it
        admin.create_topic("more", replication_factor=3)
    return True


def test_all_resumes_by_itself(cluster: Cluster, witness: ClusterWitness) -> None:
    with witness:
        stop_zookeeper(cluster)
        time.sleep(SESSION_SECONDS + 2)
        start_zookeeper(cluster)
        cluster.wait_ready()
        with cluster.admin() as admin:
            cluster.wait_until("topics can be made", lambda: makes_a_topic(admin))
        cluster.wait_in_sync(witness.topic, 3)
        # who leads can be replaced again
        leader = cluster.leader_of(witness.topic)
        leader.kill()
        witness.wait_for_more()
        leader.restart()
        cluster.wait_in_sync(witness.topic, 3)
    witness.check()
