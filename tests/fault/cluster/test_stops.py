"""Brokers that stop in order, or hang past their session: who waits for what, and what a zombie still answers."""

from __future__ import annotations

import time

import pytest

from fastlog.protocol.codec import decode_response_frame
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from tests.fault.cluster.conftest import watched
from tests.support.batches import NOW_MS, seal
from tests.support.faults.cluster_witness import ClusterWitness
from tests.support.raw import RawTcp

SESSION_SECONDS = 4.0
NOT_LEADER = 6
FENCED_EPOCH = 74
REFUSED = {NOT_LEADER, FENCED_EPOCH}
LATEST = -1

pytestmark = pytest.mark.timeout(120)


def back_in_sync(cluster: Cluster, topic: str) -> None:
    cluster.wait_ready()
    cluster.wait_in_sync(topic, 3)


def produce(topic: str, acks: int, partition: int = 0) -> ProduceRequest:
    data = [PartitionProduceData(index=partition, records=seal([(NOW_MS, None, b"zombie", ())]))]
    return ProduceRequest(None, acks, 5_000, [TopicProduceData(name=topic, partition_data=data)])


def test_a_zombie_acknowledges_nothing_and_tells_nothing_new(
    cluster: Cluster, witness: ClusterWitness
) -> None:
    """What a client sent while it hung is what it sees first when it goes on, before anybody told it what it missed."""
    topic = witness.topic
    with witness:
        leader = cluster.leader_of(topic)
        with (
            RawTcp("127.0.0.1", leader.ports["PLAINTEXT"], seconds=30) as one,
            RawTcp("127.0.0.1", leader.ports["PLAINTEXT"], seconds=30) as all_of_them,
            RawTcp("127.0.0.1", leader.ports["PLAINTEXT"], seconds=30) as reader,
            RawTcp("127.0.0.1", leader.ports["PLAINTEXT"], seconds=30) as ends,
        ):
            hung = time.monotonic()
            leader.pause()
            # its last acknowledgements are on their way still; the next ones come seconds later, from another leader
            counted = -1
            while counted != len(witness.acknowledged):
                counted = len(witness.acknowledged)
                time.sleep(0.3)
            end = max(place[1] for place in witness.acknowledged.values() if place[0] == 0) + 1
            witness.wait_for_more()
            print(f"SIGSTOP of a leader: {witness.gap(hung):.2f} s without an acknowledgement")
            time.sleep(max(0.0, hung + SESSION_SECONDS + 1 - time.monotonic()))
            one.send(produce(topic, acks=1), 9)
            all_of_them.send(produce(topic, acks=-1), 9)
            # beyond all that it can have: what it answers there would be news
            wanted = FetchPartition(partition=0, fetch_offset=end, partition_max_bytes=1 << 20)
            reader.send(FetchRequest(max_bytes=1 << 20, topics=[FetchTopic(topic, partitions=[wanted])]), 11)
            latest = ListOffsetsTopic(topic, [ListOffsetsPartition(0, timestamp=LATEST)])
            ends.send(ListOffsetsRequest(replica_id=-1, topics=[latest]), 5)
            leader.resume()
            produced = [
                decode_response_frame(0, 9, it.receive_frame())[1].responses[0].partition_responses[0]
                for it in (one, all_of_them)
            ]
            fetched = decode_response_frame(1, 11, reader.receive_frame())[1].responses[0].partitions[0]
            listed = decode_response_frame(2, 5, ends.receive_frame())[1].topics[0].partitions[0]
        assert {it.error_code for it in produced} <= REFUSED
        assert fetched.error_code in REFUSED or not fetched.records, fetched
        assert listed.error_code in REFUSED or listed.offset <= end, listed
        back_in_sync(cluster, topic)
    witness.check()


