"""One replica's log and what its engine does with it, as plainly as can be: a list of records, and the rules.

The quick stand-in for the compiled engine. A record is (leader epoch, value). What is not synced may be lost with the
machine; a process that dies loses nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastlog.ports import PartitionKey

Record = tuple[int, int]


@dataclass
class Log:
    """What is on one broker's disk of one partition. Offsets count from 0: nothing is ever deleted at the start."""

    records: list[Record] = field(default_factory=list)
    #: records below were synced
    synced: int = 0
    #: as of the last checkpoint, which is what a restart finds
    checkpointed: int = 0
    high_watermark: int = 0
    #: where epochs start: (epoch, offset), ascending
    epochs: list[tuple[int, int]] = field(default_factory=list)
    #: the offset of each value, for producers that send again
    offsets: dict[int, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The log end offset."""
        return len(self.records)

    @property
    def last_epoch(self) -> int:
        """The leader epoch of the last record, -1 without any."""
        return self.records[-1][0] if self.records else -1

    def append(self, records: list[Record]) -> None:
        """Adds records as they are."""
        for epoch, value in records:
            self.start_epoch(epoch)
            self.offsets[value] = self.end
            self.records.append((epoch, value))

    def start_epoch(self, epoch: int) -> None:
        """Notes that an epoch starts at the end, unless it is known. One that wrote nothing gives way, also to an older
        one: a leader that wrote nothing may follow a log that has no record of its epoch.
        """
        if self.epochs and self.epochs[-1][0] == epoch:
            return
        while self.epochs and (self.epochs[-1][0] >= epoch or self.epochs[-1][1] >= self.end):
            self.epochs.pop()
        self.epochs.append((epoch, self.end))

    def end_offset_for(self, epoch: int) -> tuple[int, int]:
        """Kafka's LeaderEpochFileCache.endOffsetFor (semantics row 56)."""
        if not self.epochs or epoch < 0 or epoch > self.epochs[-1][0]:
            return -1, -1
        if epoch == self.epochs[-1][0]:
            return epoch, self.end
        later = min(it for it in self.epochs if it[0] > epoch)
        earlier = [it for it in self.epochs if it[0] <= epoch]
        return (max(earlier)[0] if earlier else epoch), later[1]

    def truncate(self, offset: int) -> None:
        """Drops what is at `offset` and after."""
        for _, value in self.records[offset:]:
            self.offsets.pop(value, None)
        del self.records[offset:]
        self.epochs = [it for it in self.epochs if it[1] < offset or not offset]
        if not offset:
            self.epochs = []
        self.synced = min(self.synced, offset)
        self.high_watermark = min(self.high_watermark, offset)
        self.checkpointed = min(self.checkpointed, offset)

    def flush(self) -> None:
        """Syncs everything and writes the checkpoint of the high watermark."""
        self.synced = self.end
        self.checkpointed = self.high_watermark

    def after_restart(self, *, lose_unsynced: bool) -> None:
        """What the next process finds."""
        if lose_unsynced:
            self.truncate(self.synced)
        self.high_watermark = min(self.checkpointed, self.end)


@dataclass
class FollowerPosition:
    """What a leader knows of one that fetches from it."""

    broker_epoch: int
    log_end_offset: int
    #: when it last had all that the leader had when it asked
    caught_up_ms: int
    #: where the leader's log ended at its last fetch, and when that was
    leader_end: int
    fetched_ms: int


@dataclass
class Leadership:
    """What an engine keeps while its broker leads: cluster rules 3.5."""

    epoch: int
    start_offset: int
    committed: tuple[int, ...]
    maximal: tuple[int, ...]
    min_isr: int
    positions: dict[int, FollowerPosition] = field(default_factory=dict)

    def has_enough(self) -> bool:
        """Whether acks=all may be promised."""
        return len(self.committed) >= self.min_isr

    def note(self, broker: int, broker_epoch: int, offset: int, end: int, now_ms: int) -> None:
        """A follower fetches from `offset`, so it has everything below."""
        known = self.positions.get(broker)
        if known is None or known.broker_epoch != broker_epoch:
            caught_up = now_ms if offset >= end else -1
            self.positions[broker] = FollowerPosition(broker_epoch, offset, caught_up, end, now_ms)
            return
        if offset >= end:
            known.caught_up_ms = now_ms
        elif offset >= known.leader_end:
            known.caught_up_ms = known.fetched_ms
        known.log_end_offset, known.leader_end, known.fetched_ms = offset, end, now_ms

    def committed_below(self, me: int, end: int) -> int | None:
        """The high watermark that the maximal ISR allows; None while it must stand still."""
        if not self.has_enough():
            return None
        least = end
        for member in self.maximal:
            if member == me:
                continue
            position = self.positions.get(member)
            if position is None:
                return None
            least = min(least, position.log_end_offset)
        return least


@dataclass
class Parked:
    """A fetch that waits for records."""

    key: PartitionKey
    epoch: int
    offset: int
    told_high_watermark: int
    answer: Callable[[Any], None]


@dataclass
class Waiting:
    """A produce request that waits for the other replicas."""

    key: PartitionKey
    epoch: int
    end: int
    offset: int
    answer: Callable[[int, int], None]
