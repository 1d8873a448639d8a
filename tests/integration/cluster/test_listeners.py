"""Replicas are served, and commands between brokers taken, on the listener for brokers alone (semantics row 31)."""

from __future__ import annotations

import pytest

from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from fastlog.testing import Cluster
from tests.integration.cluster.conftest import Ask

CLUSTER_AUTHORIZATION_FAILED = 31
BROKERS = (1, 2, 3)


@pytest.fixture
def replicated(cluster: Cluster, topic: str) -> str:
    with cluster.admin() as admin:
        admin.create_topic(topic, replication_factor=3)
    return topic


@pytest.mark.parametrize("replica", BROKERS)
def test_nobody_fetches_as_a_replica_where_clients_do(raw: Ask, replicated: str, replica: int) -> None:
    wanted = FetchPartition(partition=0, current_leader_epoch=0, partition_max_bytes=1 << 20)
    request = FetchRequest(
        replica_id=replica, max_bytes=1 << 20, topics=[FetchTopic(topic=replicated, partitions=[wanted])]
    )
    for broker in BROKERS:
        assert raw(broker).ask(request, 12).error_code == CLUSTER_AUTHORIZATION_FAILED


def test_nobody_is_told_a_log_end_as_a_replica_where_clients_are(raw: Ask, replicated: str) -> None:
    wanted = ListOffsetsTopic(
        name=replicated, partitions=[ListOffsetsPartition(partition_index=0, timestamp=-1)]
    )
    for broker in BROKERS:
        (topic,) = raw(broker).ask(ListOffsetsRequest(replica_id=2, topics=[wanted]), 8).topics
        assert topic.partitions[0].error_code in (CLUSTER_AUTHORIZATION_FAILED, 6), topic
