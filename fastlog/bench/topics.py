"""What one topic and what ten thousand cost a broker: to make, to keep while nobody uses them, to write to and read all
of them, at a start, and to delete. A result for each number of topics; there is no limit to compare with.

Each topic has one partition. Memory is the growth of the resident set, so it counts all that a partition takes,
Python's part too; what the allocator keeps free of the making is in it. The heap in use is counted apart, in another
broker. The producer writes to one topic after the other, record by record, when it has used each once; the consumer
reads all topics from their starts. The starts are with these records in all topics.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fastlog.bench.harness import heap, machine
from fastlog.bench.harness.broker_process import BrokerProcess
from fastlog.bench.harness.result import Result
from fastlog.bench.harness.sending import producer_at
from fastlog.bench.harness.statistics import percentile_ms
from fastlog.bench.harness.wire import CLIENT_ID, TIMEOUT_MS
from fastlog.bench.harness.workload import values_of
from fastlog.client.connection import Connection
from fastlog.client.consumer.consumer import Consumer
from fastlog.errors import FastlogError, error_for
from fastlog.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from fastlog.protocol.messages.delete_topics import DeleteTopicsRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

#: every broker since Kafka 2.4 speaks them
CREATE_VERSION, DELETE_VERSION = 5, 4
KIBIBYTE = 1 << 10
#: the steps of each number of topics that are told to who waits
STEPS = 6
#: a consumer that gets nothing for so long has all that there is, or never gets it
SILENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench topics`."""

    topics: tuple[int, ...] = (10_000,)
    per_request: int = 1
    clients: int = 1
    records: int = 200_000
    idle_seconds: float = 5.0


class Timer:
    """Seconds, and the broker's processor time in them, under a name each."""

    def __init__(self, broker: BrokerProcess, figures: dict[str, Any]) -> None:
        self._broker = broker
        self._figures = figures
        self._began, self._cpu = time.perf_counter(), broker.cpu_seconds()

    def note(self, name: str) -> float:
        """Notes what has passed since the construction; answers the seconds."""
        seconds = time.perf_counter() - self._began
        self._figures[f"{name}_seconds"] = seconds
        self._figures[f"{name}_broker_cpu_seconds"] = self._broker.cpu_seconds() - self._cpu
        return seconds


def run(settings: Settings, *, directory: Path | None, done: Callable[[int], None]) -> Iterator[Result]:
    """Measures one number of topics after the other. Blocks."""
    for count in settings.topics:
        yield _measure(settings, count, directory, done)


def _measure(settings: Settings, count: int, directory: Path | None, done: Callable[[int], None]) -> Result:
    figures: dict[str, Any] = {"topics": count}
    names = [f"bench-{number}" for number in range(count)]
    with BrokerProcess(directory) as broker:
        figures["start_empty_seconds"] = broker.start()
        rss = broker.rss_bytes()
        times = _create(broker, settings, names, figures)
        done(1)
        _idle(broker, settings, figures)
        figures["rss_kib_per_topic"] = (broker.rss_bytes() - rss) / KIBIBYTE / count
        done(1)
        if settings.records:
            _produce(broker, settings, names, figures)
            _consume(broker, settings, names, figures)
        done(1)
        _restart(broker, figures)
        done(1)
        _delete(broker, settings, names, figures)
        done(1)
    figures["heap_bytes_per_topic"] = heap.bytes_per_topic(count, directory)
    done(1)
    return Result(
        name="topics",
        seconds=figures["create_seconds"],
        p50_ms=percentile_ms(times, 50),
        p99_ms=percentile_ms(times, 99),
        details=figures,
        settings={**asdict(settings), "topics": count, **machine.describe(directory)},
    )


def _create(
    broker: BrokerProcess, settings: Settings, names: Sequence[str], figures: dict[str, Any]
) -> list[int]:
    """The nanoseconds of each request."""

    def create(connection: Connection, some: Sequence[str]) -> None:
        topics = [CreatableTopic(name=name, num_partitions=1, replication_factor=1) for name in some]
        request = CreateTopicsRequest(topics=topics, timeout_ms=TIMEOUT_MS)
        for topic in connection.request(request, version=CREATE_VERSION).topics:
            if topic.error_code:
                raise error_for(topic.error_code, f"creating {topic.name}: {topic.error_message}")

    timer = Timer(broker, figures)
    times = _asked(broker, settings, names, create)
    seconds = timer.note("create")
    figures["topics_per_second"] = len(names) / seconds
    figures["broker_cpu_ms_per_topic"] = 1000 * figures["create_broker_cpu_seconds"] / len(names)
    return times


