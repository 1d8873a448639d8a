"""Records that go on being produced while brokers of a cluster come and go, and what became of each."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

if TYPE_CHECKING:
    from fastlog.testing import Cluster

INTERVAL_SECONDS = 0.002
FLUSH_SECONDS = 60.0
READ_SECONDS = 60.0
ASK_SECONDS = 2.0


class Load:
    """One idempotent producer with acks=all, in a thread, from the beginning of a `with` block to its end."""

    def __init__(self, cluster: Cluster, topic: str, partitions: int = 1, *, digits: int = 1) -> None:
        """`digits`: how long values are at least."""
        self._digits = digits
        self._cluster = cluster
        self._topic = topic
        self._partitions = partitions
        self._producer = Producer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 1,
                # a broker that is paused answers nothing
                "socket.timeout.ms": 5_000,
                "delivery.timeout.ms": 60_000,
                "log_level": 0,
            }
        )
        self.acknowledged: dict[bytes, tuple[int, int]] = {}
        """Partition and offset by value."""
        self.failed: list[Any] = []
        self.moments: list[float] = []
        """When each acknowledgement came, by time.monotonic()."""
        self._count = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        self.wait_for_more()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        left = self._producer.flush(FLUSH_SECONDS)
        assert not left, f"{left} records are neither acknowledged nor refused after {FLUSH_SECONDS} s"

    def _run(self) -> None:
        while not self._is_over.wait(INTERVAL_SECONDS):
            value = b"%0*d" % (self._digits, self._count)
            self._producer.produce(
                self._topic, value, partition=self._count % self._partitions, on_delivery=self._told
            )
            self._count += 1
            self._producer.poll(0)

    def _told(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failed.append(error)
            return
        self.moments.append(time.monotonic())
        self.acknowledged[message.value()] = (message.partition(), message.offset())

    def wait_for_more(self, count: int = 50, seconds: float = 60.0) -> None:
        """Returns when so many more records are acknowledged that were sent from now on."""
        sent = self._count
        self._cluster.wait_until(
            f"{count} more records are acknowledged",
            lambda: sum(int(it) >= sent for it in list(self.acknowledged)) >= count,
            seconds,
        )

    def longest_gap(self) -> float:
        """Seconds between two acknowledgements, at most."""
        return max(later - earlier for earlier, later in zip(self.moments, self.moments[1:], strict=False))

    def check(self) -> None:
        """Nothing was refused; all acknowledged records are there, once, where they should be; and in order."""
        assert self.failed == []
        found = read_all(self._cluster.bootstrap, self._topic, self._partitions)
        places = {value: place for place, value in found.items()}
        assert len(places) == len(found), "a record is there twice"
        lost = {value: place for value, place in self.acknowledged.items() if places.get(value) != place}
        assert lost == {}
        for partition in range(self._partitions):
            values = [int(value) for (of, _), value in sorted(found.items()) if of == partition]
            assert values == sorted(values)


def read_all(bootstrap: str, topic: str, partitions: int, first: int = 0) -> dict[tuple[int, int], bytes]:
    """Every record from offset `first` on by partition and offset, up to the ends as they are now."""
    # no commit as it closes: there is no coordinator while fewer brokers live than the offsets have replicas
    options = {"group.id": "reader", "enable.auto.commit": False, "log_level": 0}
    consumer = Consumer({"bootstrap.servers": bootstrap, **options})
    found: dict[tuple[int, int], bytes] = {}
    try:
        ends = {
            partition: _end(consumer, TopicPartition(topic, partition)) for partition in range(partitions)
        }
        consumer.assign([TopicPartition(topic, partition, first) for partition in range(partitions)])
        reached = dict.fromkeys(range(partitions), 0)
        deadline = time.monotonic() + READ_SECONDS
        while any(reached[it] < ends[it] for it in ends):
            assert time.monotonic() < deadline, f"read up to {reached}, the ends are {ends}"
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                found[message.partition(), message.offset()] = message.value()
                reached[message.partition()] = message.offset() + 1
    finally:
        consumer.close()
    return found


def _end(consumer: Consumer, place: TopicPartition) -> int:
    """Where a partition ends. The client waits for a leader that has just died as long as it may: it is to ask anew.

    And what it was told once of a partition without a leader it believes for metadata.max.age.ms, a quarter of an hour:
    it calls that partition unknown and asks nobody (librdkafka, rd_kafka_topic_partition_list_query_leaders), unless
    metadata is asked for.
    """
    deadline = time.monotonic() + READ_SECONDS
    while True:
        try:
            return int(consumer.get_watermark_offsets(place, timeout=ASK_SECONDS)[1])
        except KafkaException:
            if time.monotonic() > deadline:
                raise
        with suppress(KafkaException):
            consumer.list_topics(place.topic, timeout=ASK_SECONDS)
