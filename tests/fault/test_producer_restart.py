"""Our producer while its broker is killed (kill -9) and started again on the same ports, or paused for a while.

Every record that was handed over is in the log once, in the order of its key, and where its delivery says.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict

import pytest

from fastlog import Admin, Delivery, Producer
from tests.conftest import MakeBroker
from tests.support.broker import wait_until
from tests.support.clients import confluent

PARTITIONS = 3
KEYS = 20
KILLS = 4


class Load:
    """Threads that send numbered records, by key, until they are told to stop."""

    def __init__(self, producer: Producer, topic: str, threads: int = 2) -> None:
        self.deliveries: dict[bytes, list[Delivery]] = defaultdict(list)
        self._producer = producer
        self._topic = topic
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, worker: int) -> None:
        number = 0
        while not self._stop.is_set():
            key = b"%d-%d" % (worker, number % KEYS)
            mine = self.deliveries[key]
            mine.append(self._producer.send(self._topic, b"%d" % len(mine), key=key))
            number += 1
            if number % 200 == 0:
                time.sleep(0.005)

    def acknowledged(self) -> int:
        """How many deliveries ended well so far."""
        return sum(
            delivery.done() and delivery.exception() is None
            for mine in list(self.deliveries.values())
            for delivery in list(mine)
        )

    def stop(self) -> None:
        """Ends the threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("compression", [None, "lz4"])
def test_killed_and_restarted_broker_has_every_record_once_in_order(
    make_broker: MakeBroker, topic_name: str, compression: str | None
) -> None:
    broker = make_broker()
    with Admin(broker.bootstrap) as admin:
        admin.create_topic(topic_name, partitions=PARTITIONS)
        with Producer(
            broker.bootstrap, compression=compression, batch_bytes=8192, retry_backoff_ms=20, linger_ms=2
        ) as producer:
            load = Load(producer, topic_name)
            for _ in range(KILLS):
                goal = load.acknowledged() + 3000
                wait_until(
                    "records are acknowledged", lambda goal=goal: load.acknowledged() >= goal, seconds=40
                )
                broker.kill()
                time.sleep(0.1)
                broker.start()
            load.stop()
            producer.flush(60)
        ends = admin.list_offsets({(topic_name, number): "latest" for number in range(PARTITIONS)})
    check_once_and_in_order(
        broker.bootstrap, topic_name, load, {p: end.offset for (_, p), end in ends.items()}
    )


@pytest.mark.timeout(120)
def test_send_many_over_a_killed_broker_has_every_record_once_where_its_delivery_says(
    make_broker: MakeBroker, topic_name: str
) -> None:
    broker = make_broker()
    calls = 40
    sent = [[b"%d-%d" % (call, number) for number in range(2000)] for call in range(calls)]
    with Admin(broker.bootstrap) as admin:
        admin.create_topic(topic_name, partitions=1)
        with Producer(broker.bootstrap, batch_bytes=8192, retry_backoff_ms=20, linger_ms=2) as producer:
            deliveries = []
            for call, values in enumerate(sent):
                deliveries.append(producer.send_many(topic_name, values, values))
                if call % 10 == 5:
                    broker.kill()
                    time.sleep(0.1)
                    broker.start()
            found = [delivery.result(60).offsets[0] for delivery in deliveries]
    assert [offset for ranges in found for one in ranges for offset in one] == list(range(calls * 2000))
    read = confluent.consume(broker.bootstrap, topic_name, calls * 2000)
    assert [one.value for one in read] == [value for values in sent for value in values]


@pytest.mark.timeout(120)
def test_paused_broker_that_reads_old_requests_late_has_every_record_once_in_order(
    make_broker: MakeBroker, topic_name: str
) -> None:
    broker = make_broker()
    with Admin(broker.bootstrap) as admin:
        admin.create_topic(topic_name, partitions=PARTITIONS)
        with Producer(
            broker.bootstrap,
            batch_bytes=8192,
            linger_ms=2,
            retry_backoff_ms=20,
            request_timeout_ms=300,
            connect_timeout_ms=300,
        ) as producer:
            load = Load(producer, topic_name)
            for _ in range(KILLS):
                goal = load.acknowledged() + 2000
                wait_until(
                    "records are acknowledged", lambda goal=goal: load.acknowledged() >= goal, seconds=40
                )
                # long enough for requests to time out here while the broker's sockets still hold them
                os.kill(broker.pid, signal.SIGSTOP)
                time.sleep(0.8)
                os.kill(broker.pid, signal.SIGCONT)
            load.stop()
            producer.flush(60)
        ends = admin.list_offsets({(topic_name, number): "latest" for number in range(PARTITIONS)})
    check_once_and_in_order(
        broker.bootstrap, topic_name, load, {p: end.offset for (_, p), end in ends.items()}
    )


def check_once_and_in_order(bootstrap: str, topic: str, load: Load, ends: dict[int, int]) -> None:
    """Reads everything back with another client and compares it with what the deliveries say."""
    written: dict[bytes, list[bytes]] = defaultdict(list)
    places: dict[tuple[int, int], tuple[bytes, bytes]] = {}
    for partition, end in ends.items():
        for offset, sample in enumerate(confluent.consume(bootstrap, topic, end, partition=partition)):
            assert sample.key is not None
            assert sample.value is not None
            written[sample.key].append(sample.value)
            places[partition, offset] = (sample.key, sample.value)
    assert written.keys() == load.deliveries.keys()
    for key, mine in load.deliveries.items():
        assert [delivery.exception() for delivery in mine if delivery.exception()] == []
        assert written[key] == [b"%d" % number for number in range(len(mine))]
        for number, delivery in enumerate(mine):
            metadata = delivery.result()
            assert places[metadata.partition, metadata.offset] == (key, b"%d" % number)
