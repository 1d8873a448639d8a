"""Brokers' replicas in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.replicas import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """No broker yet."""
    it = Cluster(tmp_path)
    yield it
    it.close()
