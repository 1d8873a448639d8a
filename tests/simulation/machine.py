"""A broker's machine: the real data plane on a disk in memory, and what is known of the disk while no process runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from fastlog.config import Config
from fastlog.errors import KafkaError
from fastlog.native._engine import Engine
from fastlog.native._simulation import SimulatedNode
from fastlog.ports import PartitionKey
from tests.simulation.records import NOW_MS, Record, number_of

TOPIC = "t"
TOPIC_ID = UUID(int=7)
LAG_MS = 3_000

_SETTINGS = Config().broker()


class Log:
    """One partition's log on a machine, as the checks see it. Only where the process runs and has opened it."""

    def __init__(self, node: SimulatedNode, key: PartitionKey) -> None:
        self._node = node
        self._index = key.partition

    @property
    def is_open(self) -> bool:
        """Whether the process has it open: a disk that failed may have kept it from that."""
        try:
            self._node.look(TOPIC, self._index)
        except RuntimeError:
            return False
        return True

    @property
    def start(self) -> int:
        """The log start offset."""
        return self._node.look(TOPIC, self._index)[0]

    @property
    def end(self) -> int:
        """The log end offset."""
        return self._node.look(TOPIC, self._index)[2]

    @property
    def high_watermark(self) -> int:
        """What is known here to be committed."""
        return self._node.look(TOPIC, self._index)[1]

    def records(self, start: int, end: int) -> list[Record]:
        """The records from `start` on, or the log's, and below `end`."""
        start = max(start, self.start)
        if start >= end:
            return []
        found = self._node.records(TOPIC, self._index, start, end)
        assert [offset for offset, *_ in found] == list(range(start, start + len(found)))
        return [(epoch, number_of(checksum)) for _, epoch, checksum in found]


class Ends(msgspec.Struct):
    """What a disk holds of a log."""

    end: int
    """What a process finds that comes after one that died."""
    durable: int
    """What it finds at least when the machine died."""


_NOTHING = Ends(0, 0)


class Machine:
    """What outlives a process. Its monotonic clock counts on."""

    def __init__(self, broker_id: int, seed: int, keys: list[PartitionKey], *, syncs: bool) -> None:
        """`syncs` has what is acknowledged synced before (`fastlog.durability = fsync`)."""
        self.syncs = syncs
        self.node = SimulatedNode(broker_id, seed)
        self.node.set_wall_clock(NOW_MS)
        self.now_ms = 0
        self.incarnation: UUID | None = None
        #: nothing that was acknowledged can be missing: the last process said so, and the disk is the one it had
        self.is_clean = True
        self._is_known = True
        self._keys = keys
        self._is_running = False
        self._engine: Engine | None = None
        self._ends: dict[PartitionKey, Ends] = {}
        #: the disk fails at what it is asked
        self.fails = False

    # --- life ---

    def start(self, *, claims_clean: bool = False) -> Engine:
        """A process begins; it starts clean as `fastlog.broker.cluster` says, or claims so whatever befell it."""
        last_stop = self.node.start(replica_lag_max_ms=LAG_MS)
        if last_stop != "clean" or not self._is_known:
            self.is_clean = False
        self.is_clean, self._is_known = self.is_clean or claims_clean, True
        self._is_running = True
        self._engine = self.node.engine(_SETTINGS)
        return self._engine

    def crash(self, *, lose_unsynced: bool, wipe: bool) -> None:
        """The process dies; with the machine, or the disk is another one."""
        self._note_ends()
        self._engine, self._is_running, self.fails = None, False, False
        if wipe:
            self.node.wipe()
            self._ends.clear()
            self.incarnation, self._is_known = None, False
            return
        self.node.crash(lose_unsynced=lose_unsynced)
        if lose_unsynced:
            for ends in self._ends.values():
                ends.end = ends.durable

    def stop(self) -> None:
        """The process ends well, where its disk lets it."""
        if self.fails:
            self.crash(lose_unsynced=False, wipe=False)
            return
        self._note_ends()
        self._engine, self._is_running = None, False
        try:
            self.node.stop()
        except KafkaError:
            if not self.node.is_dead():
                raise
            self.node.crash(lose_unsynced=False)
            return
        self.node.set_faults()
        for ends in self._ends.values():
            ends.durable = ends.end

    def fail(self, **faults: Any) -> None:
        """The disk fails from now on, as `SimulatedNode.set_faults` says, until the process dies."""
        self.fails = True
        self.node.set_faults(**faults)

    def forget(self, key: PartitionKey) -> None:
        """A log is put away."""
        self._ends.pop(key, None)

    def _note_ends(self) -> None:
        if self._engine is None:
            return
        places = self._engine.fetch_positions([(TOPIC, key.partition) for key in self._keys])
        for key, place in zip(self._keys, places, strict=True):
            if place is not None:
                durable = place[2] if self.syncs else self._ends.get(key, _NOTHING).durable
                self._ends[key] = Ends(place[0], min(durable, place[0]))

    def is_unsynced(self) -> bool:
        """Whether a sync is to come that somebody waits for."""
        if not self.syncs or self._engine is None:
            return False
        places = self._engine.fetch_positions([(TOPIC, key.partition) for key in self._keys])
        return any(place is not None and place[2] < place[0] for place in places)

    def flush(self) -> None:
        """What was written is on the disk."""
        self.node.flush()
        self._note_ends()
        for key in self._keys:
            if key in self._ends and self.log(key) is not None:
                self._ends[key].durable = self._ends[key].end

    def cut(self, key: PartitionKey, offset: int) -> None:
        """A log is cut: what is written there afterwards is not on the disk."""
        if key in self._ends:
            self._ends[key].durable = min(self._ends[key].durable, offset)

    def advance(self, by_ms: int, *, at_once: bool) -> None:
        """The clock goes on; `at_once` for a process that was stopped meanwhile."""
        self.now_ms += max(0, by_ms)
        if at_once:
            self.node.jump_to(self.now_ms)
        else:
            self.node.advance_to(self.now_ms)

    # --- looks ---

    def log(self, key: PartitionKey) -> Log | None:
        """The log, None where it is not open."""
        if not self._is_running:
            return None
        try:
            self.node.look(TOPIC, key.partition)
        except (RuntimeError, KafkaError):
            return None
        return Log(self.node, key)

    def end(self, key: PartitionKey) -> int:
        """Where the log ends at least that the next process finds, or this one has; -1 for none."""
        log = self.log(key)
        if log is not None:
            return log.end
        known = self._ends.get(key)
        return -1 if known is None else known.end
