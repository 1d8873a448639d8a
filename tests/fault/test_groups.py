"""kill -9 of a broker with groups live: all is found as it was, and nobody has to begin anew."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from fastlog.client.connection import Connection
from fastlog.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tests.conftest import MakeBroker
from tests.fault.conftest import BrokerOn, MakeDisk
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.clients.members import LIBRARIES, Member

PARTITIONS = 6
SETTLE_SECONDS = 60.0


@pytest.fixture
def members() -> Iterator[list[Member]]:
    made: list[Member] = []
    yield made
    for each in made:
        if each.process.poll() is None:
            each.kill()


def described(broker: BrokerProcess, group_id: str) -> tuple[str, list[tuple[str, tuple[int, ...]]]]:
    """State, and each member's id with its partitions."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    found = admin.describe_consumer_groups([group_id])[group_id].result()
    rows = [
        (it.member_id, tuple(sorted(partition.partition for partition in it.assignment.topic_partitions)))
        for it in found.members
    ]
    return found.state.name, sorted(rows)


def committed(broker: BrokerProcess, group_id: str) -> dict[int, int]:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    asked = [ConsumerGroupTopicPartitions(group_id)]
    answer = admin.list_consumer_group_offsets(asked)[group_id].result()
    return {it.partition: it.offset for it in answer.topic_partitions}


@pytest.mark.timeout(180)
def test_a_group_goes_on_where_a_kill_found_it(make_broker: MakeBroker, members: list[Member]) -> None:
    broker = make_broker(settings={"group.initial.rebalance.delay.ms": "200"})
    create_topic(broker.bootstrap, "t", PARTITIONS)
    numbers = itertools.count()

    def send(count: int) -> set[str]:
        values = [str(next(numbers)) for _ in range(count)]
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        for value in values:
            producer.produce("t", value.encode(), partition=int(value) % PARTITIONS)
        assert producer.flush(30) == 0
        return set(values)

    def have_read(values: set[str]) -> bool:
        return values <= {value for each in members for _, _, value in each.records}

    members += [
        Member(library, broker.bootstrap, "g", "t", f"i{number}") for number, library in enumerate(LIBRARIES)
    ]
    wait_until(
        "each has its share",
        lambda: (
            sorted(it for each in members for it in each.assigned) == list(range(PARTITIONS))
            and all(each.assigned for each in members)
        ),
        seconds=SETTLE_SECONDS,
    )
    for _ in range(3):
        sent = send(60)
        wait_until("all is read", lambda sent=sent: have_read(sent), seconds=SETTLE_SECONDS)
        ends = {partition: offset for partition, offset in committed(broker, "g").items() if offset}
        before = described(broker, "g")
        assert before[0] == "STABLE"
        told = [each.assignments for each in members]
        broker.kill()
        broker.start()
        assert described(broker, "g") == before
        after = committed(broker, "g")
        assert all(after[partition] >= offset for partition, offset in ends.items())
        sent = send(30)
        wait_until("it goes on", lambda sent=sent: have_read(sent), seconds=SETTLE_SECONDS)
        assert [each.assignments for each in members] == told
    for each in members:
        assert each.leave() == 0
    read = [record for each in members for record in each.records]
    assert {value for _, _, value in read} == {str(number) for number in range(next(numbers))}


def test_an_acknowledged_commit_survives_every_kill(make_broker: MakeBroker) -> None:
    broker = make_broker()
    create_topic(broker.bootstrap, "t", 1)
    acknowledged = dict.fromkeys((f"g{number}" for number in range(8)), -1)
    consumers = {
        group_id: Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group_id})
        for group_id in acknowledged
    }
    for offset in range(40):
        for group_id, consumer in consumers.items():
            try:
                (answer,) = consumer.commit(offsets=[TopicPartition("t", 0, offset)], asynchronous=False)
            except KafkaException:
                continue
            if answer.error is None:
                acknowledged[group_id] = offset
        if offset % 10 == 9:
            broker.kill()
            broker.start()
            assert {group_id: committed(broker, group_id)[0] for group_id in acknowledged} == acknowledged
    for consumer in consumers.values():
        consumer.close()
    assert min(acknowledged.values()) >= 30


def commit(broker: BrokerProcess, offset: int) -> int:
    """One commit without retries; its error code."""
    row = OffsetCommitRequestPartition(0, offset, committed_metadata="." * 4000)
    request = OffsetCommitRequest(group_id="g", topics=[OffsetCommitRequestTopic("t", partitions=[row])])
    with Connection("127.0.0.1", broker.tcp_port, client_id="test") as connection:
        answer = connection.request(request, version=8)
    code: int = answer.topics[0].partitions[0].error_code
    return code


def test_on_a_full_disk_commits_are_refused_and_resume_by_themselves(
    make_disk: MakeDisk, broker_on: BrokerOn
) -> None:
    disk = make_disk(mebibytes=24)
    broker = broker_on(disk)
    create_topic(broker.bootstrap, "t", 1)
    committed(broker, "g")  # which makes the topic of groups
    wait_until("groups are served", lambda: commit(broker, 0) == 0)
    offset = 0
    with disk.filled():
        while (code := commit(broker, offset + 1)) == 0:
            offset += 1
            assert offset < 2_000, "commits found room on a full disk"
        # clients look for a coordinator again, and try again
        assert code == 16
        assert committed(broker, "g") == {0: offset}
    wait_until("commits resume", lambda: commit(broker, offset + 1) == 0)
    assert committed(broker, "g") == {0: offset + 1}
    broker.kill()
    broker.start()
    assert committed(broker, "g") == {0: offset + 1}
