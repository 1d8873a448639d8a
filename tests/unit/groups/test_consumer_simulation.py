"""Groups of the consumer protocol under joins, leaves, losses, stalls, restarts and failing writes, by the seed."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from fastlog.state.consumer_group import checks, reconcile
from tests.support.consumer_simulation import run

# another one each run; the failing seed is in the message
BASE = int(os.environ.get("FASTLOG_SEED", "0")) or random.randrange(1 << 32)


def test_groups_keep_their_promises() -> None:
    runs = [run(BASE + number, 150) for number in range(30)]
    # it would prove nothing if nothing happened
    assert sum(it.moves for it in runs) > 200
    assert sum(it.restarts for it in runs) > 30
    assert sum(it.failures for it in runs) > 30


@pytest.mark.long
@pytest.mark.timeout(300)
def test_groups_keep_their_promises_for_long() -> None:
    for number in range(1_000):
        run(BASE + number, 300)


def test_the_same_seed_is_the_same_run() -> None:
    assert run(3, 100).trace == run(3, 100).trace


def finds(seeds: int) -> bool:
    """Whether one of so many seeds fails."""
    for seed in range(seeds):
        try:
            run(seed, 150)
        except AssertionError:
            return True
    return False


def test_partitions_that_are_given_too_early_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def still_has(*_: Any) -> bool:
        return False

    monkeypatch.setattr(reconcile, "_still_has", still_has)
    assert finds(10)


def test_a_member_that_stays_fenced_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "JOIN_EPOCH", None)
    assert finds(10)
