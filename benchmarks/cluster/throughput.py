"""acks=all into three replicas: records a second, and the processor time of all brokers (and ZooKeeper)."""

from __future__ import annotations

import re
import subprocess
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from benchmarks.cluster.systems import System, running
from fastlog.bench.harness.sending import producer_at
from fastlog.bench.harness.workload import values_of
from fastlog.bench.produce import send_each, send_many
from tests.integration.kafka import jars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PERF = "org.apache.kafka.tools.ProducerPerformance"
#: what bin/kafka-producer-perf-test.sh gives it
JAVA = ("-Xmx512M", "-server", "-XX:+UseG1GC")


def java(system: System, topic: str, records: int, size: int) -> float:
    """Kafka's own tool, with its defaults: records a second, its warm-up included."""
    command = ["java", *JAVA, "-cp", f"{jars()}/*", PERF, "--bootstrap-server", system.bootstrap]
    command += ["--topic", topic, "--num-records", str(records), "--record-size", str(size)]
    command += ["--throughput", "-1", "--command-property", "acks=all"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rates = re.findall(r"([\d.]+) records/sec", done.stdout)
    assert rates, done.stdout
    return float(rates[-1])


def sdk_many(system: System, topic: str, records: int, size: int) -> float:
    """fastlog's SDK, `send_many`."""
    return _sdk(send_many, system, topic, records, size)


def sdk_send(system: System, topic: str, records: int, size: int) -> float:
    """fastlog's SDK, `send` and each delivery's result."""
    return _sdk(send_each, system, topic, records, size)


def _sdk(work: Callable[..., None], system: System, topic: str, records: int, size: int) -> float:
    values = values_of(size)
    with producer_at(system.bootstrap, acks="all") as producer:
        producer.send(topic, b"").result()
        began = time.perf_counter()
        work(producer, topic, iter([values] * (records // len(values))))
        return records // len(values) * len(values) / (time.perf_counter() - began)


def confluent(system: System, topic: str, records: int, size: int) -> float:
    """confluent-kafka: idempotent, its queue as long as it needs to be."""
    producer = Producer(
        {
            "bootstrap.servers": system.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1 << 20,
            "log_level": 0,
        }
    )
    values = values_of(size)
    began = time.perf_counter()
    for number in range(records):
        while True:
            try:
                producer.produce(topic, values[number % len(values)])
                break
            except BufferError:
                producer.poll(0.01)
    left = producer.flush(120)
    assert not left, left
    return records / (time.perf_counter() - began)


WORKS: dict[str, Callable[[System, str, int, int], float]] = {
    "java": java,
    "sdk-many": sdk_many,
    "sdk-send": sdk_send,
    "confluent": confluent,
}
#: beside what of Kafka's each client stands
BESIDE = {"java": "java", "sdk-many": "confluent", "sdk-send": "confluent", "confluent": "confluent"}


def run(
    systems: list[str],
    clients: list[str],
    sizes: list[int],
    records: int,
    partitions: int,
    rounds: int,
    directory: Path | None,
) -> Iterator[dict[str, object]]:
    """Every client at every size: rounds of the systems in turn, after one each that does not count."""
    with ExitStack() as stack:
        both = [stack.enter_context(running(name, directory)) for name in systems]
        for size in sizes:
            rates: dict[tuple[str, str], float] = {}
            for client in clients:
                taking = [it for it in both if it.name == "fastlog" or not client.startswith("sdk")]
                found: dict[str, list[tuple[float, float]]] = {it.name: [] for it in taking}
                for number in range(rounds + 1):
                    for system in reversed(taking) if number % 2 else taking:
                        measured = _round(system, client, records * 100 // size, size, partitions)
                        if number:
                            found[system.name].append(measured)
                for name, pairs in found.items():
                    rate = median(it[0] for it in pairs)
                    rates[name, client] = rate
                    yield {
                        "bench": "throughput",
                        "system": name,
                        "client": client,
                        "size": size,
                        "records_per_second": round(rate),
                        "min": round(min(it[0] for it in pairs)),
                        "max": round(max(it[0] for it in pairs)),
                        "cpu_seconds_per_million": round(median(it[1] for it in pairs), 3),
                        "rounds": rounds,
                        "partitions": partitions,
                    }
            for client in clients:
                ours, theirs = rates.get(("fastlog", client)), rates.get(("kafka", BESIDE[client]))
                if ours and theirs:
                    ratio = round(ours / theirs, 3)
                    yield {"bench": "ratio", "client": client, "beside": BESIDE[client], "size": size} | {
                        "ratio_to_kafka": ratio
                    }


def _round(system: System, client: str, records: int, size: int, partitions: int) -> tuple[float, float]:
    """Records a second, and processor seconds for a million."""
    records = max(10_000, records // 10_000 * 10_000)
    topic = system.create_many(partitions, 3)
    before = system.cpu_seconds()
    rate = WORKS[client](system, topic, records, size)
    # what followers do after the last acknowledgement is nothing: acks=all waited for it
    cpu = (system.cpu_seconds() - before) / records * 1e6
    system.delete(topic)
    return rate, cpu
