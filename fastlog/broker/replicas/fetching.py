"""What a follower does with its leader's answers: append, cut, begin anew, ask where the leader's log lies."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from fastlog.errors import (
    CorruptMessageError,
    InvalidRequestError,
    KafkaError,
    KafkaStorageError,
    NotLeaderOrFollowerError,
)
from fastlog.events import EventLog
from fastlog.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from fastlog.state.replica.follower import (
    Appended,
    AskOffsets,
    BeginAfterTier,
    Diverged,
    Failed,
    Fetcher,
    LeaderOffsets,
    RestartAt,
    Truncate,
    Where,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fastlog.broker.data_plane import ReplicationPlane
    from fastlog.ports import PartitionKey
    from fastlog.protocol.messages.list_offsets import ListOffsetsResponse
    from fastlog.state.replica.follower import Effect, Outcome

    Corrupt = Callable[[PartitionKey, int], None]
    ListOffsets = Callable[[ListOffsetsRequest], ListOffsetsResponse]

EARLIEST, LATEST, EARLIEST_LOCAL = -2, -1, -4
#: the log's end may have moved though the answer was refused: it was to an older end, or its first batches are whole
MAY_HAVE_MOVED = frozenset({InvalidRequestError.code, CorruptMessageError.code})


def nobody_hears(key: PartitionKey, offset: int) -> None:
    """For where there is nobody to report to."""


class Counts(msgspec.Struct):
    """What happened, for metrics."""

    fetches: int = 0
    """Answers of leaders."""
    failures: int = 0
    """Partitions of an answer that were errors."""
    lost_connections: int = 0
    truncations: int = 0
    restarts: int = 0
    below_high_watermark: int = 0
    """Truncations and restarts that drop what was taken for committed: only unclean elections explain them."""

    def add(self, other: Counts) -> None:
        """Adds what was counted elsewhere."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Followed:
    """The logs here that follow one leader. Of one thread, but for `forbid`."""

    def __init__(
        self,
        node_id: int,
        engine: ReplicationPlane,
        fetcher: Fetcher,
        counts: Counts,
        corrupt: Corrupt = nobody_hears,
    ) -> None:
        """`corrupt` is told of a partition and an offset from which the leader sent what has a wrong checksum."""
        self._corrupt = corrupt
        self._node_id = node_id
        self._engine = engine
        self._fetcher = fetcher
        self._counts = counts
        self._log = EventLog("replicas")
        self._topics: dict[PartitionKey, str] = {}
        #: what fell behind its own log: a sync is to come before it is fetched further
        self.unsynced: set[PartitionKey] = set()
        #: what was told of a log that could not be cut yet
        self._uncut: dict[PartitionKey, Truncate | RestartAt] = {}
        self._forbidden: set[PartitionKey] = set()
        self._cutting = threading.Lock()

    def __contains__(self, key: PartitionKey) -> bool:
        """Whether a partition is followed."""
        return key in self._topics

    def keys(self) -> list[PartitionKey]:
        """All that are followed."""
        return list(self._topics)

    def hold(self, key: PartitionKey, topic: str, leader_epoch: int) -> bool:
        """Follows a partition from where its log is; whether it is open here."""
        (place,) = self._engine.fetch_positions([(topic, key.partition)])
        if place is None:
            return False
        self._topics[key] = topic
        self._fetcher.leave(key)
        self._fetcher.follow(key, leader_epoch, self._where(key, place))
        return True

    def release(self, key: PartitionKey) -> None:
        """Follows it no more."""
        self._topics.pop(key, None)
        self.unsynced.discard(key)
        self._uncut.pop(key, None)
        self._forbidden.discard(key)
        self._fetcher.leave(key)

    def forbid(self, keys: Iterable[PartitionKey]) -> None:
        """Cuts none of these logs from now on: their topic is deleted, and its name is free. From any thread."""
        with self._cutting:
            self._forbidden.update(keys)

    def look_again(
        self, keys: Iterable[PartitionKey], epochs: Mapping[PartitionKey, int], now_ms: int
    ) -> None:
        """Logs here are synced, or may be: takes over where they are."""
        held = [key for key in keys if key in self._topics]
        places = self._engine.fetch_positions([(self._topics[key], key.partition) for key in held])
        outcomes: list[tuple[PartitionKey, int, Outcome]] = [
            (key, epochs[key], Appended(where=self._where(key, place)))
            for key, place in zip(held, places, strict=True)
            if place is not None and key in epochs
        ]
        self._fetcher.fetched(outcomes, now_ms)

    # --- answers ---

    def take_in(
        self,
        answer: bytes,
        version: int,
        asked: dict[tuple[bytes, int], tuple[int, int]],
        keys: Mapping[tuple[bytes, int], PartitionKey],
        now_ms: int,
    ) -> tuple[list[PartitionKey], list[Effect]]:
        """Appends what came; the partitions that the answer names, and what is to be done about them.

        Raises a KafkaError where the whole answer is one.
        """
        taken = self._engine.append_fetched(answer, version, asked)
        named = [(keys[topic_id, index], asked[topic_id, index]) for topic_id, index, *_ in taken]
        moved = [
            key
            for (key, _), (_, _, code, _, diverging, _) in zip(named, taken, strict=True)
            if key in self._topics and diverging is None and (code == 0 or code in MAY_HAVE_MOVED)
        ]
        places = self._engine.fetch_positions([(self._topics[key], key.partition) for key in moved])
        at = {key: place for key, place in zip(moved, places, strict=True) if place is not None}
        outcomes: list[tuple[PartitionKey, int, Outcome]] = []
        for (key, (leader_epoch, offset)), (_, _, code, _, diverging, reason) in zip(
            named, taken, strict=True
        ):
            if key not in self._topics:
                continue
            place = at.get(key)
            if diverging is not None:
                outcomes.append((key, leader_epoch, self._diverged(key, diverging)))
            elif place is not None and (code == 0 or place[0] != offset):
                outcomes.append((key, leader_epoch, Appended(where=self._where(key, place))))
            else:
                self._failed(key, offset, code, reason)
                outcomes.append((key, leader_epoch, Failed(code=code or NotLeaderOrFollowerError.code)))
        return [key for key, _ in named], self._fetcher.fetched(outcomes, now_ms)

    def _diverged(self, key: PartitionKey, diverging: tuple[int, int]) -> Outcome:
        epoch, end_offset = diverging
        try:
            own = self._engine.end_offset_for(self._topics[key], key.partition, epoch)
        except KafkaError as error:
            return Failed(code=error.code)
        return Diverged(epoch=epoch, end_offset=end_offset, own_epoch=own[0], own_end_offset=own[1])

    def _failed(self, key: PartitionKey, offset: int, code: int, reason: str) -> None:
        self._counts.failures += 1
        if code == CorruptMessageError.code:
            self._corrupt(key, offset)
        if code in MAY_HAVE_MOVED:
            self._log.warning(
                "what a leader sent was not appended, it is fetched again",
                topic=self._topics[key],
                partition=key.partition,
                code=code,
                reason=reason,
            )

    def _where(self, key: PartitionKey, place: tuple[int, int, int, int, int]) -> Where:
        end, last_epoch, durable_end, start, high_watermark = place
        if durable_end < end:
            self.unsynced.add(key)
        else:
            self.unsynced.discard(key)
        return Where(end_offset=end, last_epoch=last_epoch, start_offset=start, high_watermark=high_watermark)

    # --- repairs ---

    def repair(self, effects: Sequence[Effect], list_offsets: ListOffsets, now_ms: int) -> None:
        """Carries out what an answer calls for; `list_offsets` asks the leader, and may raise."""
        asks = [it for it in effects if isinstance(it, AskOffsets) and it.key in self._topics]
        for effect in effects:
            self._carry_out(effect, now_ms)
        if not asks:
            return
        found = self._leader_offsets(asks, list_offsets)
        for ask in asks:
            for effect in self._fetcher.leader_offsets(ask.key, ask.leader_epoch, found.get(ask.key), now_ms):
                self._carry_out(effect, now_ms)

    def _carry_out(self, effect: Effect, now_ms: int) -> None:
        if isinstance(effect, BeginAfterTier):
            self._begin_after_tier(effect, now_ms)
        elif not isinstance(effect, AskOffsets):
            self._cut(effect, now_ms)

    def _begin_after_tier(self, effect: BeginAfterTier, now_ms: int) -> None:
        key, topic = effect.key, self._topics.get(effect.key)
        if topic is None:
            return
        is_coming = True
        try:
            with self._cutting:
                if key in self._forbidden:
                    return
                has_begun = self._engine.begin_after_tier(
                    topic,
                    key.partition,
                    effect.leader_epoch,
                    effect.local_start_offset,
                    effect.log_start_offset,
                )
        except (KafkaError, OSError) as error:
            if isinstance(error, KafkaError) and error.code == NotLeaderOrFollowerError.code:
                self._fetcher.leave(key)
                return
            self._log.warning(
                "a follower cannot begin where the object store ends, it is tried again",
                topic=topic,
                partition=key.partition,
                reason=str(error),
            )
            has_begun = is_coming = False
        if not has_begun:
            self._fetcher.not_yet(key, effect.leader_epoch, now_ms, is_coming=is_coming)
            return
        self._counts.restarts += 1
        (place,) = self._engine.fetch_positions([(topic, key.partition)])
        self._log.info(
            "a follower begins where the object store ends",
            topic=topic,
            partition=key.partition,
            leader_epoch=effect.leader_epoch,
            offset=None if place is None else place[0],
        )
        self._fetcher.moved(key, effect.leader_epoch, None if place is None else self._where(key, place))

    def _cut(self, effect: Truncate | RestartAt, now_ms: int) -> None:
        key, topic = effect.key, self._topics.get(effect.key)
        if topic is None:
            return
        try:
            with self._cutting:
                if key in self._forbidden:
                    return
                if effect.below_high_watermark and self._uncut.get(key) != effect:
                    self._tell_of_loss(effect, topic)
                if isinstance(effect, Truncate):
                    self._counts.truncations += 1
                    self._engine.truncate(topic, key.partition, effect.leader_epoch, effect.offset)
                else:
                    self._counts.restarts += 1
                    self._engine.restart_at(topic, key.partition, effect.leader_epoch, effect.offset)
        except (KafkaError, OSError) as error:
            self._not_cut(effect, error, now_ms)
            return
        self._uncut.pop(key, None)
        self._log.info(
            "a follower's log was cut to its leader's",
            topic=topic,
            partition=key.partition,
            leader_epoch=effect.leader_epoch,
            offset=effect.offset,
            anew=isinstance(effect, RestartAt),
        )
        (place,) = self._engine.fetch_positions([(topic, key.partition)])
        self._fetcher.moved(key, effect.leader_epoch, None if place is None else self._where(key, place))

    def _tell_of_loss(self, effect: Truncate | RestartAt, topic: str) -> None:
        self._counts.below_high_watermark += 1
        self._log.error(
            "committed records are cut: the leader's log does not have them, as after an unclean election",
            topic=topic,
            partition=effect.key.partition,
            leader_epoch=effect.leader_epoch,
            offset=effect.offset,
        )

    def _not_cut(self, effect: Truncate | RestartAt, error: KafkaError | OSError, now_ms: int) -> None:
        if isinstance(error, KafkaError) and error.code == NotLeaderOrFollowerError.code:
            # it has another role by now, which the fetcher is about to be told
            self._fetcher.leave(effect.key)
            return
        if isinstance(error, KafkaStorageError):
            # its log may stand still; where the disk failed it is followed no more before long
            if self._uncut.get(effect.key) != effect:
                self._uncut[effect.key] = effect
                self._log.warning(
                    "a follower's log could not be cut, it is tried again",
                    topic=self._topics[effect.key],
                    partition=effect.key.partition,
                    offset=effect.offset,
                    reason=str(error),
                )
            self._fetcher.not_cut(effect.key, effect.leader_epoch, now_ms)
            return
        self._log.error(
            "a follower's log could not be cut, it is not fetched any more",
            topic=self._topics[effect.key],
            partition=effect.key.partition,
            offset=effect.offset,
            reason=str(error),
        )
        self._fetcher.moved(effect.key, effect.leader_epoch, None)

    def _leader_offsets(
        self, asks: Sequence[AskOffsets], list_offsets: ListOffsets
    ) -> dict[PartitionKey, LeaderOffsets]:
        """Where the leader's logs lie, of those for which it says so."""
        # the disk's first: what goes from it meanwhile is in the store, and the next fetch says so
        locals_, starts, ends = (
            self._offsets(asks, timestamp, list_offsets) for timestamp in (EARLIEST_LOCAL, EARLIEST, LATEST)
        )
        return {
            key: LeaderOffsets(start=starts[key], local_start=locals_[key], end=ends[key])
            for key in starts.keys() & ends.keys() & locals_.keys()
        }

    def _offsets(
        self, asks: Sequence[AskOffsets], timestamp: int, list_offsets: ListOffsets
    ) -> dict[PartitionKey, int]:
        topics: dict[str, ListOffsetsTopic] = {}
        keys: dict[tuple[str, int], PartitionKey] = {}
        for ask in asks:
            name = self._topics[ask.key]
            keys[name, ask.key.partition] = ask.key
            topics.setdefault(name, ListOffsetsTopic(name=name)).partitions.append(
                ListOffsetsPartition(
                    partition_index=ask.key.partition,
                    current_leader_epoch=ask.leader_epoch,
                    timestamp=timestamp,
                )
            )
        answer = list_offsets(ListOffsetsRequest(replica_id=self._node_id, topics=list(topics.values())))
        return {
            keys[topic.name, it.partition_index]: it.offset
            for topic in answer.topics
            for it in topic.partitions
            if it.error_code == 0 and it.offset >= 0 and (topic.name, it.partition_index) in keys
        }
