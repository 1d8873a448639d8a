"""Names of backups: the time of each in UTC, so that the last one is the newest, whatever clocks said meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = "%Y%m%dT%H%M%S.%fZ"
LEAST = timedelta(microseconds=1)
#: clocks of two machines may be apart by that, and nobody is told
CLOSE = timedelta(minutes=1)
UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
DAYS_OF_YEAR = 365


def now() -> datetime:
    """What the machine's clock says."""
    return datetime.now(UTC)


def name_of(moment: datetime) -> str:
    """The name of a backup that is taken then."""
    return moment.astimezone(UTC).strftime(NAME)


def moment_of(name: str) -> datetime | None:
    """When a backup was taken, by its name; None where somebody named it otherwise."""
    try:
        return datetime.strptime(name, NAME).replace(tzinfo=UTC)
    except ValueError:
        return None


def by_time(names: Iterable[str]) -> list[str]:
    """The oldest first. What has no time in its name comes before all that have: it is never the newest by accident."""
    return sorted(names, key=lambda it: (moment_of(it) or datetime.min.replace(tzinfo=UTC), it))


def next_name(names: Iterable[str], moment: datetime) -> str:
    """The name of a backup that is taken now, after all that are there: a clock that is behind does not decide."""
    known = [it for it in map(moment_of, names) if it is not None]
    return name_of(max([moment, *(it + LEAST for it in known)]))


def age(taken: datetime, moment: datetime) -> str:
    """How long ago something was, in words, in its largest unit."""
    seconds = int(abs(moment - taken).total_seconds())
    count, unit = next(((seconds // size, unit) for unit, size in UNITS if seconds >= size), (0, "second"))
    if unit == "day" and count >= 2 * DAYS_OF_YEAR:
        count, unit = count // DAYS_OF_YEAR, "year"
    return f"{count} {unit}{'' if count == 1 else 's'}"
