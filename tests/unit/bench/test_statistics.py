"""Pairs, ratios and percentiles."""

from __future__ import annotations

from operator import attrgetter

import pytest

from fastlog.bench.harness.statistics import Pairs, Round, percentile, percentile_ms, run_pairs


def test_memory_is_made_ready_before_each_run_of_either_side() -> None:
    calls: list[str] = []

    def side(name: str) -> Round:
        calls.append(name)
        return Round(1, 1.0, 0)

    run_pairs(
        lambda: side("subject"),
        lambda: side("limit"),
        2,
        lambda _: None,
        prepare=lambda: calls.append("prepare"),
    )
    assert calls[::2] == ["prepare"] * 6
    assert calls[1::2] == ["subject", "limit", "subject", "limit", "limit", "subject"]


def test_both_sides_warm_up_once_and_then_begin_in_turn() -> None:
    calls: list[str] = []
    told: list[int] = []

    def side(name: str) -> Round:
        calls.append(name)
        return Round(len(calls), 1.0, 0)

    pairs = run_pairs(lambda: side("subject"), lambda: side("limit"), 3, told.append)
    assert calls == ["subject", "limit", *["subject", "limit"], *["limit", "subject"], *["subject", "limit"]]
    assert [one.records for one in pairs.subjects] == [3, 6, 7], "the warm-up does not count"
    assert [one.records for one in pairs.limits] == [4, 5, 8]
    assert told == [1, 1, 1]


def test_ratios_are_of_each_pair_and_not_of_medians() -> None:
    subjects = [Round(100, 1.0, 0), Round(200, 1.0, 0), Round(900, 3.0, 0)]
    limits = [Round(200, 1.0, 0), Round(800, 1.0, 0), Round(300, 1.0, 0)]
    assert Pairs(subjects, limits).ratios(attrgetter("rate")) == [0.5, 0.25, 1.0]


def test_quickness_compares_the_median_operation() -> None:
    slow, quick = Round(3, 1.0, 0, [400, 100, 200]), Round(3, 1.0, 0, [50, 100, 9000])
    assert Pairs([slow], [quick]).ratios(attrgetter("quickness")) == [0.5]


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        (range(1, 101), 50, 50),
        (range(1, 101), 99, 99),
        (range(1, 101), 100, 100),
        (range(1, 1001), 99, 990),
        ([7], 50, 7),
        ([7], 99, 7),
        ([1, 2], 50, 1),
        ([1, 2], 51, 2),
        ([1, 2, 3], 0, 1),
    ],
)
def test_percentiles_are_the_nearest_rank(values: list[int], percent: float, expected: int) -> None:
    assert percentile(list(values), percent) == expected


def test_percentiles_of_times_in_any_order_are_milliseconds_and_of_nothing_null() -> None:
    assert percentile_ms([3_000_000, 1_000_000, 2_000_000], 50) == 2.0
    assert percentile_ms([], 99) is None
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)
