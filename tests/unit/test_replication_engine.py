"""Replication through the engine's Python face; what it does is tested in `rust/broker/tests/replication`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from fastlog.config import load
from fastlog.errors import KafkaError
from fastlog.native._engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastlog.broker.data_plane import ReplicationPlane

TOPIC_ID = UUID(int=7).bytes
CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAQ"


Change = tuple[str, bytes, int, int, int, int, list[int], list[int]]


def change(leader: int, epoch: int, isr: list[int]) -> Change:
    return ("t", TOPIC_ID, 0, leader, epoch, epoch, [1, 2], isr)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(load(assignments=["node.id=1"]).broker())
    engine.open_directories([str(tmp_path)], CLUSTER_ID)
    yield engine
    engine.shutdown()


def test_roles_positions_and_errors(engine: Engine) -> None:
    plane: ReplicationPlane = engine
    settings = {"t": load().topic({})}
    assert plane.apply_partitions([change(1, 3, [1, 2])], settings) == [(0, "")]
    ((topic, index, epoch, end, high_watermark, start, followers),) = plane.replica_positions()
    assert (topic, index, epoch, end, high_watermark, start) == ("t", 0, 3, 0, 0, 0)
    assert [it[:4] for it in followers] == [(2, -1, -1, -1)]
    ((code, why),) = plane.apply_partitions([change(2, 2, [2])], settings)
    assert code == 74
    assert "t-0" in why
    with pytest.raises(KafkaError, match="in-sync"):
        plane.set_isr("t", 0, 2, [1], [1], 9)
    plane.set_isr("t", 0, 3, [1], [1, 2], 4)
    assert plane.apply_partitions([change(2, 4, [2])], settings) == [(0, "")]
    assert plane.replica_positions() == []
    assert plane.fetch_positions([("t", 0), ("absent", 0)]) == [(0, -1, 0, 0, 0), None]
    assert plane.truncate("t", 0, 4, 0) is False
    assert plane.fetch_positions([("t", 0)]) == [(0, -1, 0, 0, 0)]
    with pytest.raises(KafkaError):
        plane.truncate("t", 0, 3, 0)
    plane.restart_at("t", 0, 4, 50)
    assert plane.fetch_positions([("t", 0)]) == [(50, -1, 50, 50, 50)]
    assert plane.end_offset_for("t", 0, 3) == (-1, -1)
    with pytest.raises(KafkaError):
        plane.append_fetched(b"no answer", 18, {(TOPIC_ID, 0): (4, 50)})
    plane.set_broker_epochs({1: 10, 2: 20})
    plane.set_lease(time.monotonic_ns())
    assert plane.drain_notices() == []
