"""The shards that are being read, a page of one at a time, so that those that serve are not held up."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from fastlog.errors import (
    FencedLeaderEpochError,
    KafkaError,
    LeaderNotAvailableError,
    NotLeaderOrFollowerError,
    OffsetNotAvailableError,
    UnknownLeaderEpochError,
)

if TYPE_CHECKING:
    from fastlog.broker.groups.shard import Shard
    from fastlog.state.deadlines import Deadlines, Key

LOAD = "load"
RETRY_MS_MIN, RETRY_MS_MAX = 20, 250
PASSING = (
    # what was committed before this leadership may not be known here in full: the replicas in sync are to say
    OffsetNotAvailableError.code,
    LeaderNotAvailableError.code,
    # the data plane is a step ahead of what we were told, or behind it, or its lease is over
    NotLeaderOrFollowerError.code,
    FencedLeaderEpochError.code,
    UnknownLeaderEpochError.code,
)
"""Errors that end by themselves, or with the leadership."""


def is_passing(error: Exception) -> bool:
    """Whether reading is to be tried again."""
    return isinstance(error, KafkaError) and error.code in PASSING


class Loading:
    """Those that can be read on now, in their order, and those that wait for their next attempt."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._ready: deque[Shard] = deque()
        self._waiting: dict[int, Shard] = {}

    def __bool__(self) -> bool:
        """Whether one can be read on now."""
        return bool(self._ready)

    def add(self, shard: Shard) -> None:
        """Has it read."""
        self._ready.append(shard)

    def next(self) -> Shard:
        """The one to read on; the same until it is taken away, or waits."""
        return self._ready[0]

    def again(self, shard: Shard, now_ms: int) -> None:
        """Has it read on a little later, longer each time that nothing came of it."""
        self.wait(shard, now_ms + min(RETRY_MS_MIN << min(shard.attempts, 10), RETRY_MS_MAX))
        shard.attempts += 1

    def wait(self, shard: Shard, until_ms: int) -> None:
        """Has it read from `until_ms` on."""
        self.remove(shard)
        self._waiting[shard.partition] = shard
        self._deadlines.set((LOAD, str(shard.partition)), until_ms)

    def due(self, key: Key) -> None:
        """Its deadline is reached."""
        self._ready.append(self._waiting.pop(int(key[1])))

    def remove(self, shard: Shard) -> None:
        """It is read, or not to be read any more; one that is not here is left alone."""
        if self._waiting.get(shard.partition) is shard:
            del self._waiting[shard.partition]
            self._deadlines.cancel((LOAD, str(shard.partition)))
        elif shard in self._ready:
            self._ready.remove(shard)
