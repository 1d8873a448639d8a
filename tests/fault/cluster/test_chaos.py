"""Whatever befalls brokers and ZooKeeper, one after the other, drawn from a seed: it goes on, and nothing is lost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from tests.support.cluster_load import Load

TOPIC = "orders"
PARTITIONS = 6
SECONDS_LONG = 300.0
SECONDS = 30.0
# a request that a dying broker took is given up after thirty
SYNC_SECONDS = 60.0
# of each broker's log, where it does not go on
LOG_CHARACTERS = 3_000


class Chaos:
    """Faults, each over when its method returns."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self._cluster = cluster
        self._rng = rng
        self.faults: list[Callable[[], None]] = [
            self.kill,
            self.kill,
            self.stop,
            self.pause,
            self.kill_two,
            self.kill_all,
            self.kill_zookeeper,
        ]

    def _broker(self) -> ClusterBroker:
        return self._rng.choice(list(self._cluster.brokers.values()))

    def _wait(self, seconds_max: float) -> None:
        time.sleep(self._rng.random() * seconds_max)

    def kill(self) -> None:
        broker = self._broker()
        broker.kill()
        self._wait(6)
        broker.restart()

    def stop(self) -> None:
        broker = self._broker()
        broker.stop()
        self._wait(3)
        broker.restart()

    def pause(self) -> None:
        broker = self._broker()
        broker.pause()
        self._wait(8)
        broker.resume()

    def kill_two(self) -> None:
        two = self._rng.sample(list(self._cluster.brokers.values()), 2)
        for broker in two:
            broker.kill()
            self._wait(3)
        for broker in self._rng.sample(two, 2):
            broker.start()
        for broker in two:
            broker.wait()

    def kill_all(self) -> None:
        for broker in self._cluster.brokers.values():
            broker.kill()
        for broker in self._cluster.brokers.values():
            broker.start()
        for broker in self._cluster.brokers.values():
            broker.wait()

    def kill_zookeeper(self) -> None:
        assert self._cluster.zookeeper is not None
        self._cluster.zookeeper.kill()
        self._wait(6)
        self._cluster.zookeeper.restart()


def run(folder: Path, seed: int, seconds: float) -> None:
    rng = random.Random(seed)
    said = []
    with Cluster(3, folder=folder, settings={"min.insync.replicas": "2"}) as cluster:
        with cluster.admin() as admin:
            admin.create_topic(TOPIC, partitions=PARTITIONS, replication_factor=3)
        chaos = Chaos(cluster, rng)
        with Load(cluster, TOPIC, PARTITIONS) as load:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                fault = rng.choice(chaos.faults)
                said.append(fault.__name__)
                fault()
                try:
                    cluster.wait_ready()
                    cluster.wait_in_sync(TOPIC, 3, SYNC_SECONDS)
                    load.wait_for_more()
                except TimeoutError as error:
                    logs = "\n".join(broker.log()[-LOG_CHARACTERS:] for broker in cluster.brokers.values())
                    raise AssertionError(f"seed {seed}, after {', '.join(said)}: {error}\n{logs}") from error
        load.check()


@pytest.mark.timeout(240)
def test_one_fault_after_another(tmp_path: Path) -> None:
    run(tmp_path, seed=1, seconds=SECONDS)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_many_faults(tmp_path: Path) -> None:
    seed = time.time_ns() % 10_000
    run(tmp_path, seed=seed, seconds=SECONDS_LONG)
