"""Exponential back-off with jitter."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

JITTER = 0.2  # Kafka's: so that clients that failed together do not come back together


class Backoff:
    """Delays that double from `first_ms` up to `max_ms`, each off by up to 20 %."""

    def __init__(self, first_ms: float, max_ms: float, random: Callable[[], float]) -> None:
        """`random` gives numbers from 0 to 1."""
        self._first_ms = first_ms
        self._max_ms = max_ms
        self._random = random

    def delay_ms(self, attempt: int) -> float:
        """The delay after the `attempt`-th failure in a row (1, 2, …)."""
        # 2 ** 30 is more than any bound here; larger exponents would only cost time
        delay = min(self._first_ms * 2.0 ** min(attempt - 1, 30), self._max_ms)
        return delay * (1 - JITTER + 2 * JITTER * self._random())
