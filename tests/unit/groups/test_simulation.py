"""Groups under joins, leaves, kills, time-outs, commits, restarts and failing appends, by the seed."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from fastlog.state.effects import STORED, Effects, Write
from fastlog.state.group.session import Sessions
from fastlog.state.records import Record
from tests.support.group_simulation import run
from tests.support.group_world import START

# another one each run; the failing seed is in the message
BASE = int(os.environ.get("FASTLOG_SEED", "0")) or random.randrange(1 << 32)


def test_groups_keep_their_promises() -> None:
    runs = [run(BASE + number, 400) for number in range(40)]
    # it would prove nothing if nothing happened
    assert sum(it.rebalances for it in runs) > 400
    assert sum(it.commits for it in runs) > 1_000
    assert sum(it.restarts for it in runs) > 50


@pytest.mark.long
@pytest.mark.timeout(300)
def test_groups_keep_their_promises_for_long() -> None:
    for number in range(1_000):
        run(BASE + number, 600)


def test_the_same_seed_is_the_same_run() -> None:
    assert run(3, 300).trace == run(3, 300).trace


def finds(seeds: int) -> bool:
    """Whether one of so many seeds fails."""
    for seed in range(seeds):
        try:
            run(seed, 400)
        except (AssertionError, KeyError):
            return True
    return False


def test_commits_of_an_old_generation_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastlog.state.coordinator.check_commit", lambda *_: None)
    assert finds(20)


def test_a_generation_that_is_told_before_it_is_written_would_be_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(self: Effects, records: list[Record], then: Any = None) -> None:
        self.writes.append(Write(records))
        if then is not None:
            then(STORED, START, self)

    monkeypatch.setattr(Effects, "write", write)
    assert finds(40)


def test_members_that_are_never_lost_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sessions, "session_over", lambda *_: None)
    assert finds(20)
