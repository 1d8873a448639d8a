"""What a bench found: one line of JSON, or one row of a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from fastlog.bench.harness.statistics import Pairs, Round, median_of, percentile_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MEGABYTE = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One finding. None is what does not apply.

    `records`, `seconds` and the rates are of one round, the median one by its rate; the percentiles are over the
    operations of all rounds. `limit` names the measure that `ratio_to_limit` compares with: the median of the ratios
    of the pairs, 1.0 where the limit is reached and more where it is beaten. `details` are further figures of this
    bench, `settings` what it was run with.
    """

    name: str
    records: int | None = None
    seconds: float | None = None
    records_per_second: float | None = None
    megabytes_per_second: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    limit: str | None = None
    ratio_to_limit: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether the bench found a promise broken; only some look for one."""
        return self.details.get("passed") is False

    def as_json(self) -> dict[str, Any]:
        """One flat object; `settings` last."""
        names = [name for name in self.__slots__ if name not in {"details", "settings"}]
        document = {name: rounded(getattr(self, name)) for name in names}
        document |= {name: rounded(value) for name, value in self.details.items()}
        return document | {"settings": dict(self.settings)}


def from_rounds(name: str, rounds: list[Round], **fields: Any) -> Result:
    """The median round of a subject, with its percentiles."""
    times = list(chain.from_iterable(one.times_ns for one in rounds))
    middle = sorted(rounds, key=attrgetter("rate"))[len(rounds) // 2]
    return Result(
        name=name,
        records=middle.records,
        seconds=middle.seconds,
        records_per_second=middle.records / middle.seconds,
        megabytes_per_second=middle.bytes / middle.seconds / MEGABYTE if middle.bytes else None,
        p50_ms=percentile_ms(times, 50),
        p99_ms=percentile_ms(times, 99),
        **fields,
    )


def from_pairs(
    name: str,
    pairs: Pairs,
    *,
    limit: str,
    settings: Mapping[str, Any],
    measure: Callable[[Round], float] = attrgetter("rate"),
) -> Result:
    """The median round of the subject beside its limit, with the spread of the pairs, compared by `measure`."""
    ratios = pairs.ratios(measure)
    limits = from_rounds("limit", list(pairs.limits))
    spread = {
        **broker_cpu(pairs.subjects),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "limit_records_per_second": limits.records_per_second,
        "limit_megabytes_per_second": limits.megabytes_per_second,
        "limit_p50_ms": limits.p50_ms,
        "limit_p99_ms": limits.p99_ms,
    }
    return from_rounds(
        name,
        list(pairs.subjects),
        limit=limit,
        ratio_to_limit=median_of(ratios),
        details=spread,
        settings={**settings, "pairs": len(ratios)},
    )


def broker_cpu(rounds: Sequence[Round]) -> dict[str, float | None]:
    """The broker's processor time over all rounds; None where it is not known."""
    seconds = [one.broker_cpu_seconds for one in rounds if one.broker_cpu_seconds is not None]
    if len(seconds) < len(rounds):
        return {"broker_cpu_seconds_per_million_records": None}
    return {"broker_cpu_seconds_per_million_records": sum(seconds) / sum(one.records for one in rounds) * 1e6}


def rounded(value: Any) -> Any:
    """Six significant digits are more than any of this is worth."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
