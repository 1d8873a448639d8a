"""A thread that does what it is given, in order, and what is due, in time."""

from __future__ import annotations

import heapq
import itertools
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from fastlog.events import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.broker.controller.ports import Work
    from fastlog.ports import Clock


class Loop:
    """The Schedule of a real process. What raises is told to `failed`, on the thread itself, and the thread goes on."""

    def __init__(self, name: str, clock: Clock, failed: Callable[[Exception], None]) -> None:
        self._clock = clock
        self._failed = failed
        self._log = EventLog("cluster")
        self._waiting: SimpleQueue[Work | None] = SimpleQueue()
        self._due: list[tuple[int, int, Work]] = []
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread; what was put before is done first."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread when all that was put is done; what is due later is not. Not on the thread itself."""
        self._waiting.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def now_ms(self) -> int:
        """See Schedule."""
        return self._clock.monotonic_ms()

    def put(self, work: Work) -> None:
        """See Schedule."""
        self._waiting.put(work)

    def after(self, delay_ms: int, work: Work) -> None:
        """See Schedule."""
        # the number keeps the order of what is due at one moment, and work from being compared
        heapq.heappush(self._due, (self.now_ms() + delay_ms, next(self._numbers), work))

    def _run(self) -> None:
        while True:
            # what is due goes first: much to do must not keep the beacons back
            while self._due and self._due[0][0] <= self.now_ms():
                self._do(heapq.heappop(self._due)[2])
            seconds = max(0, self._due[0][0] - self.now_ms()) / 1000 if self._due else None
            try:
                work = self._waiting.get(timeout=seconds)
            except Empty:
                continue
            if work is None:
                return
            self._do(work)
            # nothing of it is kept while there is no next one
            del work

    def _do(self, work: Work) -> None:
        try:
            work()
        except Exception as error:
            self._tell_failed(error)

    def _tell_failed(self, error: Exception) -> None:
        try:
            self._failed(error)
        except Exception:
            # a broker whose thread had ended would stay registered, and hear of nothing any more
            self._log.exception("what is done about an error failed itself", thread=self._thread.name)
