"""A real ZooKeeper for each kind of fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlog.testing.zookeeper import ZooKeeper
from tests.support.zookeeper import connect, root, zookeeper
from tests.support.zookeeper_proxy import Proxy

__all__ = ["connect", "root", "zookeeper"]


@pytest.fixture
def proxy(zookeeper: ZooKeeper) -> Iterator[Proxy]:
    """A way to the shared server that can be cut."""
    made = Proxy(zookeeper.hosts)
    yield made
    made.close()


@pytest.fixture
def own_zookeeper(tmp_path: Path) -> Iterator[ZooKeeper]:
    """One server for the test alone."""
    with ZooKeeper(tmp_path / "zookeeper") as own:
        yield own


@pytest.fixture
def ensemble(tmp_path: Path) -> Iterator[ZooKeeper]:
    """Three servers for the test alone."""
    with ZooKeeper(tmp_path / "ensemble", servers=3) as own:
        yield own
