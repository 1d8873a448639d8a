"""Messages between brokers, the store and clients: late, out of order, twice, or never."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.simulation.events import Agenda

#: the ends that are no brokers
STORE = 0
CLIENTS = -1

DELAY_MS = (0, 4)
#: of a message that is overtaken
LATE_MS = ((20, 400), (400, 5_000))


class Network:
    """Carries calls. What a broker is sent while it is stopped waits for it; what is sent to a dead one is gone."""

    def __init__(self, agenda: Agenda, rng: random.Random) -> None:
        self._agenda = agenda
        self._rng = rng
        #: one-way cuts, as (from, to)
        self.cuts: set[tuple[int, int]] = set()
        #: the share of messages that are lost, twice there, late
        self.lossy = 0.0
        #: the next message arrives this much later; also at its time, or not
        self.next_late: tuple[int, bool] | None = None

    def send(self, source: int, target: int, deliver: Callable[[], None]) -> None:
        """Has `deliver` called at the other end, some time, or not at all."""
        rng = self._rng
        if (source, target) in self.cuts or rng.random() < self.lossy:
            return
        delay = rng.randint(*DELAY_MS)
        if self.next_late is not None:
            (late_ms, also_now), self.next_late = self.next_late, None
            self._agenda.after(delay + late_ms, lambda: self._arrive(source, target, deliver))
            if not also_now:
                return
        if self.lossy and rng.random() < self.lossy:
            delay = self._late_ms()
        self._agenda.after(delay, lambda: self._arrive(source, target, deliver))
        if self.lossy and rng.random() < self.lossy:
            self._agenda.after(delay + self._late_ms(), lambda: self._arrive(source, target, deliver))

    def _late_ms(self) -> int:
        return self._rng.randint(*self._rng.choice(LATE_MS))

    def _arrive(self, source: int, target: int, deliver: Callable[[], None]) -> None:
        if (source, target) not in self.cuts:
            deliver()

    def cut(self, source: int, target: int) -> None:
        """Nothing gets from `source` to `target` any more."""
        self.cuts.add((source, target))

    def heal(self) -> None:
        """All ends reach each other again, and messages arrive once and soon."""
        self.cuts.clear()
        self.lossy = 0.0
