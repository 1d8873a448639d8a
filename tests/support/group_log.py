"""The coordinator's log in memory, which acknowledges at once, later or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastlog.broker.groups.log import Page, Pairs
from fastlog.errors import (
    FencedLeaderEpochError,
    NotLeaderOrFollowerError,
    OffsetNotAvailableError,
    UnknownLeaderEpochError,
    error_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastlog.broker.groups.leaderships import Leadership


class MemoryLog:
    """Keys and values by partition."""

    def __init__(self) -> None:
        self.partitions: dict[int, Pairs] = {}
        self.appends = 0
        self.fails_with = 0
        """The error code of every append from now on; 0 for none."""
        self.cannot_be_read = 0
        """The error code of every read."""
        self.is_held = False
        """Whether appends are acknowledged by `release` only."""
        self.page_records = 1000
        self.leads_in: int | None = None
        """The leader epoch in which partitions are led here; None is whatever is asked."""
        self.lacks_commits = False
        """Whether records that were committed before this leadership may be missing yet."""
        self.reads = 0
        self._held: list[tuple[int, dict[int, Pairs]]] = []
        self._done: list[tuple[int, dict[int, int] | None]] = []
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK)

    def batch(self, writes: Iterable[Pairs], wall_ms: int) -> tuple[Pairs, int]:
        """All of them: there is no bound."""
        together: Pairs = []
        count = 0
        for pairs in writes:
            together += pairs
            count += 1
        return together, count

    def append(self, batches: Mapping[Leadership, Pairs]) -> tuple[int, dict[int, int] | None]:
        """Keeps them, or fails."""
        self.appends += 1
        pairs = {it.partition: batches[it] for it in batches}
        if self.fails_with:
            return self.appends, dict.fromkeys(pairs, self.fails_with)
        if self.leads_in is not None and any(it.leader_epoch != self.leads_in for it in batches):
            return self.appends, dict.fromkeys(pairs, NotLeaderOrFollowerError.code)
        if self.is_held:
            self._held.append((self.appends, pairs))
            return self.appends, None
        self._keep(pairs)
        return self.appends, dict.fromkeys(pairs, 0)

    def _keep(self, batches: Mapping[int, Pairs]) -> None:
        for partition, pairs in batches.items():
            self.partitions.setdefault(partition, []).extend(pairs)

    def release(self, code: int = 0, *, is_in_log: bool = False) -> int:
        """Acknowledges what is held, or has it fail, and perhaps be in the log; how many appends that were."""
        held, self._held = self._held, []
        for number, batches in held:
            if not code or is_in_log:
                self._keep(batches)
            self._done.append((number, dict.fromkeys(batches, code)))
        os.eventfd_write(self._descriptor, 1)
        return len(held)

    def completed(self) -> list[tuple[int, dict[int, int] | None]]:
        """What was released."""
        done, self._done = self._done, []
        if done:
            os.eventfd_read(self._descriptor)
        return done

    def completions_fd(self) -> int:
        """Readable when something was released."""
        return self._descriptor

    def start_offset(self, partition: int, leader_epoch: int) -> int:
        """Nothing is ever deleted."""
        self._check(leader_epoch)
        return 0

    def end_offset(self, partition: int, leader_epoch: int) -> int:
        """All is committed, unless `lacks_commits`."""
        self._check(leader_epoch)
        if self.lacks_commits:
            raise OffsetNotAvailableError("others have not said yet what they have")
        return len(self.partitions.get(partition, []))

    def _check(self, leader_epoch: int) -> None:
        if self.cannot_be_read:
            raise error_for(self.cannot_be_read, "as the test wants it")
        if self.leads_in is not None and leader_epoch < self.leads_in:
            raise FencedLeaderEpochError("the leadership is over")
        if self.leads_in is not None and leader_epoch > self.leads_in:
            raise UnknownLeaderEpochError("the leadership has not begun")

    def read(self, partition: int, leader_epoch: int, offset: int) -> Page:
        """At most `page_records`."""
        self._check(leader_epoch)
        self.reads += 1
        pairs = self.partitions.get(partition, [])
        end = min(len(pairs), offset + self.page_records)
        return Page(pairs[offset:end], end, is_last=end == len(pairs))

    def close(self) -> None:
        """Gives up its descriptor."""
        os.close(self._descriptor)
