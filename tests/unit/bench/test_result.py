"""What a result says of itself."""

from __future__ import annotations

import json

from fastlog.bench.harness.result import Result, from_pairs, from_rounds
from fastlog.bench.harness.statistics import Pairs, Round

KEYS = [
    "name",
    "records",
    "seconds",
    "records_per_second",
    "megabytes_per_second",
    "p50_ms",
    "p99_ms",
    "limit",
    "ratio_to_limit",
]


def test_what_does_not_apply_is_null_and_there_all_the_same() -> None:
    document = json.loads(json.dumps(Result(name="nothing").as_json()))
    assert list(document) == [*KEYS, "settings"]
    assert document == {"name": "nothing", "settings": {}} | dict.fromkeys(KEYS[1:])


def test_a_result_shows_the_median_round_and_the_percentiles_of_all() -> None:
    rounds = [
        Round(10, 1.0, 5_000_000, [1_000_000]),
        Round(10, 4.0, 5_000_000, [9_000_000]),
        Round(10, 2.0, 5_000_000, [3_000_000]),
    ]
    found = from_rounds("name", rounds)
    assert (found.records_per_second, found.megabytes_per_second, found.seconds) == (5.0, 2.5, 2.0)
    assert (found.p50_ms, found.p99_ms) == (3.0, 9.0)


def test_the_ratio_is_the_median_of_the_pairs_with_its_spread() -> None:
    rates = [(50, 100), (90, 100), (10, 200)]
    pairs = Pairs([Round(a, 1.0, 0) for a, _ in rates], [Round(b, 1.0, 0) for _, b in rates])
    document = from_pairs("name", pairs, limit="the measure", settings={"size": 100}).as_json()
    assert (document["ratio_min"], document["ratio_to_limit"], document["ratio_max"]) == (0.05, 0.5, 0.9)
    assert document["limit"] == "the measure"
    assert document["settings"] == {"size": 100, "pairs": 3}
    assert document["broker_cpu_seconds_per_million_records"] is None


def test_the_brokers_time_is_over_all_rounds() -> None:
    subjects = [Round(1_000_000, 1.0, 0, (), 0.1), Round(3_000_000, 1.0, 0, (), 0.5)]
    pairs = Pairs(subjects, [Round(1, 1.0, 0)] * 2)
    document = from_pairs("name", pairs, limit="", settings={}).as_json()
    assert document["broker_cpu_seconds_per_million_records"] == 0.15


def test_only_a_broken_promise_is_a_failure() -> None:
    assert not Result(name="quick").failed
    assert not Result(name="kept", details={"passed": True}).failed
    assert Result(name="broken", details={"passed": False}).failed
