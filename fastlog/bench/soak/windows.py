"""The latencies of a soak, by windows of ten seconds."""

from __future__ import annotations

from typing import Any

from fastlog.bench.harness.statistics import percentile

WINDOW_SECONDS = 10
WINDOW_NS = WINDOW_SECONDS * 1_000_000_000
#: records of a window that is over may still come for so long
STRAGGLERS_NS = 5_000_000_000


class Windows:
    """Groups latencies by the window in which their records were due, the first record's window first.

    A record that comes when its window was already told counts for the first window that was not.
    """

    def __init__(self) -> None:
        self._latencies: dict[int, list[int]] = {}
        #: when the first record was due; the monotonic clock is the same in all processes of a machine
        self._start_ns: int | None = None
        self._told = 0

    def note(self, due_ns: int, now_ns: int) -> None:
        """Notes a record that was due then and came now."""
        if self._start_ns is None:
            self._start_ns = due_ns
        window = max((due_ns - self._start_ns) // WINDOW_NS, self._told)
        self._latencies.setdefault(window, []).append(now_ns - due_ns)

    def take_over(self, now_ns: int | None) -> list[dict[str, Any]]:
        """The windows that are over and not told yet; all that are left where no time is given."""
        if now_ns is not None and self._start_ns is not None:
            over = (now_ns - STRAGGLERS_NS - self._start_ns) // WINDOW_NS
        else:
            over = max(self._latencies, default=-1) + 1
        return [self._take(window) for window in sorted(self._latencies) if window < over]

    def _take(self, window: int) -> dict[str, Any]:
        self._told = window + 1
        times = sorted(self._latencies.pop(window))
        figures = {f"p{percent}_ms": percentile(times, percent) / 1e6 for percent in (50, 99)}
        return {"window": window + 1, "records": len(times), **figures}
