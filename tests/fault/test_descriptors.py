"""More clients than the process has descriptors: those who are connected are served, and logs have what they need."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from fastlog import Producer
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.faults.witness import new_consumer, read_all

DESCRIPTORS = 300
CLIENTS = 400
RECORDS = 100
VALUE_BYTES = 20_000
SECONDS = 30.0


class FewDescriptors(BrokerProcess):
    """A broker that may have so many descriptors, and cannot raise that."""

    def command(self) -> list[str]:
        return ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", *super().command()]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """The broker, which stops cleanly after all."""
    it = FewDescriptors(tmp_path / "data", settings={"max.connections.per.ip": "10000"}).start()
    yield it
    assert it.stop() == 0, it.log()


@pytest.mark.timeout(120)
def test_clients_leave_logs_the_descriptors_they_need(broker: BrokerProcess) -> None:
    # a segment takes fifty records
    topic = create_topic(broker.bootstrap, "rolls", config={"segment.bytes": str(1 << 20)})
    with ExitStack() as clients, Producer(broker.bootstrap) as producer:
        producer.send(topic, b"first").result(SECONDS)
        for port in (broker.tcp_port, broker.zmq_port):
            for _ in range(CLIENTS // 2):
                # one that is refused may find that before it knows that it was connected
                with suppress(OSError):
                    clients.enter_context(socket.create_connection(("127.0.0.1", port)))
        wait_until("one is refused", lambda: "ulimit -n" in broker.log())
        for number in range(RECORDS):
            producer.send(topic, os.urandom(VALUE_BYTES)).result(SECONDS)
            assert len(list(Path(f"/proc/{broker.pid}/fd").iterdir())) < DESCRIPTORS, number
    assert len(list((broker.data_dir / f"{topic}-0").glob("*.log"))) > 1
    assert len(read_all(broker.bootstrap, topic)) == RECORDS + 1


@pytest.mark.timeout(120)
def test_one_consumer_of_more_partitions_than_descriptors_gets_all(broker: BrokerProcess) -> None:
    partitions = DESCRIPTORS + 100
    topic = create_topic(broker.bootstrap, "wide", partitions=partitions)
    with Producer(broker.bootstrap) as producer:
        for partition in range(partitions):
            producer.send(topic, b"%d" % partition, partition=partition)
        producer.flush(SECONDS)
    consumer = new_consumer(broker.bootstrap)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    found: set[bytes] = set()

    def has_all() -> bool:
        found.update(message.value() for message in consumer.consume(1_000, 0.5) if message.error() is None)
        return len(found) == partitions

    wait_until("all came", has_all, seconds=SECONDS)
    consumer.close()
