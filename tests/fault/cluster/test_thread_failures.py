"""A broker of a cluster whose thread fails: it goes, and others lead what it led."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from tests.support.faults import failing_thread

FAILING = {
    "the listener for brokers": "fastlog.transport.router RouterListener _check_connections",
    "commands to brokers": "fastlog.broker.peers.client PeerClient _time_to_wait_ms",
    "the lease": "fastlog.cluster.zookeeper.lease LeaseKeeper _write",
    "the worker of the replicas": "fastlog.broker.replicas.manager ReplicaManager _guarded",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(2, settings={"offsets.topic.replication.factor": "2"}) as started:
        yield started


@pytest.mark.parametrize("case", FAILING)
def test_a_broker_whose_thread_fails_is_not_registered_and_deaf(
    cluster: Cluster, case: str, tmp_path: Path
) -> None:
    when = tmp_path / "now"
    broker = cluster.add(3)
    broker.prefix = (sys.executable, failing_thread.__file__, *FAILING[case].split(), str(when))
    broker.restart()
    try:
        cluster.wait_ready()
        when.touch()
        cluster.wait_until("the process has ended", lambda: not broker.is_running)
        assert broker.process is not None
        assert broker.process.wait() == 1
        assert "failed (ZeroDivisionError: planted)" in _last_line(broker)
    finally:
        broker.kill()
        del cluster.brokers[3]
    # it is registered no more, and nobody waits for it
    cluster.wait_ready()


def _last_line(broker: ClusterBroker) -> str:
    return broker.log().strip().splitlines()[-1]
