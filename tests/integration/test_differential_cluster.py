"""fastlog and Apache Kafka asked the same: DescribeCluster, DescribeLogDirs, AlterReplicaLogDirs, InitProducerId."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastlog.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from fastlog.protocol.messages.describe_cluster import DescribeClusterRequest
from fastlog.protocol.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from fastlog.protocol.messages.init_producer_id import InitProducerIdRequest
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.support.broker import wait_until
from tests.support.pair import Pair, Side
from tests.support.wire import Batch


@pytest.mark.parametrize("operations", [False, True])
@pytest.mark.parametrize("version", range(3))
def test_the_cluster_and_its_brokers(pair: Pair, version: int, operations: bool) -> None:
    pair.same(DescribeClusterRequest(operations), version)


@pytest.mark.parametrize("kind", [0, 2, 3])
@pytest.mark.parametrize("version", [1, 2])
def test_other_endpoints_than_brokers(pair: Pair, version: int, kind: int) -> None:
    pair.same(DescribeClusterRequest(endpoint_type=kind), version)


@pytest.mark.parametrize("version", range(1, 6))
def test_sizes_of_logs(pair: Pair, topic_name: str, version: int) -> None:
    pair.topic(topic_name, 2)
    data = [TopicProduceData(name=topic_name, partition_data=[PartitionProduceData(0, Batch().encode())])]
    pair.same(ProduceRequest(None, -1, 5_000, data), 9)
    wanted = [DescribableLogDirTopic(topic_name, [0, 1, 9])]
    pair.same(DescribeLogDirsRequest(wanted), version)
    pair.same(DescribeLogDirsRequest([DescribableLogDirTopic("no-such-topic", [0])]), version)
    pair.same(DescribeLogDirsRequest([]), version)


@pytest.mark.parametrize("version", [1, 2])
def test_replicas_are_to_lie_in_a_directory(pair: Pair, topic_name: str, version: int) -> None:
    pair.topic(topic_name, 2)

    def ask(path: str, *topics: AlterReplicaLogDirTopic) -> Callable[[Side], AlterReplicaLogDirsRequest]:
        def make(side: Side) -> AlterReplicaLogDirsRequest:
            own = side.ask(DescribeLogDirsRequest(None), 4).results[0].log_dir
            return AlterReplicaLogDirsRequest([AlterReplicaLogDir(path.format(own=own), list(topics))])

        return make

    here = AlterReplicaLogDirTopic(topic_name, [0, 1])
    absent = [AlterReplicaLogDirTopic(topic_name, [2, -1]), AlterReplicaLogDirTopic("no-such-topic", [0])]
    answers = pair.same(ask("{own}", here), version)
    assert [it.error_code for it in answers[1].results[0].partitions] == [0, 0]
    pair.same(ask("{own}", here, here, AlterReplicaLogDirTopic("../x", [0])), version)
    for topic in absent:
        pair.same(ask("{own}", topic), version)
    for path in ("/no/such/directory", "x", "", "{own}/", "{own}/..", "/"):
        pair.same(ask(path, here, *absent), version)
    pair.same(AlterReplicaLogDirsRequest(), version)


@pytest.fixture(scope="module", autouse=True)
def _first_block(pair: Pair) -> None:
    """Kafka answers 14 until its broker has got a block of ids from the controller."""
    wanted = InitProducerIdRequest(None, 60_000)
    wait_until("a producer id", lambda: pair.kafka.ask(wanted, 4).error_code == 0)


@pytest.mark.parametrize("version", range(6))
def test_a_producer_gets_an_id(pair: Pair, version: int) -> None:
    pair.same(InitProducerIdRequest(None, 60_000), version)


@pytest.mark.parametrize("version", range(3, 6))
@pytest.mark.parametrize(
    ("producer_id", "epoch"), [(5, 0), (5, 3), (-1, 3), (5, -1), (-5, -5), (2**62, 32_767)]
)
def test_a_producer_asks_with_its_old_id(pair: Pair, version: int, producer_id: int, epoch: int) -> None:
    pair.same(InitProducerIdRequest(None, 60_000, producer_id, epoch), version)


@pytest.mark.parametrize("version", range(6))
def test_an_empty_transactional_id(pair: Pair, version: int) -> None:
    pair.same(InitProducerIdRequest("", 60_000), version)
