"""The records of groups on their way into the log: one request for all partitions, one append of a partition at a time.

What comes while a partition's append is under way shares its next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastlog.broker.groups.leaderships import Leadership
from fastlog.errors import KafkaError, KafkaStorageError
from fastlog.events import EventLog
from fastlog.state.effects import MESSAGE_TOO_LARGE, UNKNOWN_SERVER_ERROR

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from fastlog.broker.groups.log import GroupLog, Pairs
    from fastlog.broker.groups.shard import Shard
    from fastlog.state.effects import Write

    Done = tuple[Shard, list[Write], int]


class Appends:
    """For the coordinator's thread.

    What is done with is told as a shard, its writes and a code: 0 where they are in the log, or why they are not known
    to be.
    """

    def __init__(self, log: GroupLog) -> None:
        self._groups_log = log
        self._log = EventLog("groups")
        self._dirty: dict[int, Shard] = {}
        self._in_flight: dict[int, list[Shard]] = {}

    @property
    def has_waiting(self) -> bool:
        """Whether there is something for `flush`."""
        return bool(self._dirty)

    @property
    def has_in_flight(self) -> bool:
        """Whether something will be there for `take_completions`."""
        return bool(self._in_flight)

    def add(self, shard: Shard, write: Write, pairs: Pairs) -> None:
        """Has the records of `write` appended, `pairs` when encoded, with the next `flush`."""
        shard.pending.append((write, pairs))
        self._dirty[shard.partition] = shard

    def flush(self, wall_ms: int) -> Iterator[Done]:
        """Appends what waits, with the timestamp `wall_ms`; answers what is done at once."""
        while self._dirty:
            shards, self._dirty = self._dirty, {}
            batches = {}
            for shard in shards.values():
                if shard.in_flight:
                    continue
                batch = yield from self._batch(shard, wall_ms)
                if batch is not None:
                    batches[Leadership(shard.partition, shard.leader_epoch)] = batch
            if batches:
                yield from self._append([shards[it.partition] for it in batches], batches)

    def take_completions(self) -> Iterator[Done]:
        """Answers what is done by now."""
        for number, codes in self._groups_log.completed():
            shards = self._in_flight.pop(number, [])
            yield from self._tell(
                shards, codes or {shard.partition: KafkaStorageError.code for shard in shards}
            )

    def _batch(self, shard: Shard, wall_ms: int) -> Generator[Done, None, Any]:
        while shard.pending:
            waiting = (pairs for _, pairs in shard.pending)
            batch, count = self._groups_log.batch(waiting, wall_ms)
            shard.in_flight = [shard.pending.popleft()[0] for _ in range(count or 1)]
            if count:
                return batch
            yield from self._done(shard, MESSAGE_TOO_LARGE)
        return None

    def _append(self, shards: list[Shard], batches: dict[Leadership, Any]) -> Iterator[Done]:
        try:
            number, codes = self._groups_log.append(batches)
        except Exception as error:
            self._log.exception("records of groups could not be handed to the data plane")
            code = error.code if isinstance(error, KafkaError) else UNKNOWN_SERVER_ERROR
            number, codes = 0, {it.partition: code for it in batches}
        if codes is None:
            self._in_flight[number] = shards
        else:
            yield from self._tell(shards, codes)

    def _tell(self, shards: list[Shard], codes: dict[int, int]) -> Iterator[Done]:
        for shard in shards:
            yield from self._done(shard, codes.get(shard.partition, KafkaStorageError.code))

    def _done(self, shard: Shard, code: int) -> Iterator[Done]:
        writes, shard.in_flight = shard.in_flight, []
        yield shard, writes, code
        if shard.pending:
            self._dirty[shard.partition] = shard
