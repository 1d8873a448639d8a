"""Many partitions: how long they take to be made, and to be written to again when the leader of a third is killed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from benchmarks.cluster.failover import SOCKET_TIMEOUT_MS
from benchmarks.cluster.systems import System, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BETWEEN_SECONDS = 0.2


class Written:
    """A producer that writes to partitions, and the moment of each one's first acknowledgement after `again`."""

    def __init__(self, bootstrap: str, topic: str, partitions: list[int]) -> None:
        self._topic = topic
        self._partitions = partitions
        self.first: dict[int, float] = {}
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 1,
                "socket.timeout.ms": SOCKET_TIMEOUT_MS,
                "topic.metadata.refresh.fast.interval.ms": 100,
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 0,
            }
        )

    def again(self, seconds: float = 120.0) -> float:
        """Writes one record to each; the moment of the last acknowledgement."""
        self.first = {}
        for partition in self._partitions:
            self._producer.produce(self._topic, b"x", partition=partition, on_delivery=self._told)
            self._producer.poll(0)
        deadline = time.monotonic() + seconds
        while len(self.first) < len(self._partitions):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.first)} of {len(self._partitions)} were written to")
            self._producer.poll(BETWEEN_SECONDS)
        return max(self.first.values())

    def _told(self, error: Any, message: Any) -> None:
        if error is not None:
            raise RuntimeError(str(error))
        self.first.setdefault(message.partition(), time.monotonic())


def run(systems: list[str], count: int, directory: Path | None) -> Iterator[dict[str, object]]:
    """Made with one replica, made with three, and the failover of the third that one broker leads."""
    for name in systems:
        with running(name, directory) as system:
            head = {"bench": "partitions", "system": name, "partitions": count}
            began = time.monotonic()
            topic = system.create_many(count, 1)
            yield head | {"created_rf1_s": round(time.monotonic() - began, 2)}
            system.delete(topic)
        with running(name, directory) as system:
            began = time.monotonic()
            topic = system.create_many(count, 3)
            yield head | {"created_rf3_s": round(time.monotonic() - began, 2)}
            yield head | _failover(system, topic)


def _failover(system: System, topic: str) -> dict[str, object]:
    controller = system.controller_id()
    victim = next(each for each in system.brokers if each != controller)
    led = [number for number, it in system.partitions(topic).items() if it.leader == victim]
    written = Written(system.bootstrap, topic, led)
    written.again()
    began = time.monotonic()
    system.brokers[victim].kill()
    last = written.again()

    def is_clean() -> bool:
        return all(victim not in it.isrs for it in system.partitions(topic).values())

    del system.brokers[victim]
    wait_until(is_clean)
    return {
        "led": len(led),
        "last_written_s": round(last - began, 2),
        "isr_clean_s": round(time.monotonic() - began, 2),
    }