def _delete(broker: BrokerProcess, settings: Settings, names: Sequence[str], figures: dict[str, Any]) -> None:
    def delete(connection: Connection, some: Sequence[str]) -> None:
        request = DeleteTopicsRequest(topic_names=list(some), timeout_ms=TIMEOUT_MS)
        for topic in connection.request(request, version=DELETE_VERSION).responses:
            if topic.error_code:
                raise error_for(topic.error_code, f"deleting {topic.name}: {topic.error_message}")

    timer = Timer(broker, figures)
    _asked(broker, settings, names, delete)
    timer.note("delete")


def _asked(
    broker: BrokerProcess,
    settings: Settings,
    names: Sequence[str],
    ask: Callable[[Connection, Sequence[str]], None],
) -> list[int]:
    """Asks for all topics, so many at a time, over so many connections; the nanoseconds of each request."""
    host, _, port = broker.bootstrap.rpartition(":")
    times: list[int] = []
    failures: list[Exception] = []

    def work(own: Sequence[str]) -> None:
        try:
            with Connection(host, int(port), client_id=CLIENT_ID) as connection:
                for first in range(0, len(own), settings.per_request):
                    began = time.perf_counter_ns()
                    ask(connection, own[first : first + settings.per_request])
                    times.append(time.perf_counter_ns() - began)
        except Exception as error:
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=(names[number :: settings.clients],))
        for number in range(settings.clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return times


def _idle(broker: BrokerProcess, settings: Settings, figures: dict[str, Any]) -> None:
    """What the broker takes while nobody asks it for anything."""
    timer = Timer(broker, figures)
    time.sleep(settings.idle_seconds)
    seconds = timer.note("idle")
    figures["idle_cpu_share"] = figures["idle_broker_cpu_seconds"] / seconds
    figures["idle_descriptors"] = broker.descriptor_count()


def _produce(
    broker: BrokerProcess, settings: Settings, names: Sequence[str], figures: dict[str, Any]
) -> None:
    values = values_of(100)
    with producer_at(broker.bootstrap) as producer:
        timer = Timer(broker, figures)
        first = [producer.send(name, b"") for name in names]
        producer.flush()
        for delivery in first:
            delivery.result()
        timer.note("first_use")
        timer, client_cpu = Timer(broker, figures), time.process_time()
        last = None
        for number in range(settings.records):
            last = producer.send(names[number % len(names)], values[number % len(values)])
        producer.flush()
        if last is not None:
            last.result()
        seconds = timer.note("produce")
    figures["produce_client_cpu_seconds"] = time.process_time() - client_cpu
    figures["produced_per_second"] = settings.records / seconds


def _consume(
    broker: BrokerProcess, settings: Settings, names: Sequence[str], figures: dict[str, Any]
) -> None:
    left = settings.records + len(names)
    timer, client_cpu = Timer(broker, figures), time.process_time()
    with Consumer(broker.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([(name, 0) for name in names])
        for batch in consumer.batches(SILENCE_SECONDS):
            left -= len(batch.values())
            if left <= 0:
                break
        seconds = timer.note("consume")
    if left > 0:
        raise FastlogError(f"consuming all topics: {left} records did not come; look at the broker's log")
    figures["consume_client_cpu_seconds"] = time.process_time() - client_cpu
    figures["consumed_per_second"] = (settings.records + len(names)) / seconds


def _restart(broker: BrokerProcess, figures: dict[str, Any]) -> None:
    broker.kill()
    figures["start_after_kill_seconds"] = broker.start()
    figures["start_after_kill_cpu_seconds"] = broker.cpu_seconds()
    timer = time.perf_counter()
    broker.stop()
    figures["stop_seconds"] = time.perf_counter() - timer
    figures["start_after_stop_seconds"] = broker.start()
    figures["start_after_stop_cpu_seconds"] = broker.cpu_seconds()
