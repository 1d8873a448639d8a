"""One broker of either system below a memory bound."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.cluster.kafka import KafkaNodes
from benchmarks.cold.memory import limited
from fastlog.bench.harness.broker_process import BrokerProcess
from fastlog.bench.harness.cluster import Cluster, cluster_at, cluster_of
from fastlog.errors import FastlogError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.cluster.kafka import KafkaNode

SYSTEMS = ("fastlog", "kafka")
READY_SECONDS = 180.0
LOOK_SECONDS = 0.5
LOG_TAIL_BYTES = 1000


@contextmanager
def running(name: str, limit_bytes: int, directory: Path | None) -> Iterator[Cluster]:
    """A started broker with this much memory, heap and page cache together. Kafka's heap is half of it."""
    system = _fastlog if name == "fastlog" else _kafka
    with system(limit_bytes, directory) as cluster:
        yield cluster


@contextmanager
def _fastlog(limit_bytes: int, directory: Path | None) -> Iterator[Cluster]:
    with limited(limit_bytes) as bound, BrokerProcess(directory) as broker:
        broker.start()
        bound(broker.pid)
        with cluster_of(broker) as cluster:
            yield cluster


@contextmanager
def _kafka(limit_bytes: int, directory: Path | None) -> Iterator[Cluster]:
    with TemporaryDirectory(prefix="kafka-bench-", dir=directory) as folder, limited(limit_bytes) as bound:
        heap = f"{limit_bytes >> 21}m"
        nodes = KafkaNodes(Path(folder), {"offsets.topic.replication.factor": "1"}, 1, heap=heap)
        try:
            node = nodes.brokers[1]
            node.start()
            bound(node.pid)
            _wait_for(node)
            with cluster_at(node.bootstrap) as cluster:
                yield cluster
        finally:
            nodes.close()


def _wait_for(node: KafkaNode) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            with cluster_at(node.bootstrap):
                return
        except FastlogError as error:
            if not node.is_running or time.monotonic() > deadline:
                tail = node.log_file.read_text(errors="replace")[-LOG_TAIL_BYTES:].strip()
                error.add_note(f"Kafka needs some 700 MiB; its log ends with: {tail}")
                raise
            time.sleep(LOOK_SECONDS)
