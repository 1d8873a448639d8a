"""What was seen of one partition, so that what is seen later can be held against it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile

from tests.simulation.machine import Log
from tests.simulation.records import Record

#: what nobody has any more
UNKNOWN: Record = (-1, -1)


@dataclass
class Era:
    """The time from one unclean election to the next: what was committed before may be lost by it, not in it."""

    #: the first leader epoch
    epoch: int
    #: what every replica must hold at an offset, since some leader had it below its high watermark; None until the
    #: first leader of the era tells what is left
    committed: list[Record] | None


@dataclass
class History:
    """One partition's."""

    eras: list[Era] = field(default_factory=lambda: [Era(-1, [])])
    #: offset by value, of what a producer was told is in the log
    acknowledged: dict[int, int] = field(default_factory=dict)
    #: the process, as (broker, broker epoch), that led in an epoch
    leaders: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: the latest offset that a client was told
    told_end: int = 0

    @property
    def committed(self) -> list[Record]:
        """What is committed as of the latest leader that there was."""
        return next(it.committed for it in reversed(self.eras) if it.committed is not None)

    @property
    def has_lost(self) -> bool:
        """Whether there was an unclean election."""
        return len(self.eras) > 1

    def committed_in(self, epoch: int) -> list[Record] | None:
        """What is committed as leaders of that epoch see it; None where nobody has led in its era."""
        return next(it.committed for it in reversed(self.eras) if it.epoch <= epoch)

    def begins(self, epoch: int, log: Log) -> None:
        """A leader with that log begins: the first of an era says what is left of the one before."""
        number = max(at for at, it in enumerate(self.eras) if it.epoch <= epoch)
        if self.eras[number].committed is not None:
            return
        before = next(it.committed for it in reversed(self.eras[:number]) if it.committed is not None)
        start = log.start
        kept = before[:start] + [UNKNOWN] * (start - len(before))
        both = zip(before[start:], log.records(start, len(before)), strict=False)
        self.eras[number].committed = kept + [it for it, _ in takewhile(lambda it: it[0] == it[1], both)]

    def was_committed(self, offset: int, records: list[Record]) -> bool:
        """Whether these were committed there at some time."""
        eras = [it.committed for it in self.eras if it.committed is not None]
        return any(it[offset : offset + len(records)] == records for it in eras)


def first_difference(log: Log, start: int, committed: list[Record], end: int) -> int | None:
    """The first offset from `start` on and below `end` where `log`, as far as it reaches, is not what is committed."""
    start = max(start, log.start)
    held = log.records(start, end)
    wanted = committed[start:end]
    if held == wanted:
        return None
    return start + next(n for n in range(len(wanted) + 1) if held[n : n + 1] != wanted[n : n + 1])
