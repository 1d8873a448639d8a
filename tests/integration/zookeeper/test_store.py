"""The store in a real ZooKeeper: the contract of every store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastlog.cluster.zookeeper.metadata.store import ZooKeeperStore
from tests.support.store_contract import StoreContract
from tests.support.zookeeper import Connect


@pytest.fixture
def store(connect: Connect) -> ZooKeeperStore:
    """The store of a fresh cluster."""
    return ZooKeeperStore(connect().connection)


@pytest.fixture
def reopen(connect: Connect) -> Callable[[], ZooKeeperStore]:
    """Another process's store."""
    return lambda: ZooKeeperStore(connect().connection)


class TestZooKeeperStore(StoreContract):
    """The contract of every store."""
