"""The cluster that a bench runs against: one that was named, or a broker of its own."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from fastlog.bench.harness.broker_process import BrokerProcess
from fastlog.client.admin import Admin
from fastlog.errors import FastlogError, NotReachableError, UnknownTopicOrPartitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from fastlog.bench.harness.statistics import Round

#: a cluster that was named is not waited for
BOOTSTRAP_TIMEOUT_MS = 5_000
LEADER_SECONDS = 10.0


class Cluster:
    """Where a bench's topics are made and removed; `broker` is None where the cluster is not the bench's own."""

    def __init__(self, bootstrap: str, broker: BrokerProcess | None, admin: Admin) -> None:
        self.bootstrap = bootstrap
        self.broker = broker
        self._admin = admin

    @contextmanager
    def topic(self, partitions: int = 1, configs: Mapping[str, str] | None = None) -> Iterator[str]:
        """A fresh topic with a name that nobody has, removed at the end."""
        name = f"fastlog-bench-{os.getpid()}-{secrets.token_hex(4)}"
        self._admin.create_topic(name, partitions=partitions, configs=configs)
        try:
            yield name
        finally:
            self._remove(name)

    def leader_address(self, topic: str, partition: int = 0) -> tuple[str, int]:
        """Host and port of a partition's leader; waits some seconds for one. Raises NotReachableError."""
        deadline = time.monotonic() + LEADER_SECONDS
        while True:
            # a broker may hear of a new topic after the client that made it
            with suppress(UnknownTopicOrPartitionError):
                leader = self._admin.describe_topic(topic).partitions[partition].leader
                for broker in self._admin.describe_cluster().brokers:
                    if broker.node_id == leader:
                        return broker.host, broker.port
            if time.monotonic() > deadline:
                raise NotReachableError(
                    f"{topic}-{partition} at {self.bootstrap} has no leader after {LEADER_SECONDS:.0f} s; "
                    "are all brokers of the cluster running?"
                )
            time.sleep(0.05)

    def log_start_offset(self, topic: str, partition: int = 0) -> int:
        """The offset of a partition's oldest record."""
        place = (topic, partition)
        return self._admin.list_offsets({place: "earliest"})[place].offset

    def log_end_offset(self, topic: str, partition: int = 0) -> int:
        """The offset after a partition's last record."""
        place = (topic, partition)
        return self._admin.list_offsets({place: "latest"})[place].offset

    def cpu_seconds(self) -> float | None:
        """Processor time of the bench's own broker up to now; None for another."""
        return None if self.broker is None else self.broker.cpu_seconds()

    def with_broker_cpu(self, work: Callable[[], Round]) -> Round:
        """A round with the processor time that the bench's own broker took meanwhile."""
        if self.broker is None:
            return work()
        before = self.broker.cpu_seconds()
        done = work()
        return replace(done, broker_cpu_seconds=self.broker.cpu_seconds() - before)

    def _remove(self, name: str) -> None:
        if self.broker is not None and not self.broker.is_running:
            # nobody to ask, and its topics go with its directory
            return
        try:
            self._admin.delete_topic(name)
        except UnknownTopicOrPartitionError:
            pass
        except FastlogError:
            # a broker of our own takes its topics with it, and may be what has failed just now
            if self.broker is None:
                raise


@contextmanager
def cluster_at(
    bootstrap: str | None, *, directory: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """The cluster at `bootstrap`, or without one a broker of the bench's own, with `settings`, below `directory`.

    Raises NotReachableError where nobody answers.
    """
    if bootstrap is None:
        with BrokerProcess(directory, settings) as broker:
            broker.start()
            with cluster_of(broker) as own:
                yield own
        return
    with Admin(bootstrap, bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS) as admin:
        admin.describe_cluster()
        yield Cluster(bootstrap, None, admin)


@contextmanager
def cluster_of(broker: BrokerProcess) -> Iterator[Cluster]:
    """The cluster of a broker of the bench's own, which runs; it may be started again meanwhile."""
    with Admin(broker.bootstrap, bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS) as admin:
        yield Cluster(broker.bootstrap, broker, admin)
