"""The judges of a soak: each fault that they are for, and no other."""

from __future__ import annotations

import pytest

from fastlog.bench.soak.compacted import CompactedChecker, digest, key_of
from fastlog.bench.soak.record import SIZE_MIN, BrokenRecordError, Checker, make_value
from fastlog.bench.soak.run import Settings
from fastlog.bench.soak.watch import growth, is_flat
from fastlog.bench.soak.windows import STRAGGLERS_NS, WINDOW_NS, Windows
from fastlog.native._records import Record


def record(
    number: int, *, offset: int | None = None, partition: int = 0, value: bytes | None = None
) -> Record:
    made, _ = make_value(number, 1000 + number, b"filling")
    return Record("topic", partition, number if offset is None else offset, 0, None, value or made)


def test_records_in_order_are_counted_and_summed_by_partition() -> None:
    checker = Checker(2)
    crcs = [make_value(number, 1000 + number, b"filling")[1] for number in range(3)]
    dues = [checker.note(record(number, partition=1)) for number in range(3)]
    assert dues == [1000, 1001, 1002]
    assert (checker.records, checker.next, checker.checksums) == (3, [0, 3], [0, sum(crcs)])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (record(2), "a gap"),
        (record(0), "a duplicate"),
        (record(1, offset=2), "a duplicate"),
        (record(2, offset=1), "a gap"),
        (record(1, value=make_value(1, 0, b"filling")[0][:-1] + b"x"), "the bytes have changed"),
        (record(1, value=b"x" * (SIZE_MIN - 1)), "none of our records"),
    ],
)
def test_whatever_is_not_the_next_record_is_named(wrong: Record, named: str) -> None:
    checker = Checker(1)
    checker.note(record(0))
    with pytest.raises(BrokenRecordError, match=named):
        checker.note(wrong)


def test_a_rewinding_reader_may_begin_anywhere_but_skips_nothing() -> None:
    checker = Checker(1)
    checker.note(record(0))
    checker.jump()
    checker.note(record(70))
    checker.note(record(71))
    with pytest.raises(BrokenRecordError, match="a gap"):
        checker.note(record(73))
    checker.jump()
    # a record that lies where another should
    with pytest.raises(BrokenRecordError):
        checker.note(record(5, offset=6))


def test_each_window_is_told_once_and_who_comes_later_counts_for_the_next() -> None:
    windows = Windows()
    start = 1_000
    windows.note(start, start + 2_000_000)
    windows.note(start + WINDOW_NS, start + WINDOW_NS + 4_000_000)
    assert windows.take_over(start + WINDOW_NS + STRAGGLERS_NS - 1) == []
    first = windows.take_over(start + WINDOW_NS + STRAGGLERS_NS)
    assert first == [{"window": 1, "records": 1, "p50_ms": 2.0, "p99_ms": 2.0}]
    windows.note(start, start + WINDOW_NS + 6_000_000)
    assert windows.take_over(start + 2 * WINDOW_NS) == []
    assert windows.take_over(None) == [{"window": 2, "records": 2, "p50_ms": 4.0, "p99_ms": 10_006.0}]
    assert windows.take_over(None) == []


def test_growth_is_the_last_third_by_the_second() -> None:
    warm_up = [10.0] * 20
    assert growth([*warm_up, *[100.0] * 40]) == 1.0
    assert growth([*warm_up, *[100.0] * 20, *[106.0] * 20]) == pytest.approx(1.06)
    assert is_flat([*warm_up, *[100.0] * 20, *[105.0] * 20])
    assert not is_flat([*warm_up, *[100.0] * 20, *[106.0] * 20])
    assert is_flat([*warm_up, *[100.0] * 20, *[90.0] * 20]), "shrinking is no fault"
    # one spike is none either
    assert is_flat([*warm_up, *[100.0] * 30, 500.0, *[100.0] * 9])


def test_too_few_samples_tell_nothing() -> None:
    assert growth([1.0, 2.0, 3.0]) is None
    assert is_flat([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("minutes", "window"), [(0.05, 3.0), (0.5, 10.0), (1, 20.0), (10, 60.0), (600, 60.0)]
)
def test_retention_keeps_a_third_of_a_short_run_and_a_minute_of_a_long_one(
    minutes: float, window: float
) -> None:
    settings = Settings(minutes=minutes, rate=1_000_000, partitions=1)
    assert settings.window_seconds == pytest.approx(window)
    kept = int(settings.topic_configs()["retention.bytes"])
    assert kept == pytest.approx(1_000_000 * 110 * window, rel=0.01)
    assert settings.must_delete() == (minutes > 0.1)


def test_a_slow_soak_need_not_delete() -> None:
    settings = Settings(minutes=0.1, rate=10)
    assert settings.topic_configs()["segment.bytes"] == str(1 << 20)
    assert not settings.must_delete()


def keyed(number: int, *, offset: int | None = None, key: bytes | None = None) -> Record:
    value, _ = make_value(number, 1000, b"filling")
    return Record("topic", 0, number if offset is None else offset, 0, key or key_of(number), value)


def test_what_a_compacted_topic_may_lack_is_any_record_but_the_latest() -> None:
    checker = CompactedChecker()
    for number in (0, 3, 1003, 2000):
        checker.note(keyed(number))
    assert (checker.records, checker.next) == (4, 2001)
    assert checker.latest == {key_of(0): 2000, key_of(3): 1003}
    assert digest(checker.latest) == digest({key_of(3): 1003, key_of(0): 2000})
    assert digest(checker.latest) != digest({key_of(3): 3, key_of(0): 2000})
    assert digest(checker.latest) != digest({key_of(0): 2000})


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (keyed(4), "record 4 comes where 6 or a later one may"),
        (keyed(7, offset=8), "record 7 comes where 6 or a later one may"),
        (keyed(6, key=key_of(7)), "the bytes have changed"),
        (record(6), "none of our records"),
    ],
)
def test_what_no_compaction_leaves_is_named(wrong: Record, named: str) -> None:
    checker = CompactedChecker()
    checker.note(keyed(5))
    with pytest.raises(BrokenRecordError, match=named):
        checker.note(wrong)


def test_a_short_soak_need_not_clean() -> None:
    assert not Settings(minutes=0.1).must_clean()
    assert Settings(minutes=10).must_clean()
