"""Time: what is to happen, in order. Two things at the same moment happen in the order in which they were arranged."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Agenda:
    """The virtual clock, in milliseconds, and what waits for it."""

    def __init__(self) -> None:
        self.now_ms = 0
        #: how many things have happened
        self.count = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def after(self, delay_ms: int, what: Callable[[], None]) -> None:
        """Arranges `what` for `delay_ms` from now."""
        heapq.heappush(self._heap, (self.now_ms + delay_ms, next(self._numbers), what))

    def run(self, *, events: int, until_ms: int) -> None:
        """Goes on until so many more things have happened, or so much time has passed."""
        last = self.count + events
        while self._heap and self.count < last and self._heap[0][0] <= until_ms:
            self.now_ms, _, what = heapq.heappop(self._heap)
            self.count += 1
            what()
