"""From fetched chunks to batches and records, in the application's thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fastlog.errors import CorruptMessageError
from fastlog.native._records import RecordBatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.client.consumer.assignment import Assignment
    from fastlog.client.consumer.driver import Driver
    from fastlog.client.consumer.partition_state import PartitionState
    from fastlog.client.consumer.topic_partition import TopicPartition
    from fastlog.native._engine import FetchedChunk, Fetcher
    from fastlog.native._records import RecordIterator

#: one wait in the fetcher is no longer than this, so that an error which another thread set is never far
WAIT_MS_MAX = 1_000


class Reader:
    """Goes over what was fetched: chunk by chunk, batch by batch. For one thread at a time.

    The position of the partition that is being read is where its record iterator stands; it is written down when the
    batch or the chunk is finished.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        assignment: Assignment,
        driver: Driver,
        attend: Callable[[], None] | None = None,
    ) -> None:
        """Nothing is taken yet. `attend` is called where the application's thread has something to do for its group."""
        self._fetcher = fetcher
        self._assignment = assignment
        self._driver = driver
        self._attend = attend
        self._chunk: FetchedChunk | None = None
        self._state: PartitionState | None = None
        self._generation = 0
        self._batch: RecordBatch | None = None
        self._records: RecordIterator | None = None
        self._after = 0

    def next_records(self, deadline: float) -> RecordIterator | None:
        """An iterator with records left: the present one, or that of the next batch; None at `deadline`.

        `deadline` is of `time.monotonic`. Raises what is to be told to the application.
        """
        records = self._records
        # a stopped iterator has no records left
        if records is not None and records.__length_hint__():
            return records
        return self._records if self.next_batch(deadline) is not None else None

    def next_batch(self, deadline: float) -> RecordBatch | None:
        """The next batch, from the partition's position on; None at `deadline`.

        It counts as read when the next one is asked for.
        """
        self._finish_batch()
        while True:
            if self._assignment.alarm:
                self._raise_due()
            if self._chunk is None and not self._take_chunk(deadline):
                return None
            if self._chunk is not None and self._open_batch(self._chunk):
                return self._batch

    def position(self) -> tuple[TopicPartition, int] | None:
        """The partition that is being read and where; None between partitions."""
        state, records = self._state, self._records
        if state is None or records is None or state.generation != self._generation:
            return None
        return state.tp, records.next_offset if records.__length_hint__() else self._after

    def drop_stale(self) -> None:
        """Stops the present iterator if its partition was sought, paused or given up meanwhile."""
        if self._state is not None and self._state.generation != self._generation:
            if self._records is not None:
                self._records.stop()
            self._forget()

    def _raise_due(self) -> None:
        if self._attend is not None and self._assignment.called:
            self._attend()
        error = self._assignment.error_to_raise()
        if error is not None:
            raise error

    def _finish_batch(self) -> None:
        if self._records is None:
            return
        records, self._records, self._batch = self._records, None, None
        if self._state is not None and self._state.generation == self._generation:
            # what is left in it was passed over by a caller that takes whole batches
            records.stop()
            self._advance(self._after)
        else:
            self._forget()

    def _take_chunk(self, deadline: float) -> bool:
        left_ms = (
            max(0, round((deadline - time.monotonic()) * 1000)) if deadline != float("inf") else WAIT_MS_MAX
        )
        chunk = self._fetcher.next(min(left_ms, WAIT_MS_MAX))
        if chunk is None:
            if self._driver.closing or time.monotonic() >= deadline:
                # an error that came while waiting is told now rather than an empty answer
                self._raise_due()
                return False
            return True
        self._state = self._assignment.current(chunk.slot, chunk.generation)
        self._generation = chunk.generation
        self._chunk = chunk if self._state is not None else None
        return True

    def _open_batch(self, chunk: FetchedChunk) -> bool:
        state = self._state
        if state is None or state.generation != self._generation:
            self._forget()
            return False
        item = chunk.pop()
        if item is None:
            self._finish_chunk(chunk, state)
            return False
        buffer, base_offset, self._after = item
        position = state.position if state.position is not None else chunk.fetch_offset
        try:
            batch = RecordBatch(buffer, state.tp.topic, state.tp.partition, from_offset=position)
        except (CorruptMessageError, ValueError) as error:
            raise self._corrupt(state, base_offset, str(error)) from error
        if not len(batch):
            self._advance(self._after)
            return False
        self._batch, self._records = batch, iter(batch)
        return True

    def _finish_chunk(self, chunk: FetchedChunk, state: PartitionState) -> None:
        corrupt = chunk.corrupt
        self._advance(chunk.next_offset)
        self._chunk = None
        if corrupt is not None:
            raise self._corrupt(state, *corrupt)

    def _corrupt(self, state: PartitionState, offset: int, reason: str) -> CorruptMessageError:
        position = max(offset, state.position or 0)
        error = CorruptMessageError(
            f"the batch at offset {offset} of {state.tp} cannot be read: {reason}. It is fetched again with the next "
            f"poll; if it stays so, seek past it, or have the broker's log checked"
        )
        self._assignment.read_again(state, self._generation, position, error)
        self._forget()
        return error

    def _advance(self, position: int) -> None:
        if self._state is not None and self._assignment.advance(self._state, self._generation, position):
            self._driver.wake()

    def _forget(self) -> None:
        self._chunk = self._state = self._batch = self._records = None
