"""How long the producer leaves open batches to fill."""

from __future__ import annotations

from fastlog.client.producer.hold import BATCH_MS_MAX, HOLD_MS_MAX, Hold


def took(count: int) -> Hold:
    hold = Hold()
    for _ in range(count):
        hold.took()
    return hold


def test_nothing_is_held_where_the_sender_did_not_wait() -> None:
    assert took(5000).worked(100.0, 100.0) == 0


def test_batches_are_held_twice_as_long_as_the_sender_waited() -> None:
    hold = took(5000)
    assert hold.worked(100.0, 40.0) == 120
    # told once
    assert hold.worked(10.0, 2.0) is None
    hold.took()
    # what was waited for without taking any counts too
    for _ in range(4999):
        hold.took()
    assert hold.worked(10.0, 10.0) == 16


def test_few_partitions_do_not_wait() -> None:
    assert took(1).worked(1000.0, 1.0) == BATCH_MS_MAX
    assert took(1_000_000).worked(100_000.0, 1.0) == HOLD_MS_MAX


def test_clocks_that_disagree_hold_nothing() -> None:
    assert took(10).worked(1.0, 1.5) == 0
