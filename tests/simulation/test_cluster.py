"""Whatever befalls a cluster, nothing that was acknowledged is lost, and it comes to rest when all works again."""

from __future__ import annotations

import os

import pytest

from tests.simulation.run import SHOWN, Outcome, simulate

#: seeds of one test, of which there are eight
SEEDS = 250
EVENTS = 600
#: and of one of the sixteen with ten times the events
LONG_SEEDS = 50


def check(outcome: Outcome, events: int) -> None:
    again = f"again: python -m tests.simulation.run {outcome.seed} 1 {events}"
    assert not outcome.violation, "\n".join([*outcome.trace[-SHOWN:], again, outcome.violation])


def run(first: int, count: int, events: int) -> None:
    acknowledged = 0
    for seed in range(first, first + count):
        outcome = simulate(seed, events=events)
        check(outcome, events)
        acknowledged += outcome.acknowledged
    # records went through, also while there were faults
    assert acknowledged > 10 * count


def base() -> int:
    """Other seeds in each run, as its summary tells; a failure names its own."""
    return int(os.environ["FASTLOG_SIMULATION_SEEDS"])


@pytest.mark.timeout(180)
@pytest.mark.parametrize("part", range(8))
def test_other_seeds_each_time(part: int) -> None:
    run(base() + part * SEEDS, SEEDS, EVENTS)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(16))
def test_many_seeds_and_long_troubles(part: int) -> None:
    run(base() + part * LONG_SEEDS, LONG_SEEDS, 10 * EVENTS)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_seed_is_the_same_story(seed: int) -> None:
    assert simulate(seed) == simulate(seed)


def test_other_seeds_are_other_stories() -> None:
    assert simulate(1).trace != simulate(2).trace
