"""What a follower asks its leader for, and what an answer means: append, cut, begin anew, wait.

Logs are cut by leader epoch, never to a high watermark (KIP-101, KIP-279, KIP-595): the leader says where its log and
ours part, we cut there or earlier, and ask again, until it finds no difference. Kafka: AbstractFetcherThread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from fastlog.errors import (
    FencedLeaderEpochError,
    NotLeaderOrFollowerError,
    OffsetMovedToTieredStorageError,
    OffsetOutOfRangeError,
    StaleBrokerEpochError,
    UnknownLeaderEpochError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
)
from fastlog.ports import PartitionKey

if TYPE_CHECKING:
    from collections.abc import Sequence


class FollowerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in milliseconds."""

    backoff_ms: int = 1_000
    """`replica.fetch.backoff.ms`: how long a partition rests after an error."""
    unheard_ms: int = 50
    """How long it rests where its leader may not have heard yet that it is one; then twice as long, up to the other."""


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Where our log is."""

    end_offset: int
    """The next offset to fetch: where the log ends, or what of it is synced, where that counts."""
    last_epoch: int
    """The leader epoch of the last record, -1 without any."""
    start_offset: int
    high_watermark: int


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of a fetch."""

    key: PartitionKey
    leader_epoch: int
    fetch_offset: int
    last_fetched_epoch: int
    log_start_offset: int
    high_watermark: int
    """What we know of it: the leader answers at once where we could know more."""


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome: what came is in our log, perhaps nothing."""

    where: Where


class Diverged(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome: the leader's log has another history."""

    epoch: int
    """The largest epoch in the leader's log up to the one we asked with; -1 where it has none."""
    end_offset: int
    """Where that epoch ends in the leader's log."""
    own_epoch: int
    """The largest epoch up to `epoch` in our log; -1 where it has none."""
    own_end_offset: int
    """Where that one ends in our log."""


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome: Kafka's error code for the partition."""

    code: int


Outcome = Appended | Diverged | Failed


class Truncate(msgspec.Struct, frozen=True, kw_only=True):
    """Effect: drop everything from `offset` on, and the epochs that began there without a record; then `moved`."""

    key: PartitionKey
    leader_epoch: int
    offset: int
    below_high_watermark: bool
    """Committed records go, which only an unclean election explains: to be logged as an error, and counted."""


class RestartAt(msgspec.Struct, frozen=True, kw_only=True):
    """Effect: drop the whole log and begin at `offset`, the leader's first; then `moved`."""

    key: PartitionKey
    leader_epoch: int
    offset: int
    below_high_watermark: bool


class BeginAfterTier(msgspec.Struct, frozen=True, kw_only=True):
    """Effect: drop the whole log and begin where an object store ends (KIP-405); then `moved`, or `not_yet`."""

    key: PartitionKey
    leader_epoch: int
    local_start_offset: int
    """Where the leader's disk begins: the store has what lies before."""
    log_start_offset: int
    """Where the leader's whole log starts."""


class LeaderOffsets(msgspec.Struct, frozen=True, kw_only=True):
    """Where a leader's log lies."""

    start: int
    local_start: int
    """Where its disk begins; later than the start only where an object store has the records between."""
    end: int


class AskOffsets(msgspec.Struct, frozen=True, kw_only=True):
    """Effect: ask the leader where its log lies; then `leader_offsets`."""

    key: PartitionKey
    leader_epoch: int


Effect = Truncate | RestartAt | BeginAfterTier | AskOffsets


class _Partition(msgspec.Struct, kw_only=True):
    leader_epoch: int
    where: Where
    # asking where the leader's log lies; cutting ours; moved: the next state is awaited; unheard: answers in a row
    stage: Literal["fetching", "asking", "cutting", "moved", "broken"] = "fetching"
    rests_until_ms: int = 0
    unheard: int = 0
    # the epoch of our own without records that was to be forgotten
    forgotten: int = -1


#: a follower may hear of an election, a topic, its own registration before the leader does
UNHEARD = frozenset(
    {
        NotLeaderOrFollowerError.code,
        StaleBrokerEpochError.code,
        UnknownLeaderEpochError.code,
        UnknownTopicIdError.code,
        UnknownTopicOrPartitionError.code,
    }
)


#: the leader's disk does not have what comes next
ELSEWHERE = frozenset({OffsetOutOfRangeError.code, OffsetMovedToTieredStorageError.code})


