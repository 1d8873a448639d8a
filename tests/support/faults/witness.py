"""Clients that remember what they were told: what a log owes to them after a fault.

Two producers write to partition 0 of a topic, our own (acks=all, idempotent, ZeroMQ) and librdkafka (acks=1, TCP),
while a consumer reads along. Values are `NAME-NUMBER`, numbers ascending for each producer.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer as ConfluentConsumer
from confluent_kafka import Producer as ConfluentProducer
from confluent_kafka import TopicPartition

from fastlog import Producer

VALUE_BYTES = 500
IN_FLIGHT_MAX = 100
# with so many in flight a producer sends 10,000 records a second at most, which a small disk takes
PACE_SECONDS = 0.01
FAREWELL_SECONDS = 0.5
READ_SECONDS = 20.0


class Witness:
    """The clients of one topic, from `start` to `stop`; it can be started again, and numbers go on."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.sent = 0
        # offset -> value: of each record that a producer was told is in the log, and that the consumer was given
        self.acknowledged: dict[int, bytes] = {}
        self.consumed: dict[int, bytes] = {}
        self.failures: list[str] = []
        self._numbers: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, bootstrap: str) -> None:
        """Starts the clients."""
        self._stopped.clear()
        works: tuple[Callable[[str], None], ...] = (self._send_ours, self._send_theirs, self._read)
        self._threads = [threading.Thread(target=work, args=(bootstrap,), daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends them. What is under way gets a moment, and is then given up."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(READ_SECONDS)
            assert not thread.is_alive()

    def _next(self, name: str) -> bytes:
        with self._lock:
            self.sent += 1
            self._numbers[name] += 1
            return b"%s-%d " % (name.encode(), self._numbers[name] - 1) + b"." * VALUE_BYTES

    def _note(self, known: dict[int, bytes], offset: int, value: bytes) -> None:
        with self._lock:
            earlier = known.setdefault(offset, value)
            if earlier != value:
                kind = "acknowledged" if known is self.acknowledged else "consumed"
                self.failures.append(f"{kind}: offset {offset} was {earlier[:20]!r} and is {value[:20]!r}")

    def _send_ours(self, bootstrap: str) -> None:
        producer = Producer(bootstrap, linger_ms=1, acks="all", request_timeout_ms=2000)
        waiting: list[tuple[bytes, Any]] = []
        try:
            while not self._stopped.is_set():
                while len(waiting) < IN_FLIGHT_MAX:
                    value = self._next("ours")
                    waiting.append((value, producer.send(self.topic, value, partition=0)))
                time.sleep(PACE_SECONDS)
                waiting = self._settle(waiting)
        finally:
            producer.close(FAREWELL_SECONDS)
        self._settle(waiting)

    def _settle(self, waiting: list[tuple[bytes, Any]]) -> list[tuple[bytes, Any]]:
        for value, delivery in waiting:
            if delivery.done() and delivery.exception() is None:
                self._note(self.acknowledged, delivery.result().offset, value)
        return [entry for entry in waiting if not entry[1].done()]

    def _send_theirs(self, bootstrap: str) -> None:
        # no second try: it could put records out of order
        config = {"bootstrap.servers": bootstrap, "acks": "1", "linger.ms": 1, "retries": 0}
        producer = ConfluentProducer({**config, "log_level": 0})

        def delivered(error: object, message: Any) -> None:
            if error is None:
                self._note(self.acknowledged, message.offset(), message.value())

        while not self._stopped.is_set():
            while len(producer) < IN_FLIGHT_MAX:
                producer.produce(self.topic, self._next("theirs"), partition=0, on_delivery=delivered)
            producer.poll(0)
            time.sleep(PACE_SECONDS)
        producer.flush(FAREWELL_SECONDS)
        producer.purge()
        producer.flush(FAREWELL_SECONDS)

    def _read(self, bootstrap: str) -> None:
        consumer = new_consumer(bootstrap)
        consumer.assign([TopicPartition(self.topic, 0, max(self.consumed, default=-1) + 1)])
        while not self._stopped.is_set():
            for message in consumer.consume(500, 0.05):
                if message.error() is None:
                    self._note(self.consumed, message.offset(), message.value())
        consumer.close()

    def check(self, survived: dict[int, bytes], *, lost_from: int | None = None) -> None:
        """What is in the log now against what was told: nothing is elsewhere, doubled or out of its producer's order.

        Nothing that was told is missing, or, with `lost_from`, nothing below that offset.
        """
        assert list(survived) == list(range(len(survived))), "offsets are missing"
        assert not self.failures, self.failures[:3]
        for kind, told in (("acknowledged", self.acknowledged), ("consumed", self.consumed)):
            owed = {offset for offset in told if lost_from is None or offset < lost_from}
            assert owed <= survived.keys(), f"{kind} and lost: {sorted(owed - survived.keys())[:5]} …"
            other = [offset for offset in told if survived.get(offset, told[offset]) != told[offset]]
            assert not other, f"{kind}, and now other records: {other[:5]}"
        order: dict[bytes, list[int]] = defaultdict(list)
        for value in survived.values():
            name, number = value.split(b" ")[0].split(b"-")
            order[name].append(int(number))
        for name, numbers in order.items():
            assert all(a < b for a, b in itertools.pairwise(numbers)), f"{name!r} out of order"

    def lost(self, survived: dict[int, bytes]) -> int:
        """How many acknowledged records are not in the log."""
        return sum(survived.get(offset) != value for offset, value in self.acknowledged.items())


def new_consumer(bootstrap: str) -> ConfluentConsumer:
    """librdkafka's, for reading by assignment."""
    config = {"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False}
    return ConfluentConsumer({**config, "reconnect.backoff.max.ms": 200, "log_level": 0})


def read_all(bootstrap: str, topic: str) -> dict[int, bytes]:
    """Offset -> value of all that can be read of partition 0; fails at an error."""
    consumer = new_consumer(bootstrap)
    found: dict[int, bytes] = {}
    try:
        start, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=READ_SECONDS)
        consumer.assign([TopicPartition(topic, 0, start)])
        deadline = time.monotonic() + READ_SECONDS
        while start + len(found) < end:
            assert time.monotonic() < deadline, (
                f"{len(found)} of {end - start} records after {READ_SECONDS} s"
            )
            for message in consumer.consume(1000, 0.5):
                assert message.error() is None, message.error()
                found[message.offset()] = message.value()
    finally:
        consumer.close()
    return found
