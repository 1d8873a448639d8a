"""Whatever befalls a cluster, nothing that was acknowledged is lost, and it comes to rest when all works again."""

from __future__ import annotations

import time

import pytest

from tests.simulation.run import SHOWN, Outcome, simulate

#: seeds of one test, of which there are eight
SEEDS = 250
EVENTS = 600


def check(outcome: Outcome) -> None:
    assert not outcome.violation, "\n".join(
        [f"seed {outcome.seed}: {outcome.violation}", *outcome.trace[-SHOWN:]]
    )


def run(first: int, count: int, events: int) -> None:
    acknowledged = 0
    for seed in range(first, first + count):
        outcome = simulate(seed, events=events)
        check(outcome)
        acknowledged += outcome.acknowledged
    # records went through, also while there were faults
    assert acknowledged > 10 * count


def base() -> int:
    """Other seeds in each run; a failure names its own."""
    first = int(time.time()) * 10_000
    print(f"seeds from {first}")
    return first


@pytest.mark.parametrize("part", range(8))
def test_other_seeds_each_time(part: int) -> None:
    run(base() + part * SEEDS, SEEDS, EVENTS)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(16))
def test_many_seeds_and_long_troubles(part: int) -> None:
    run(base() + part * SEEDS, SEEDS, 6_000)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_seed_is_the_same_story(seed: int) -> None:
    assert simulate(seed) == simulate(seed)


def test_other_seeds_are_other_stories() -> None:
    assert simulate(1).trace != simulate(2).trace
