"""The coordinator's log in memory, which acknowledges at once, later or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastlog.broker.groups.log import Page, Pairs
from fastlog.errors import error_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


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

    def append(self, batches: Mapping[int, Pairs]) -> tuple[int, dict[int, int] | None]:
        """Keeps them, or fails."""
        self.appends += 1
        if self.fails_with:
            return self.appends, dict.fromkeys(batches, self.fails_with)
        if self.is_held:
            self._held.append((self.appends, dict(batches)))
            return self.appends, None
        self._keep(batches)
        return self.appends, dict.fromkeys(batches, 0)

    def _keep(self, batches: Mapping[int, Pairs]) -> None:
        for partition, pairs in batches.items():
            self.partitions.setdefault(partition, []).extend(pairs)

    def release(self, code: int = 0) -> int:
        """Acknowledges what is held, or has it fail; how many appends that were."""
        held, self._held = self._held, []
        for number, batches in held:
            if not code:
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

    def start_offset(self, partition: int) -> int:
        """Nothing is ever deleted."""
        return 0

    def read(self, partition: int, offset: int) -> Page:
        """At most `page_records`."""
        if self.cannot_be_read:
            raise error_for(self.cannot_be_read, "as the test wants it")
        pairs = self.partitions.get(partition, [])
        end = min(len(pairs), offset + self.page_records)
        return Page(pairs[offset:end], end, is_last=end == len(pairs))

    def close(self) -> None:
        """Gives up its descriptor."""
        os.close(self._descriptor)
