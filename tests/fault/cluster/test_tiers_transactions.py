"""Read-committed consumers of transactions that only the object store has, in a cluster whose leader dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlog.testing import Cluster
from tests.support.cluster_tiers import TOPIC, local_start, settings, wait_tiered
from tests.support.transactions import check, transactions, write

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(3, settings=settings(str(tmp_path / "store"))) as started:
        yield started


def test_aborted_records_that_only_the_store_has_are_not_shown(cluster: Cluster, topic_name: str) -> None:
    log = transactions()
    with cluster.admin() as admin:
        restoring = {"fastlog.restoring": "true"}
        admin.create_topic(topic_name, partitions=1, replication_factor=3, configs={**TOPIC, **restoring})
        leader = cluster.leader_of(topic_name)
        write(leader.ports["PLAINTEXT"], topic_name, log)
        assert all(local_start(it, topic_name) == 0 for it in cluster.running())
        admin.alter_configs({"fastlog.restoring": "false"}, topic=topic_name)
    wait_tiered(cluster, topic_name, log.last_marker)
    check(cluster.bootstrap, topic_name, log)
    leader.kill()
    cluster.wait_until("another one leads", lambda: cluster.leader_of(topic_name) is not leader, 60)
    check(cluster.bootstrap, topic_name, log)
    leader.restart()
    cluster.wait_ready()
    cluster.wait_in_sync(topic_name, 3)
    check(cluster.bootstrap, topic_name, log)
