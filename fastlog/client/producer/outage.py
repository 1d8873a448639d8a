"""When to tell the application that its records are not acknowledged: once when it begins, once when it is over."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.client.producer.partition_queue import PartitionQueue

#: long enough for a leader to be elected or a broker to start anew, short enough for whoever waits at a terminal
PATIENCE_MS = 5_000.0


class Change(enum.Enum):
    """What to tell now."""

    NOTHING = "nothing"
    BEGAN = "began"
    OVER = "over"


class Outage:
    """Whether partitions are stuck: batches are due and no broker has decided on one for `PATIENCE_MS`.

    Several stuck partitions are one outage, which is over when none is stuck any more.
    """

    def __init__(self, linger_ms: float) -> None:
        """`linger_ms` is how long a batch may wait for more records."""
        self._linger_ms = linger_ms
        #: the partitions that are stuck, or were when it was told; empty where there is no outage
        self.stuck: list[PartitionQueue] = []
        #: since when the first of them is
        self.since_ms = 0.0

    def step(self, queues: Sequence[PartitionQueue], now_ms: float) -> Change:
        """Looks at the queues that have batches; to be called some times a second while there are any."""
        stuck = [queue for queue in queues if now_ms - self._idle_since_ms(queue) >= PATIENCE_MS]
        before, self.stuck = self.stuck, stuck
        if stuck and not before:
            self.since_ms = min(map(self._idle_since_ms, stuck))
            return Change.BEGAN
        # one that ended because everything was given up is over without a word: the deliveries have failed
        if before and not stuck and any(queue.decided_ms > self.since_ms for queue in before):
            return Change.OVER
        return Change.NOTHING

    def _idle_since_ms(self, queue: PartitionQueue) -> float:
        return max(queue.oldest().created_ms + self._linger_ms, queue.decided_ms)
