"""The longest gap between acknowledgements of one idempotent acks=all producer when a broker fails."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from benchmarks.cluster.systems import System, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAULTS = ("kill-leader", "kill-both", "restart", "stop", "term")
INTERVAL_SECONDS = 0.002
BEFORE_SECONDS = 1.0
AFTER_SECONDS = 2.0
RESTART_SECONDS = 0.1
#: below the session, so that the client is not what is measured where a broker hangs; the same for both systems
SOCKET_TIMEOUT_MS = 1_000
#: librdkafka asks who leads now when a request has timed out, for which it looks once a second; this is beside that
METADATA_MS = 200


class Acknowledged:
    """The producer, in a thread, and the moments of its acknowledgements."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.moments: list[float] = []
        self.failed = 0
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 1,
                "socket.timeout.ms": SOCKET_TIMEOUT_MS,
                "topic.metadata.refresh.interval.ms": METADATA_MS,
                "log_level": 0,
            }
        )
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Acknowledged:
        self._thread.start()
        self.wait_for_more()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._producer.flush(60)

    def _run(self) -> None:
        while not self._is_over.is_set():
            self._producer.produce(self._topic, b"x" * 100, partition=0, on_delivery=self._told)
            self._producer.poll(INTERVAL_SECONDS)

    def _told(self, error: Any, _message: Any) -> None:
        if error is None:
            self.moments.append(time.monotonic())
        else:
            self.failed += 1

    def wait_for_more(self, count: int = 50) -> None:
        """Returns when so many more were acknowledged."""
        wanted = len(self.moments) + count
        wait_until(lambda: len(self.moments) >= wanted)

    def longest_gap(self, since: float) -> float:
        """Seconds; of the gaps that end after `since`."""
        pairs = zip(self.moments, self.moments[1:], strict=False)
        return max(later - earlier for earlier, later in pairs if later >= since)


def one(system: System, fault: str) -> float:
    """The gap of one fault, in a topic of its own; returns when all is whole again."""
    controller = system.controller_id()
    others = [each for each in system.brokers if each != controller]
    leader = controller if fault == "kill-both" else others[0]
    topic = system.create([leader, *(each for each in system.brokers if each != leader)])
    broker = system.brokers[leader]
    with Acknowledged(system.bootstrap, topic) as load:
        time.sleep(BEFORE_SECONDS)
        began = time.monotonic()
        if fault == "stop":
            broker.pause()
        elif fault == "term":
            broker.stop()
        else:
            broker.kill()
        if fault == "restart":
            time.sleep(RESTART_SECONDS)
            broker.start()
        # more than can have been on their way
        load.wait_for_more(500)
        time.sleep(AFTER_SECONDS)
        gap = load.longest_gap(began)
    if fault == "stop":
        broker.resume()
    else:
        if fault != "restart":
            broker.start()
        broker.wait()
    system.wait_in_sync(topic, 3)
    system.delete(topic)
    if load.failed:
        raise RuntimeError(f"{load.failed} records were refused during {fault}")
    return gap


def run(
    systems: list[str], faults: list[str], runs: int, directory: Path | None
) -> Iterator[dict[str, object]]:
    """The gaps of every fault, one system after the other."""
    for name in systems:
        with running(name, directory) as system:
            for fault in faults:
                gaps = sorted(one(system, fault) for _ in range(runs))
                yield {
                    "bench": "failover",
                    "system": name,
                    "fault": fault,
                    "median_s": round(gaps[len(gaps) // 2], 3),
                    "min_s": round(gaps[0], 3),
                    "max_s": round(gaps[-1], 3),
                    "runs": runs,
                }
