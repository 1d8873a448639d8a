"""A follower with any history ends with its leader's log, and never loses what the two had in common."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from fastlog.errors import OffsetOutOfRangeError
from fastlog.ports import PartitionKey
from fastlog.state.replica.follower import (
    Appended,
    AskOffsets,
    Diverged,
    Effect,
    Failed,
    Fetcher,
    LeaderOffsets,
    Outcome,
    RestartAt,
    Truncate,
    Wanted,
    Where,
)

KEY = PartitionKey(UUID(int=1), 0)
LEADER_EPOCH = 9


@dataclass
class Log:
    """Records by offset from `start` on: the leader epoch and who wrote it, which tells two histories apart."""

    start: int
    records: list[tuple[int, str]]

    @property
    def end(self) -> int:
        return self.start + len(self.records)

    def lies(self) -> LeaderOffsets:
        return LeaderOffsets(start=self.start, local_start=self.start, end=self.end)

    def where(self) -> Where:
        last = self.records[-1][0] if self.records else -1
        return Where(end_offset=self.end, last_epoch=last, start_offset=self.start, high_watermark=0)

    def end_offset_for(self, epoch: int, led_in: int | None = None) -> tuple[int, int]:
        """Kafka's LeaderEpochFileCache.endOffsetFor; a leader's own epoch starts where its log ended."""
        starts: dict[int, int] = {}
        for number, (known, _) in enumerate(self.records):
            starts.setdefault(known, self.start + number)
        if led_in is not None:
            starts.setdefault(led_in, self.end)
        later = [it for it in starts if it > epoch]
        if not starts or (not later and epoch not in starts):
            return -1, -1
        if not later:
            return epoch, self.end
        earlier = [it for it in starts if it <= epoch]
        return (max(earlier) if earlier else epoch), starts[min(later)]

    def cut(self, offset: int) -> None:
        del self.records[max(0, offset - self.start) :]


@st.composite
def histories(draw: st.DrawFn) -> tuple[Log, Log]:
    """A leader and a follower whose logs agree up to some offset, and go on in epochs that each wrote alone.

    An epoch has one leader, so that after they part no epoch is in both but the one in which they parted.
    """
    prefix = sorted(draw(st.lists(st.integers(0, 3), max_size=6)))
    common = [(epoch, "both") for epoch in prefix]
    parted = prefix[-1] if prefix else 0
    ours = draw(st.sets(st.integers(parted + 1, 8)))
    theirs = draw(st.sets(st.integers(parted + 1, 8))) - ours
    # of the epoch in which they part one of them may have more
    more = draw(st.integers(0, 2))
    has_more = draw(st.booleans())

    def tail(epochs: set[int], name: str, *, of_common: int) -> list[tuple[int, str]]:
        counts = {epoch: draw(st.integers(1, 3)) for epoch in sorted(epochs)}
        written = [(epoch, name) for epoch, count in counts.items() for _ in range(count)]
        return [(parted, name)] * of_common + written

    leader = Log(0, common + tail(theirs, "leader", of_common=0 if has_more else more))
    follower = Log(0, common + tail(ours, "follower", of_common=more if has_more else 0))
    start = draw(st.integers(0, leader.end))
    del leader.records[:start]
    leader.start = start
    return leader, follower


def answer(leader: Log, wanted: Wanted, follower: Log) -> Outcome:
    """As a leader answers a fetch."""
    offset = wanted.fetch_offset
    if not leader.start <= offset <= leader.end:
        return Failed(code=OffsetOutOfRangeError.code)
    if wanted.last_fetched_epoch >= 0:
        epoch, end = leader.end_offset_for(wanted.last_fetched_epoch, LEADER_EPOCH)
        if epoch < wanted.last_fetched_epoch or end < offset:
            own_epoch, own_end = follower.end_offset_for(epoch)
            return Diverged(epoch=epoch, end_offset=end, own_epoch=own_epoch, own_end_offset=own_end)
    follower.records += leader.records[offset - leader.start :][:2]
    return Appended(where=follower.where())


def carry_out(effect: Effect, it: Fetcher, leader: Log, follower: Log, common: int) -> list[Effect]:
    if isinstance(effect, AskOffsets):
        return it.leader_offsets(KEY, LEADER_EPOCH, leader.lies(), 0)
    if isinstance(effect, Truncate):
        assert effect.offset >= min(common, leader.end), "what both had is cut"
        follower.cut(effect.offset)
    elif isinstance(effect, RestartAt):
        assert leader.start > follower.end
        follower.start, follower.records = effect.offset, []
    it.moved(KEY, LEADER_EPOCH, follower.where())
    return []


@given(histories())
def test_it_ends_with_the_leaders_log(logs: tuple[Log, Log]) -> None:
    leader, follower = logs
    common = sum(writer == "both" for _, writer in follower.records)
    it = Fetcher()
    it.follow(KEY, LEADER_EPOCH, follower.where())
    now_ms = 0
    for _ in range(60):
        now_ms += 1_000
        effects: list[Effect] = []
        for wanted in it.wanted(now_ms):
            effects += it.fetched([(KEY, LEADER_EPOCH, answer(leader, wanted, follower))], now_ms)
        while effects:
            effects += carry_out(effects.pop(0), it, leader, follower, common)
    assert follower.end == leader.end
    shared = leader.end - max(leader.start, follower.start)
    assert (
        follower.records[len(follower.records) - shared :] == leader.records[len(leader.records) - shared :]
    )
