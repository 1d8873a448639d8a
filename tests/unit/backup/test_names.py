"""Names of backups: the last one is the newest, whatever clocks said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fastlog.backup.names import age, by_time, moment_of, name_of, next_name

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_names_sort_by_time() -> None:
    names = [name_of(NOW + timedelta(microseconds=number * 333_333)) for number in range(20)]
    assert names == sorted(names) == by_time(reversed(names))
    assert len(set(names)) == 20
    assert moment_of(names[7]) == NOW + timedelta(microseconds=7 * 333_333)


def test_a_name_that_somebody_gave_is_not_the_newest() -> None:
    first, second = name_of(NOW), name_of(NOW + timedelta(days=1))
    assert by_time([second, "before-the-upgrade", first, "1"]) == ["1", "before-the-upgrade", first, second]
    assert moment_of("before-the-upgrade") is None


@pytest.mark.parametrize(
    ("clocks", "expected"),
    [
        ([], NOW),
        ([NOW - timedelta(days=1)], NOW),
        ([NOW], NOW + timedelta(microseconds=1)),
        (
            [NOW - timedelta(days=1), datetime(2099, 1, 1, tzinfo=UTC)],
            datetime(2099, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        ),
    ],
)
def test_the_next_name_comes_after_all_that_are_there(clocks: list[datetime], expected: datetime) -> None:
    names = ["zzz", *map(name_of, clocks)]
    found = next_name(names, NOW)
    assert found == name_of(expected)
    assert by_time([*names, found])[-1] == found


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        (timedelta(milliseconds=3), "0 seconds"),
        (timedelta(seconds=1), "1 second"),
        (timedelta(minutes=119), "1 hour"),
        (timedelta(days=400), "400 days"),
        (timedelta(days=-365 * 73), "73 years"),
    ],
)
def test_an_age_is_told_in_its_largest_unit(ago: timedelta, expected: str) -> None:
    assert age(NOW - ago, NOW) == expected
