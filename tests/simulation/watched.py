"""The engine of a process, watched: what it does is held against the invariants; and where bugs are planted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from fastlog.config import BrokerSettings, TopicSettings
from fastlog.native._engine import Engine
from fastlog.ports import PartitionKey
from tests.simulation.bugs import Bugs
from tests.simulation.checks import Judge
from tests.simulation.machine import TOPIC, TOPIC_ID, Log, Machine

ENDLESS_NS = 2**63 - 1
#: so that logs have many segments; less than a user may ask for
SEGMENT_BYTES = 2_048


class WatchedEngine:
    """All that `Engine` has; what is not here is as there."""

    def __init__(
        self,
        broker_id: int,
        machine: Machine,
        judge: Judge,
        bugs: Bugs,
        *,
        broker_epoch: Callable[[], int],
        is_current: Callable[[PartitionKey, int], bool],
        holds_lease: Callable[[], bool],
    ) -> None:
        """`is_current` says whether the store has that leader epoch, and the leader was not elected uncleanly."""
        self._id = broker_id
        self._machine = machine
        self._judge = judge
        self._bugs = bugs
        self._broker_epoch = broker_epoch
        self._is_current = is_current
        self._holds_lease = holds_lease
        self._engine: Engine = machine.start(claims_clean=bugs.claims_clean_start)
        #: by partition that is led here, the leader epoch and the high watermark that was seen last
        self._led: dict[PartitionKey, tuple[int, int]] = {}
        self._counts: dict[PartitionKey, tuple[Any, ...]] = {}
        self._notices: list[tuple[str, str, int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def let_go(self) -> None:
        """The process is dead."""
        del self._engine

    def _log(self, key: PartitionKey) -> Log:
        return Log(self._machine.node, key)

    def look(self) -> None:
        """High watermarks of what is led here may have moved."""
        if not self._led:
            return
        keys = list(self._led)
        places = self._engine.fetch_positions([(TOPIC, key.partition) for key in keys])
        for key, place in zip(keys, places, strict=True):
            epoch, seen = self._led[key]
            log = self._log(key)
            # one whose disk failed has no place to fetch from, and leads on until another is elected
            high_watermark = place[4] if place is not None else log.high_watermark if log.is_open else seen
            if high_watermark > seen:
                self._judge.exposes(key, epoch, log, self._id, seen, high_watermark)
                self._led[key] = (epoch, high_watermark)

    def has_notices(self) -> bool:
        """Whether `control_fd` would be readable."""
        self._notices += self._engine.drain_notices()
        if self._bugs.expands_below_epoch_start:
            # it does not wait until the follower is that far
            self._notices += (("joinable", TOPIC, key.partition, -1) for key in self._led)
        return bool(self._notices)

    def drain_notices(self) -> list[tuple[str, str, int, int]]:
        """As Engine's."""
        notices, self._notices = self._notices, []
        return notices

    # --- roles ---

    def apply_partitions(
        self, changes: Sequence[tuple[Any, ...]], settings: Mapping[str, TopicSettings]
    ) -> list[tuple[int, str]]:
        """As Engine's, with small segments."""
        small = {name: _small(it) for name, it in settings.items()}
        results = self._engine.apply_partitions(changes, small)
        for change, (code, _) in zip(changes, results, strict=True):
            if code == 0:
                self._became(PartitionKey(TOPIC_ID, change[2]), change[3], change[4])
        return results

    def configure(self, settings: BrokerSettings) -> None:
        """As Engine's."""
        self._engine.configure(settings)

    def set_topic_settings(self, topic: str, settings: TopicSettings) -> None:
        """As Engine's, with small segments."""
        self._engine.set_topic_settings(topic, _small(settings))

    def _became(self, key: PartitionKey, leader: int, leader_epoch: int) -> None:
        if leader != self._id:
            self._led.pop(key, None)
            self._counts.pop(key, None)
            if leader >= 0 and self._bugs.truncates_to_high_watermark:
                high_watermark = self._log(key).high_watermark
                self._machine.cut(key, high_watermark)
                self._engine.truncate(TOPIC, key.partition, leader_epoch, high_watermark)
        elif key not in self._led or self._led[key][0] != leader_epoch:
            log = self._log(key)
            process = (self._id, self._broker_epoch())
            self._judge.leads(key, leader_epoch, process, log, is_current=self._is_current(key, leader_epoch))
            # it may have moved at once
            committed = self._judge.of(key).committed_in(leader_epoch) or ()
            self._led[key] = (leader_epoch, min(log.high_watermark, len(committed)))

    def resign(self) -> int:
        """As Engine's."""
        self._led.clear()
        self._counts.clear()
        return self._engine.resign()

    def set_isr(
        self,
        topic: str,
        index: int,
        leader_epoch: int,
        committed: Sequence[int],
        maximal: Sequence[int],
        partition_epoch: int,
        held: bool = False,
    ) -> None:
        """As Engine's."""
        count = (leader_epoch, committed, maximal, partition_epoch, held)
        self._engine.set_isr(topic, index, *count)
        self._counts[PartitionKey(TOPIC_ID, index)] = count

    # --- following ---

    def append_fetched(
        self, answer: bytes, version: int, asked: dict[tuple[bytes, int], tuple[int, int]]
    ) -> list[tuple[bytes, int, int, int, tuple[int, int] | None, str]]:
        """As Engine's."""
        taken = self._engine.append_fetched(answer, version, asked)
        for topic_id, index, code, end, *_ in taken:
            if code == 0 and end >= 0:
                key = PartitionKey(TOPIC_ID, index)
                epoch, since = asked[topic_id, index]
                self._judge.follows(key, epoch, self._log(key), self._id, since)
        return taken

    def truncate(self, topic: str, index: int, leader_epoch: int, offset: int) -> bool:
        """As Engine's."""
        key = PartitionKey(TOPIC_ID, index)
        if (log := self._log(key)).is_open:
            self._judge.cuts(key, log, self._id, offset)
            self._machine.cut(key, offset)
        return self._engine.truncate(topic, index, leader_epoch, offset)

    def restart_at(self, topic: str, index: int, leader_epoch: int, offset: int) -> None:
        """As Engine's."""
        key = PartitionKey(TOPIC_ID, index)
        if (log := self._log(key)).is_open:
            self._judge.restarts(key, log, self._id, offset)
            self._machine.cut(key, offset)
        self._engine.restart_at(topic, index, leader_epoch, offset)

    def begin_after_tier(
        self, topic: str, index: int, leader_epoch: int, local_start_offset: int, log_start_offset: int
    ) -> bool:
        """As Engine's; the cluster here has no object store."""
        return self._engine.begin_after_tier(topic, index, leader_epoch, local_start_offset, log_start_offset)

    def delete_partitions(
        self, topic: str, topic_id: bytes, partitions: Sequence[tuple[int, int]], is_deleted: bool
    ) -> int:
        """As Engine's."""
        count = self._engine.delete_partitions(topic, topic_id, partitions, is_deleted)
        for index, _ in partitions:
            key = PartitionKey(TOPIC_ID, index)
            self._led.pop(key, None)
            self._counts.pop(key, None)
            self._machine.forget(key)
        return count

    # --- planted bugs ---

    def set_lease(self, until_ns: int) -> None:
        """As Engine's."""
        self._engine.set_lease(ENDLESS_NS if self._bugs.acknowledges_without_lease else until_ns)

    def forget_others(self) -> None:
        """A planted bug: without a lease the other replicas are not waited for."""
        if self._bugs.acknowledges_without_lease and not self._holds_lease():
            for key, (epoch, committed, _, partition_epoch, _) in self._counts.items():
                self._engine.set_isr(
                    TOPIC, key.partition, epoch, committed, (self._id,), partition_epoch, False
                )

    def replica_positions(self) -> list[tuple[Any, ...]]:
        """As Engine's."""
        rows: list[tuple[Any, ...]] = list(self._engine.replica_positions())
        if self._bugs.expands_below_epoch_start:
            return [(*row[:4], 0, 0, self._near(row)) for row in rows]
        return rows

    def _near(self, row: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        # who lags does not join either, which would hide the bug
        key = PartitionKey(TOPIC_ID, row[1])
        members = self._counts[key][1] if key in self._counts else ()
        return [it if it[0] in members else (*it[:4], 0) for it in row[6]]


def _small(settings: TopicSettings) -> TopicSettings:
    return msgspec.structs.replace(settings, segment_bytes=SEGMENT_BYTES)
