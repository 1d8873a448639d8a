"""Which cluster a path belongs to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from fastlog.cluster.zookeeper.cluster import join_cluster
from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
from fastlog.cluster.zookeeper.metadata.store import ZooKeeperStore
from fastlog.ports import CorruptStoreError, StoreError, StoreUnavailableError
from fastlog.testing.ports import free_ports
from tests.support.zookeeper import CLUSTER_ID, Connect

OTHER_ID = "b3RoZXIgY2x1c3RlcnMgaQ"


def test_brokers_that_start_together_make_one_cluster(connect: Connect) -> None:
    brokers = [connect(join=False).connection for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(lambda it: join_cluster(it[1], None, f"{it[0]}" * 22), enumerate(brokers)))
    assert len(ids) == 1
    assert {ZooKeeperStore(each).cluster_id() for each in brokers} == ids


def test_a_directory_of_the_cluster_joins_it(connect: Connect) -> None:
    assert join_cluster(connect().connection, CLUSTER_ID, OTHER_ID) == CLUSTER_ID


def test_a_directory_of_another_cluster_is_refused(connect: Connect) -> None:
    connection = connect().connection
    with pytest.raises(StoreError, match=f"{OTHER_ID}.*{CLUSTER_ID}"):
        join_cluster(connection, OTHER_ID, "x" * 22)
    assert ZooKeeperStore(connection).cluster_id() == CLUSTER_ID


def test_a_directory_with_records_makes_no_cluster_anew(connect: Connect, root: str) -> None:
    connection = connect(join=False).connection
    with pytest.raises(StoreError, match=f"no cluster at {root}.*check the address"):
        join_cluster(connection, CLUSTER_ID, OTHER_ID)
    assert connection.ask(lambda client: client.exists_async(root)) is None


def test_a_root_that_holds_something_else_is_left_alone(connect: Connect, root: str) -> None:
    connection = connect(join=False).connection
    connection.ask(lambda client: client.ensure_path_async(f"{root}/brokers"))
    with pytest.raises(CorruptStoreError, match=f"{root}/cluster/id is missing"):
        join_cluster(connection, None, CLUSTER_ID)
    assert connection.children(root) == ["brokers"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "garbage"),
        (b"[]", "garbage"),
        (b'{"format":1}', "garbage"),
        (b'{"format":99,"id":"x"}', "written by a newer fastlog"),
    ],
)
def test_an_id_that_is_garbage_or_newer_is_refused(connect: Connect, data: bytes, reason: str) -> None:
    connection = connect().connection
    path = connection.paths.cluster_id
    connection.ask(lambda client: client.set_async(path, data))
    for known in (None, CLUSTER_ID):
        with pytest.raises(StoreError, match=reason):
            join_cluster(connection, known, OTHER_ID)


def test_an_address_where_nobody_answers_is_named() -> None:
    (port,) = free_ports(1)
    told: list[object] = []
    connection = ZooKeeperConnection(f"127.0.0.1:{port}", "/x", session_ms=2000, tell=told.append)
    with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{port} refuses connections"):
        connection.start(1.0)
    with pytest.raises(StoreUnavailableError):
        connection.get("/x")
    assert told == []
