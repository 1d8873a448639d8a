"""Medians, percentiles and pairs: how many measurements become one number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: a median of fewer pairs says little on a machine where the same command moves by a factor of two
PAIRS_MIN = 5


@dataclass(frozen=True, slots=True)
class Round:
    """One run of a subject or of a limit."""

    records: int
    seconds: float
    bytes: int
    #: nanoseconds of single operations, in any order; empty where they have no time of their own
    times_ns: Sequence[int] = ()
    #: processor time of the broker meanwhile; None where it is not known
    broker_cpu_seconds: float | None = None

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds

    @property
    def quickness(self) -> float:
        """Operations a second, one after the other, at the median operation's time."""
        return 1e9 / percentile(sorted(self.times_ns), 50)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Runs of a subject and of its limit, pair by pair."""

    subjects: Sequence[Round]
    limits: Sequence[Round]

    def ratios(self, measure: Callable[[Round], float]) -> list[float]:
        """Subject by limit of each pair, by a measure of which more is better."""
        pairs = zip(self.subjects, self.limits, strict=True)
        return [measure(subject) / measure(limit) for subject, limit in pairs]


def run_pairs(
    subject: Callable[[], Round],
    limit: Callable[[], Round],
    pairs: int,
    done: Callable[[int], None],
    *,
    prepare: Callable[[], None] = lambda: None,
) -> Pairs:
    """Runs both in turn, `pairs` times, after one run each that does not count; `prepare` is called before each run.

    Who runs first changes from pair to pair: what one leaves behind (dirty pages, a warm cache, a slow minute) meets
    the other as often. `done` is told of each pair.
    """
    subjects: list[Round] = []
    limits: list[Round] = []
    sides = [(subject, subjects), (limit, limits)]
    for side, _ in sides:
        prepare()
        side()
    for number in range(pairs):
        for side, rounds in reversed(sides) if number % 2 else sides:
            prepare()
            rounds.append(side())
        done(1)
    return Pairs(subjects, limits)


def percentile(sorted_values: Sequence[int], percent: float) -> int:
    """The nearest-rank percentile: the least value that at least `percent` of all do not exceed."""
    if not sorted_values:
        raise ValueError("there is no percentile of nothing")
    rank = math.ceil(len(sorted_values) * percent / 100)
    return sorted_values[max(rank, 1) - 1]


def percentile_ms(times_ns: Sequence[int], percent: float) -> float | None:
    """The percentile of nanoseconds in any order, in milliseconds; None of nothing."""
    return percentile(sorted(times_ns), percent) / 1e6 if times_ns else None


def median_of(values: Sequence[float]) -> float:
    """The median; the mean of the two in the middle of an even number."""
    return float(median(values))
