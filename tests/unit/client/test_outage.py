"""An outage is told once when it begins and once when it is over."""

from __future__ import annotations

import math

from fastlog.client.producer.batch import Batch
from fastlog.client.producer.outage import PATIENCE_MS, Change, Outage
from fastlog.client.producer.partition_queue import PartitionQueue
from fastlog.native._sending import Lock

LINGER_MS = 50.0


def queue_with(*created_ms: float) -> PartitionQueue:
    """A partition with batches that were begun then; the first is in flight."""
    queue = PartitionQueue(
        "t", 0, idempotent=False, in_flight_max=5, retriable=bool, retry_delay_ms=lambda attempt: 0.0
    )
    for created in created_ms:
        queue.waiting.append(Batch("t", 0, None, Lock(), created_ms=created))
    queue.take()
    return queue


def steps(outage: Outage, *at: tuple[list[PartitionQueue], float]) -> list[Change]:
    return [outage.step(queues, now_ms) for queues, now_ms in at]


def test_it_is_told_once_and_its_end_once() -> None:
    outage, queue = Outage(LINGER_MS), queue_with(1000.0)
    due = 1000 + LINGER_MS + PATIENCE_MS
    said = steps(outage, ([queue], due - 1), ([queue], due), ([queue], due + 1), ([queue], due + 60_000))
    assert said == [Change.NOTHING, Change.BEGAN, Change.NOTHING, Change.NOTHING]
    assert (outage.stuck, outage.since_ms) == ([queue], 1000 + LINGER_MS)
    queue.decided_ms = due + 60_001
    said = steps(outage, ([queue], due + 60_002), ([], due + 60_003))
    assert said == [Change.OVER, Change.NOTHING]


def test_a_long_queue_that_moves_is_no_outage() -> None:
    outage, queue = Outage(LINGER_MS), queue_with(0.0, 1.0, 2.0)
    for now_ms in range(0, 60_000, 100):
        queue.decided_ms = now_ms - PATIENCE_MS / 2
        assert outage.step([queue], now_ms) is Change.NOTHING


def test_one_stuck_partition_among_many_that_move_is_an_outage() -> None:
    outage, moving, stuck = Outage(0), queue_with(0.0), queue_with(0.0)
    moving.decided_ms = math.inf
    assert outage.step([moving, stuck], PATIENCE_MS) is Change.BEGAN
    assert outage.stuck == [stuck]


def test_partitions_that_follow_are_the_same_outage() -> None:
    outage, first, second = Outage(0), queue_with(0.0), queue_with(100.0)
    said = steps(outage, ([first, second], PATIENCE_MS), ([first, second], PATIENCE_MS + 100))
    assert said == [Change.BEGAN, Change.NOTHING]
    first.decided_ms = PATIENCE_MS + 150
    said = steps(outage, ([second], PATIENCE_MS + 200))
    assert said == [Change.NOTHING]
    second.decided_ms = PATIENCE_MS + 250
    assert outage.step([], PATIENCE_MS + 300) is Change.OVER


def test_records_that_were_given_up_are_not_acknowledged_again() -> None:
    outage, queue = Outage(0), queue_with(0.0)
    assert steps(outage, ([queue], PATIENCE_MS), ([], 120_000)) == [Change.BEGAN, Change.NOTHING]
