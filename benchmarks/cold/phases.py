"""The rounds: each has a phase of every kind, in an order that turns."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.cold.backlog import Backlog
    from benchmarks.cold.readers import Readers
    from benchmarks.cold.writer import Phase, Writer


class Load(StrEnum):
    """What there is beside the writer."""

    #: nothing
    ALONE = "alone"
    #: readers of what is in memory, as many bytes a second as the readers of the backlog had last: what it costs to
    #: send so much, whatever the disk does
    WARM = "warm"
    #: readers of the backlog, as fast as it comes
    COLD = "cold"


class Rounds:
    """Phases of one number of readers, and what each came to."""

    def __init__(
        self, writer: Writer, process: Readers, backlogs: Mapping[Load, Backlog], count: int, seconds: float
    ) -> None:
        self._writer = writer
        self._process = process
        self._backlogs = backlogs
        self._count = count
        self.seconds = seconds
        #: bytes a second that the readers of the backlog had last
        self._rate: float | None = None
        self._clear()

    def _clear(self) -> None:
        self.phases: dict[Load, list[Phase]] = {load: [] for load in Load}
        #: the bytes of each reader
        self.read: dict[Load, list[list[int]]] = {load: [] for load in Load}
        #: processors that the broker took
        self.broker_cpu: dict[Load, list[float]] = {load: [] for load in Load}

    def run(self, rounds: int) -> None:
        """One round that does not count, and so many that do; blocks."""
        for load in (Load.ALONE, Load.COLD, Load.WARM):
            self._phase(load)
        self._clear()
        loads = list(Load)
        for number in range(rounds):
            turn = number % len(loads)
            for load in loads[turn:] + loads[:turn]:
                self._phase(load)

    def _phase(self, load: Load) -> None:
        if load is Load.WARM:
            # what the backlog's readers have pushed out is to be there again
            self._process.start(self._backlogs[load], self._count, self.seconds / 4)
            self._process.join()
        if load is not Load.ALONE:
            rate = self._rate if load is Load.WARM else None
            self._process.start(self._backlogs[load], self._count, self.seconds, rate)
        phase = self._writer.write(self.seconds)
        if load is not Load.ALONE:
            read = self._process.join()
            self.read[load].append(read)
            if load is Load.COLD:
                self._rate = sum(read) / self.seconds
        self.phases[load].append(phase)
        if phase.broker_cpu is not None:
            self.broker_cpu[load].append(phase.broker_cpu)
