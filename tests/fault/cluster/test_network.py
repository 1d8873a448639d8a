"""The network between brokers fails, in one direction or both: nothing is lost, and all is well when it is back."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from fastlog.testing.zookeeper import ZooKeeper, ZooKeeperServer
from tests.fault.cluster.conftest import SETTINGS, watched
from tests.fault.conftest import require
from tests.support.faults.cluster_witness import PARTITIONS
from tests.support.faults.network import Network

IDS = (1, 2, 3)
# followers that are not heard of leave the ISR soon, so that the others go on
LAG_MS = 3_000
SESSION_SECONDS = 4.0

pytestmark = pytest.mark.timeout(180)


class Networked(Cluster):
    """A cluster with a machine for each broker; ZooKeeper and the clients are here, which all reach."""

    def __init__(self, network: Network, folder: Path, zookeeper: str) -> None:
        settings = SETTINGS | {"replica.lag.time.max.ms": str(LAG_MS)}
        super().__init__(3, folder=folder, settings=settings, zookeeper=zookeeper)
        self.network = network
        self._hosts = zookeeper

    def add(self, broker_id: int, settings: Mapping[str, str] | None = None) -> ClusterBroker:
        broker = ClusterBroker(
            broker_id,
            self.folder,
            zookeeper=self._hosts,
            settings=super().add(broker_id, settings).settings,
            host=self.network.address(broker_id),
            prefix=self.network.on(broker_id),
        )
        self.brokers[broker_id] = broker
        return broker


@pytest.fixture
def networked(tmp_path: Path) -> Iterator[Networked]:
    require(os.geteuid() == 0, "only root may make network namespaces")
    require(shutil.which("ip") is not None, "ip is missing (apt-get install iproute2)")
    network = Network(len(IDS))
    try:
        server = ZooKeeperServer(tmp_path / "zookeeper", 1, host=network.here)
        with ZooKeeper.of([server]) as zookeeper:
            started = Networked(network, tmp_path / "cluster", zookeeper.hosts)
            with started:
                yield started
    finally:
        network.close()


def whole_again(cluster: Cluster, topic: str) -> None:
    cluster.wait_ready()
    cluster.wait_in_sync(topic, 3)


@pytest.mark.parametrize("ways", ["both", "out", "in"])
def test_a_broker_that_the_others_do_not_reach(networked: Networked, topic_name: str, ways: str) -> None:
    """ZooKeeper and clients still reach it: the cluster does not lose it, and does not wait for it either."""
    with watched(networked, topic_name) as witness:
        alone = next(it for it in IDS if it != networked.controller().broker_id)
        others = [it for it in IDS if it != alone]
        led_elsewhere = [
            it for it in range(PARTITIONS) if networked.leader_of(topic_name, it).broker_id != alone
        ]
        out, back = itertools.product([alone], others), itertools.product(others, [alone])
        blocked = [*(out if ways != "in" else ()), *(back if ways != "out" else ())]
        for source, target in blocked:
            networked.network.block(source, target)
        cut = time.monotonic()
        witness.wait_for_more(partitions=led_elsewhere)
        print(f"a broker is not reached ({ways}): {witness.gap(cut):.2f} s without an acknowledgement")
        for source, target in blocked:
            networked.network.unblock(source, target)
        whole_again(networked, topic_name)
        witness.wait_for_more()
    witness.check()


@pytest.mark.parametrize("ways", ["both", "out"])
def test_a_controller_that_the_others_do_not_reach(networked: Networked, topic_name: str, ways: str) -> None:
    """It has its session, so nobody replaces it: what needs it waits, and nothing that was acknowledged goes."""
    with watched(networked, topic_name) as witness:
        alone = networked.controller().broker_id
        others = [it for it in IDS if it != alone]
        blocked = list(itertools.product([alone], others))
        if ways == "both":
            blocked += itertools.product(others, [alone])
        for source, target in blocked:
            networked.network.block(source, target)
        time.sleep(2 * LAG_MS / 1000)
        for source, target in blocked:
            networked.network.unblock(source, target)
        whole_again(networked, topic_name)
        witness.wait_for_more()
    witness.check()


def test_a_leader_whose_cable_is_pulled(networked: Networked, topic_name: str) -> None:
    with watched(networked, topic_name) as witness:
        leader = networked.leader_of(topic_name).broker_id
        networked.network.cut(leader)
        cut = time.monotonic()
        witness.wait_for_more()
        print(f"a leader's cable is pulled: {witness.gap(cut):.2f} s without an acknowledgement")
        networked.network.heal(leader)
        whole_again(networked, topic_name)
    witness.check()
