"""What ten thousand topics cost a broker: to make, to keep while nobody uses them, and at a start.

Each topic has one partition and no record. Memory is the growth of the resident set, so it counts all that a partition
takes, Python's part too; what the allocator keeps free of the making is in it. There is no limit to compare with.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fastlog.bench.harness import machine
from fastlog.bench.harness.broker_process import BrokerProcess
from fastlog.bench.harness.result import Result
from fastlog.bench.harness.statistics import percentile_ms
from fastlog.bench.harness.wire import CLIENT_ID, TIMEOUT_MS
from fastlog.client.connection import Connection
from fastlog.errors import error_for
from fastlog.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: every broker since Kafka 2.4 speaks it
CREATE_VERSION = 5
KIBIBYTE = 1 << 10
#: the steps that are told to who waits
STEPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench topics`."""

    topics: int = 10_000
    per_request: int = 1
    idle_seconds: float = 5.0


def run(settings: Settings, *, directory: Path | None, done: Callable[[int], None]) -> Result:
    """Makes the topics, idles, starts again after kill -9 and after a clean stop. Blocks."""
    with BrokerProcess(directory) as broker:
        empty = broker.start()
        rss = broker.rss_bytes()
        times, cpu = _create(broker, settings)
        done(1)
        idle = _idle(broker, settings)
        grown = broker.rss_bytes() - rss
        descriptors = broker.descriptor_count()
        done(1)
        broker.kill()
        after_kill, cpu_after_kill = broker.start(), broker.cpu_seconds()
        done(1)
        began = time.perf_counter()
        broker.stop()
        stopped = time.perf_counter() - began
        after_stop, cpu_after_stop = broker.start(), broker.cpu_seconds()
        done(1)
    seconds = sum(times) / 1e9
    details: dict[str, Any] = {
        "topics_per_second": settings.topics / seconds,
        "broker_cpu_ms_per_topic": 1000 * cpu / settings.topics,
        "rss_kib_per_partition": grown / KIBIBYTE / settings.topics,
        "idle_cpu_share": idle,
        "idle_descriptors": descriptors,
        "start_empty_seconds": empty,
        "start_after_kill_seconds": after_kill,
        "start_after_kill_cpu_seconds": cpu_after_kill,
        "stop_seconds": stopped,
        "start_after_stop_seconds": after_stop,
        "start_after_stop_cpu_seconds": cpu_after_stop,
    }
    return Result(
        name="topics",
        seconds=seconds,
        p50_ms=percentile_ms(times, 50),
        p99_ms=percentile_ms(times, 99),
        details=details,
        settings={**asdict(settings), **machine.describe(directory)},
    )


def _create(broker: BrokerProcess, settings: Settings) -> tuple[list[int], float]:
    """The nanoseconds of each request, and the broker's processor time of all."""
    names = [f"bench-{number}" for number in range(settings.topics)]
    times = []
    host, _, port = broker.bootstrap.rpartition(":")
    before = broker.cpu_seconds()
    with Connection(host, int(port), client_id=CLIENT_ID) as connection:
        for first in range(0, len(names), settings.per_request):
            some = names[first : first + settings.per_request]
            topics = [CreatableTopic(name=name, num_partitions=1, replication_factor=1) for name in some]
            request = CreateTopicsRequest(topics=topics, timeout_ms=TIMEOUT_MS)
            began = time.perf_counter_ns()
            answer = connection.request(request, version=CREATE_VERSION)
            times.append(time.perf_counter_ns() - began)
            for topic in answer.topics:
                if topic.error_code:
                    raise error_for(topic.error_code, f"creating {topic.name}: {topic.error_message}")
    return times, broker.cpu_seconds() - before


def _idle(broker: BrokerProcess, settings: Settings) -> float:
    """The part of a core that the broker takes while nobody asks it for anything."""
    before, began = broker.cpu_seconds(), time.perf_counter()
    time.sleep(settings.idle_seconds)
    return (broker.cpu_seconds() - before) / (time.perf_counter() - began)