@pytest.mark.parametrize("with_sdk", [False, True], ids=["librdkafka", "fastlog"])
def test_a_leader_hangs_past_its_session(cluster: Cluster, topic_name: str, with_sdk: bool) -> None:
    with watched(cluster, topic_name, with_sdk=with_sdk) as witness:
        leader = cluster.leader_of(topic_name)
        hung = time.monotonic()
        leader.pause()
        witness.wait_for_more()
        assert cluster_leader(cluster, topic_name, leader) is not leader
        leader.resume()
        back_in_sync(cluster, topic_name)
        gap = witness.gap(hung)
        print(f"SIGSTOP of a leader: {gap:.2f} s without an acknowledgement")
    witness.check()


def cluster_leader(cluster: Cluster, topic: str, hung: ClusterBroker) -> ClusterBroker:
    """The leader of partition 0 as one of the others knows it."""
    other = next(it for it in cluster.brokers.values() if it is not hung)
    with cluster.admin(other.broker_id) as admin:
        return cluster[admin.describe_topic(topic).partitions[0].leader]


def test_a_leader_that_hangs_for_a_moment_leads_on(cluster: Cluster, witness: ClusterWitness) -> None:
    with witness:
        leader = cluster.leader_of(witness.topic)
        leader.pause()
        time.sleep(SESSION_SECONDS / 4)
        leader.resume()
        witness.wait_for_more()
        assert cluster.leader_of(witness.topic) is leader
    witness.check()


def test_a_leader_stops_in_order(cluster: Cluster, witness: ClusterWitness) -> None:
    with witness:
        leader = cluster.leader_of(witness.topic)
        told = time.monotonic()
        leader.stop()
        witness.wait_for_more()
        print(f"SIGTERM of a leader: {witness.gap(told):.2f} s without an acknowledgement")
        # it gave away what it led first: nobody waited for a session
        assert witness.gap(told) < SESSION_SECONDS
        leader.restart()
        back_in_sync(cluster, witness.topic)
    witness.check()


def test_what_waits_at_a_leader_that_stops_is_told_to_look_for_another(
    cluster: Cluster, topic_name: str
) -> None:
    """At a time-out a client would ask the same broker again, and find the end of its connection."""
    with cluster.admin() as admin:
        admin.create_topic(topic_name, partitions=3, replication_factor=3)
    cluster.wait_in_sync(topic_name, 3)
    controller = cluster.controller().broker_id
    with cluster.admin() as admin:
        partitions = admin.describe_topic(topic_name).partitions
    place = next(it for it in partitions if it.replicas[-1] == controller)
    leader, hung, _ = place.replicas
    with RawTcp("127.0.0.1", cluster[leader].ports["PLAINTEXT"], seconds=30) as connection:

        def answered() -> int:
            answer = decode_response_frame(0, 9, connection.receive_frame())[1]
            code: int = answer.responses[0].partition_responses[0].error_code
            return code

        def is_taken() -> bool:
            connection.send(produce(topic_name, acks=1, partition=place.partition), 9)
            return answered() == 0

        # a new topic's replicas are in sync from the start: the leader may not have heard of it yet
        cluster.wait_until("the leader takes records", is_taken)
        cluster[hung].pause()
        connection.send(produce(topic_name, acks=-1, partition=place.partition), 9)
        cluster[leader].begin_stop()
        assert answered() == NOT_LEADER
    cluster[hung].resume()
    cluster[leader].stop()


@pytest.mark.parametrize("with_sdk", [False, True], ids=["librdkafka", "fastlog"])
def test_all_are_restarted_one_after_the_other(cluster: Cluster, topic_name: str, with_sdk: bool) -> None:
    with watched(cluster, topic_name, with_sdk=with_sdk) as witness:
        for broker in cluster.brokers.values():
            broker.stop()
            witness.wait_for_more()
            broker.restart()
            back_in_sync(cluster, topic_name)
        print(f"rolling restart: {witness.gap():.2f} s without an acknowledgement at most")
        assert witness.gap() < SESSION_SECONDS
    witness.check()
