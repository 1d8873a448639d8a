"""A consumer that finds a wrong checksum cannot say so: it fetches again, and by that the broker comes upon it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer as ConfluentConsumer
from confluent_kafka import TopicPartition

from fastlog import Consumer, Producer
from fastlog.errors import CorruptMessageError
from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from tests.fault.cluster.test_scrub import UNSCRUBBED, wait_mended

pytestmark = pytest.mark.timeout(180)

RECORDS = 300
DAMAGED = 100
SECONDS = 30.0
VALUE = b"%06d " + b"." * 1100
#: one batch a record
BATCH_BYTES = 1024


@pytest.fixture
def settings() -> dict[str, str]:
    return UNSCRUBBED


def read_ours(bootstrap: str, topic: str) -> tuple[list[bytes | None], int]:
    """What our consumer gives, which goes on after errors, and how many there were."""
    values: list[bytes | None] = []
    errors = 0
    deadline = time.monotonic() + SECONDS
    with Consumer(bootstrap) as consumer:
        consumer.assign([(topic, 0)])
        consumer.seek_to_beginning()
        while len(values) < RECORDS and time.monotonic() < deadline:
            try:
                values += [record.value for record in consumer.poll(timeout=1.0)]
            except CorruptMessageError:
                errors += 1
    return values, errors


def read_theirs(bootstrap: str, topic: str) -> tuple[list[bytes | None], int]:
    """The same of librdkafka, which checks checksums when it is told to.

    It takes what lies behind a wrong one for the next offset, so its application has to go back to where it was.
    """
    config = {"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False}
    consumer = ConfluentConsumer({**config, "check.crcs": True, "auto.offset.reset": "error"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes | None] = []
    errors = 0
    deadline = time.monotonic() + SECONDS
    while len(values) < RECORDS and time.monotonic() < deadline:
        messages = consumer.consume(500, 0.5)
        values += [message.value() for message in messages if message.error() is None]
        if any(message.error() is not None for message in messages):
            errors += 1
            consumer.assign([TopicPartition(topic, 0, len(values))])
    consumer.close()
    return values, errors


def flip(leader: ClusterBroker, topic: str) -> None:
    """A bit of the damaged batch's records; the running broker shares the page cache."""
    path = leader.data_dir / f"{topic}-0" / f"{0:020d}.log"
    size = path.stat().st_size
    assert size % RECORDS == 0, "batches differ in size"
    change(path, size // RECORDS * DAMAGED + 150)


def change(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))


@pytest.mark.parametrize("read", [read_ours, read_theirs], ids=["fastlog", "librdkafka"])
def test_a_consumer_that_fetches_again_has_the_leaders_bytes_mended(
    cluster: Cluster, topic_name: str, read: Callable[[str, str], tuple[list[bytes | None], int]]
) -> None:
    with cluster.admin() as admin:
        admin.create_topic(topic_name, partitions=1, replication_factor=3)
    with Producer(cluster.bootstrap, batch_bytes=BATCH_BYTES) as producer:
        sent = [producer.send(topic_name, VALUE % number, partition=0) for number in range(RECORDS)]
        assert [one.result(SECONDS).offset for one in sent] == list(range(RECORDS))
    cluster.wait_in_sync(topic_name, 3)
    leader = cluster.leader_of(topic_name)
    flip(leader, topic_name)

    values, errors = read(cluster.bootstrap, topic_name)
    assert values == [VALUE % number for number in range(RECORDS)]
    assert errors > 0
    wait_mended(cluster, leader, DAMAGED)
    assert "a client fetched records again and again, and they are bad" in leader.log()
    assert cluster.leader_of(topic_name) is leader
