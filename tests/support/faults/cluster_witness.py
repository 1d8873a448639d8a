"""Clients that remember what a cluster told them, and what it owes to them at the end.

An idempotent producer with acks=all writes numbered records, with keys, to all partitions of a topic; a consumer reads
along. Whatever befell the cluster meanwhile, at the end `check` wants everything acknowledged to be there, once, in
order and at its offset; what the consumer was given to be just that; the same bytes on every replica; and all in sync.
"""

from __future__ import annotations

import itertools
import struct
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import Producer as ConfluentProducer

from fastlog import Producer
from tests.support.cluster_load import read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from fastlog.testing import Cluster
    from fastlog.testing.cluster_broker import ClusterBroker

PARTITIONS = 3
INTERVAL_SECONDS = 0.002
FLUSH_SECONDS = 60.0
ALIKE_SECONDS = 20.0
PRELUDE_BYTES = 12

Place = tuple[int, int]
"""Partition and offset."""


class ClusterWitness:
    """Writes and reads from the beginning of a `with` block to its end; `check` comes after."""

    def __init__(
        self, cluster: Cluster, topic: str, *, with_sdk: bool = False, begins: int = 0, digits: int = 1
    ) -> None:
        """`begins` is the number of the first record that is written, `digits` how many a value has at least."""
        self.topic = topic
        self._digits = digits
        self.count = begins
        """The number of the next record."""
        self.acknowledged: dict[int, Place] = {}
        """By the record's number."""
        self.consumed: dict[Place, bytes] = {}
        self.failures: list[object] = []
        self.moments: list[list[float]] = [[] for _ in range(PARTITIONS)]
        """When the acknowledgements of each partition came, by time.monotonic()."""
        self._cluster = cluster
        self._is_over = threading.Event()
        works: Iterable[Callable[[], None]] = (self._send_ours if with_sdk else self._send, self._read)
        self._threads = [threading.Thread(target=self._noted, args=(work,), daemon=True) for work in works]

    def __enter__(self) -> ClusterWitness:
        for each in self._threads:
            each.start()
        self.wait_for_more()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for each in self._threads:
            each.join(2 * FLUSH_SECONDS)
            assert not each.is_alive()

    def _noted(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.failures.append(error)

    # --- the clients ---

    def _next(self) -> tuple[int, int, bytes]:
        number = self.count
        self.count += 1
        return number, number % PARTITIONS, self._value(number)

    def _value(self, number: int) -> bytes:
        return b"%0*d" % (self._digits, number)

    def _send(self) -> None:
        producer = ConfluentProducer(
            {
                "bootstrap.servers": self._cluster.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 1,
                # a broker that is paused answers nothing
                "socket.timeout.ms": 5_000,
                "delivery.timeout.ms": 60_000,
                "retry.backoff.ms": 20,
                "reconnect.backoff.max.ms": 200,
                "log_level": 0,
            }
        )

        def told(error: object, message: Any) -> None:
            if error is not None:
                self.failures.append(error)
            else:
                self._note(int(message.value()), (message.partition(), message.offset()))

        while not self._is_over.wait(INTERVAL_SECONDS):
            _, partition, value = self._next()
            producer.produce(self.topic, value, b"key-" + value, partition, on_delivery=told)
            producer.poll(0)
        left = producer.flush(FLUSH_SECONDS)
        assert not left, f"{left} records are neither acknowledged nor refused"

    def _send_ours(self) -> None:
        bootstrap = self._cluster.bootstrap
        waiting: tuple[deque[tuple[int, Any]], ...] = tuple(deque() for _ in range(PARTITIONS))
        with Producer(bootstrap, linger_ms=1, acks="all", request_timeout_ms=5_000) as producer:
            while not self._is_over.wait(INTERVAL_SECONDS):
                number, partition, value = self._next()
                delivery = producer.send(self.topic, value, key=b"key-" + value, partition=partition)
                waiting[partition].append((number, delivery))
                for each in waiting:
                    while each and each[0][1].done():
                        self._settle(*each.popleft())
            producer.flush(FLUSH_SECONDS)
            for number, delivery in itertools.chain(*waiting):
                self._settle(number, delivery)

    def _settle(self, number: int, delivery: Any) -> None:
        error = delivery.exception(FLUSH_SECONDS)
        if error is not None:
            self.failures.append(error)
        else:
            self._note(number, (number % PARTITIONS, delivery.result().offset))

    def _note(self, number: int, place: Place) -> None:
        self.moments[place[0]].append(time.monotonic())
        if number in self.acknowledged:
            self.failures.append(f"record {number} was acknowledged twice")
        self.acknowledged[number] = place

    def _read(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._cluster.bootstrap,
                "group.id": "unused",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "socket.timeout.ms": 5_000,
                "reconnect.backoff.max.ms": 200,
                "log_level": 0,
            }
        )
        consumer.assign([TopicPartition(self.topic, each, 0) for each in range(PARTITIONS)])
        expected = dict.fromkeys(range(PARTITIONS), 0)
        while not self._is_over.is_set():
            messages: list[Any] = consumer.consume(500, 0.05)
            for message in messages:
                if message.error() is not None:
                    # brokers that are away; but never that an offset which was read is not there any more
                    if message.error().name() in {"OFFSET_OUT_OF_RANGE", "_AUTO_OFFSET_RESET"}:
                        self.failures.append(message.error())
                    continue
                place = message.partition(), message.offset()
                if place[1] != expected[place[0]]:
                    self.failures.append(f"{place} was consumed where {expected[place[0]]} was due")
                expected[place[0]] = place[1] + 1
                self.consumed[place] = message.value()
        consumer.close()

    # --- what tests ask ---

    def wait_for_more(
        self, count: int = 60, seconds: float = 60.0, *, partitions: Sequence[int] = range(PARTITIONS)
    ) -> None:
        """Returns when so many records sent from now on are acknowledged, a third of them in each partition."""
        first = self.count
        enough = count // PARTITIONS

        def has_more() -> bool:
            seen = [number % PARTITIONS for number in list(self.acknowledged) if number >= first]
            return all(seen.count(each) >= enough for each in partitions)

        self._cluster.wait_until(f"{count} more records are acknowledged", has_more, seconds)

    def gap(self, since: float = 0.0) -> float:
        """The longest time without an acknowledgement in any partition, in seconds, that ended after `since`."""
        return max(
            (
                after - before
                for moments in self.moments
                for before, after in itertools.pairwise(moments)
                if after > since
            ),
            default=0.0,
        )

    def check(self) -> None:
        """What the cluster owes, all of it; AssertionError says what is missing."""
        assert self.failures == [], self.failures[:3]
        self._cluster.wait_in_sync(self.topic, 3)
        found = read_all(self._cluster.bootstrap, self.topic, PARTITIONS)
        places = {int(value): place for place, value in found.items()}
        twice = [place for place, value in found.items() if places[int(value)] != place]
        assert not twice, f"there again later: {[(it, found[it]) for it in twice[:5]]}"
        lost = {number: place for number, place in self.acknowledged.items() if places.get(number) != place}
        assert lost == {}, f"{len(lost)} acknowledged records are not where they were"
        for partition in range(PARTITIONS):
            numbers = [int(value) for (of, _), value in sorted(found.items()) if of == partition]
            assert numbers == sorted(numbers), f"partition {partition} is out of order"
        other = {place for place, value in self.consumed.items() if found.get(place) != value}
        assert not other, f"consumed, and now other records: {sorted(other)[:5]}"
        self.check_replicas()

    def check_beginning(self) -> None:
        """Where ends may be lost: what is there is in order, without a hole, and alike on all replicas."""
        found = read_all(self._cluster.bootstrap, self.topic, PARTITIONS)
        for partition in range(PARTITIONS):
            numbers = [int(value) for (of, _), value in sorted(found.items()) if of == partition]
            first = partition if numbers else 0
            assert numbers == list(range(first, first + PARTITIONS * len(numbers), PARTITIONS))
        self.check_replicas()

    def lost(self) -> list[int]:
        """The numbers of the acknowledged records that are not where they were told to be."""
        found = read_all(self._cluster.bootstrap, self.topic, PARTITIONS)
        return [
            number for number, place in self.acknowledged.items() if found.get(place) != self._value(number)
        ]

    def check_replicas(self, seconds: float = ALIKE_SECONDS) -> None:
        """Every replica of every partition has the same batches, byte for byte, within that time."""
        differences: list[str] = []

        def are_alike() -> bool:
            differences[:] = self._differences()
            return not differences

        try:
            self._cluster.wait_until("all replicas are alike", are_alike, seconds)
        except TimeoutError as error:
            raise AssertionError(differences) from error

    def _differences(self) -> list[str]:
        """In which partitions the brokers' directories differ, and from where."""
        said = []
        for partition in range(PARTITIONS):
            logs = {
                broker.broker_id: batches(directory_of(broker, f"{self.topic}-{partition}"))
                for broker in self._cluster.brokers.values()
            }
            first = min(logs)
            for broker_id, log in logs.items():
                if log != logs[first]:
                    pairs = itertools.zip_longest(sorted(logs[first].items()), sorted(log.items()))
                    at = next((one or two) for one, two in pairs if one != two)
                    said.append(f"partition {partition} of brokers {first} and {broker_id} at {at[0]}")
        return said


def directory_of(broker: ClusterBroker, name: str) -> Path:
    """Where the broker has a partition; in its first data directory where it has it nowhere."""
    places = [directory / name for directory in (broker.data_dir, *broker.other_directories)]
    return next((it for it in places if it.exists()), places[0])


def batches(directory: Any) -> dict[int, bytes]:
    """Offset -> bytes of every batch in the segments of a partition's directory."""
    found: dict[int, bytes] = {}
    for segment in sorted(directory.glob("*.log")):
        data, at = segment.read_bytes(), 0
        while at + PRELUDE_BYTES <= len(data):
            offset, length = struct.unpack_from(">qi", data, at)
            if length <= 0:
                break
            end = at + PRELUDE_BYTES + length
            found[offset] = data[at:end]
            at = end
    return found