class Fetcher:
    """The partitions that this broker follows one leader in. Times are monotonic, in milliseconds.

    Whatever is told with another leader epoch than the one followed is of an earlier time and changes nothing.
    """

    def __init__(self, settings: FollowerSettings | None = None) -> None:
        self._settings = settings or FollowerSettings()
        # in the order of fetching: those that brought something go to the end, so that none starves
        self._partitions: dict[PartitionKey, _Partition] = {}

    def __len__(self) -> int:
        """Number of partitions followed."""
        return len(self._partitions)

    def follow(self, key: PartitionKey, leader_epoch: int, where: Where) -> None:
        """Follows the partition's leader of that epoch, from where our log is. An older epoch is ignored."""
        known = self._partitions.get(key)
        if known is None or leader_epoch > known.leader_epoch:
            self._partitions[key] = _Partition(leader_epoch=leader_epoch, where=where)

    def leave(self, key: PartitionKey) -> None:
        """The partition is followed no more, or led by another broker."""
        self._partitions.pop(key, None)

    def wanted(self, now_ms: int) -> list[Wanted]:
        """What to ask for in the next fetch."""
        each = (self.wanted_of(key, now_ms) for key in self._partitions)
        return [it for it in each if it is not None]

    def wanted_of(self, key: PartitionKey, now_ms: int) -> Wanted | None:
        """What to ask for of one partition; None where it is not to be asked for now."""
        it = self._partitions.get(key)
        if it is None or it.stage != "fetching" or it.rests_until_ms > now_ms:
            return None
        return Wanted(
            key=key,
            leader_epoch=it.leader_epoch,
            fetch_offset=it.where.end_offset,
            last_fetched_epoch=it.where.last_epoch,
            log_start_offset=it.where.start_offset,
            high_watermark=it.where.high_watermark,
        )

    def next_ms(self, now_ms: int) -> int | None:
        """When a partition that rests now is to be asked for again; None where none rests."""
        resting = (
            it.rests_until_ms
            for it in self._partitions.values()
            if it.stage == "fetching" and it.rests_until_ms > now_ms
        )
        return min(resting, default=None)

    # -- what is told ----------------------------------------------------------------------------------------------

    def fetched(self, outcomes: Sequence[tuple[PartitionKey, int, Outcome]], now_ms: int) -> list[Effect]:
        """What became of each partition of a fetch: key, the leader epoch it was asked with, outcome."""
        effects: list[Effect] = []
        for key, leader_epoch, outcome in outcomes:
            it = self._at(key, leader_epoch)
            if it is not None and it.stage == "fetching":
                effects += self._one(key, it, outcome, now_ms)
        return effects

    def lost(self, now_ms: int) -> None:
        """The leader cannot be reached, or did not answer: all rest."""
        for it in self._partitions.values():
            if it.stage == "asking":
                it.stage = "fetching"
            it.rests_until_ms = now_ms + self._settings.backoff_ms

    def moved(self, key: PartitionKey, leader_epoch: int, where: Where | None) -> None:
        """A Truncate or RestartAt was carried out and our log is there; None where the disk refused."""
        it = self._at(key, leader_epoch)
        if it is None:
            return
        if where is None:
            it.stage = "broken"
        else:
            it.where, it.stage = where, "fetching"

    def not_cut(self, key: PartitionKey, leader_epoch: int, now_ms: int) -> None:
        """A Truncate or RestartAt could not be carried out for now: the leader is asked again after a rest."""
        it = self._at(key, leader_epoch)
        if it is None or it.stage != "cutting":
            return
        # an epoch that was to be forgotten still is
        it.stage, it.forgotten = "fetching", -1
        self._rest(it, now_ms)

    def not_yet(self, key: PartitionKey, leader_epoch: int, now_ms: int, *, is_coming: bool) -> None:
        """What a BeginAfterTier needs is on its way, or could not be had: it is tried again after a rest."""
        it = self._at(key, leader_epoch)
        if it is None or it.stage != "cutting":
            return
        it.stage = "fetching"
        if is_coming:
            # the leader's disk may begin later by the time
            self._rest_briefly(it, now_ms)
        else:
            self._rest(it, now_ms)

    def leader_offsets(
        self, key: PartitionKey, leader_epoch: int, offsets: LeaderOffsets | None, now_ms: int
    ) -> list[Effect]:
        """The answer to AskOffsets; None where it gave none."""
        it = self._at(key, leader_epoch)
        if it is None or it.stage != "asking":
            return []
        it.stage = "fetching"
        if offsets is None:
            return self._rest(it, now_ms)
        ours = it.where.end_offset
        if offsets.end < ours:
            # only an unclean election makes a leader that has less; where the logs part is found by the next fetch
            return self._truncate(key, it, offsets.end, now_ms)
        if ours < offsets.local_start and offsets.start < offsets.local_start:
            it.stage = "cutting"
            return [
                BeginAfterTier(
                    key=key,
                    leader_epoch=it.leader_epoch,
                    local_start_offset=offsets.local_start,
                    log_start_offset=offsets.start,
                )
            ]
        if offsets.start > ours:
            it.stage = "cutting"
            below = ours < it.where.high_watermark
            return [
                RestartAt(
                    key=key, leader_epoch=it.leader_epoch, offset=offsets.start, below_high_watermark=below
                )
            ]
        # the leader's log has moved since
        return self._rest(it, now_ms)

    # -- decisions -------------------------------------------------------------------------------------------------

    def _at(self, key: PartitionKey, leader_epoch: int) -> _Partition | None:
        it = self._partitions.get(key)
        return it if it is not None and it.leader_epoch == leader_epoch else None

    def _one(self, key: PartitionKey, it: _Partition, outcome: Outcome, now_ms: int) -> list[Effect]:
        if isinstance(outcome, Appended):
            if outcome.where.end_offset > it.where.end_offset:
                self._partitions[key] = self._partitions.pop(key)
            it.where, it.unheard = outcome.where, 0
            return []
        if isinstance(outcome, Diverged) and outcome.epoch >= 0:
            return self._diverged(key, it, outcome, now_ms)
        if isinstance(outcome, Diverged) or outcome.code in ELSEWHERE:
            # a leader that knows no epoch of ours answers as one whose log does not reach us (Kafka: the error)
            it.stage = "asking"
            return [AskOffsets(key=key, leader_epoch=it.leader_epoch)]
        if outcome.code == FencedLeaderEpochError.code:
            # there is a newer leader, and the next state tells which
            it.stage = "moved"
        elif outcome.code in UNHEARD:
            self._rest_briefly(it, now_ms)
        else:
            return self._rest(it, now_ms)
        return []

    def _diverged(self, key: PartitionKey, it: _Partition, outcome: Diverged, now_ms: int) -> list[Effect]:
        end, last_epoch = it.where.end_offset, it.where.last_epoch
        offset = _agreed_end(it.where, outcome)
        if offset < end or last_epoch <= outcome.epoch or it.forgotten == last_epoch:
            return self._truncate(key, it, offset, now_ms)
        # our engine tells the epoch of the last record; one that tells an epoch of ours in which nothing was appended
        # is to forget only that it began, as in Kafka's UnifiedLog.truncateTo. Once: where it stays, something else
        # is wrong
        it.stage, it.forgotten = "cutting", last_epoch
        return [Truncate(key=key, leader_epoch=it.leader_epoch, offset=end, below_high_watermark=False)]

    def _truncate(self, key: PartitionKey, it: _Partition, offset: int, now_ms: int) -> list[Effect]:
        if offset >= it.where.end_offset:
            # nothing to cut, though the leader sees a difference: it, or the answer, is of another time
            return self._rest(it, now_ms)
        it.stage = "cutting"
        below = offset < it.where.high_watermark
        return [Truncate(key=key, leader_epoch=it.leader_epoch, offset=offset, below_high_watermark=below)]

    def _rest_briefly(self, it: _Partition, now_ms: int) -> None:
        pause_ms = self._settings.unheard_ms << min(it.unheard, 10)
        it.unheard += 1
        it.rests_until_ms = now_ms + min(pause_ms, self._settings.backoff_ms)

    def _rest(self, it: _Partition, now_ms: int) -> list[Effect]:
        it.rests_until_ms = now_ms + self._settings.backoff_ms
        return []


def _agreed_end(where: Where, diverged: Diverged) -> int:
    """Up to where our log may be the leader's: `AbstractFetcherThread.getOffsetTruncationState`.

    Where we do not have the leader's epoch (KIP-279) the end of our last one before it is tried, and asked about again.
    """
    if diverged.own_epoch < 0:
        return min(diverged.end_offset, where.end_offset)
    if diverged.own_epoch < diverged.epoch:
        return min(diverged.own_end_offset, where.end_offset)
    return min(diverged.own_end_offset, diverged.end_offset, where.end_offset)
