"""One leadership of a partition of `__consumer_offsets` on its way through loading and writing."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from fastlog.errors import CoordinatorLoadInProgressError, MalformedMessageError, NotCoordinatorError
from fastlog.events import EventLog
from fastlog.state.records import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastlog.broker.groups.leaderships import Leadership
    from fastlog.broker.groups.log import GroupLog, Pairs
    from fastlog.state.coordinator import Coordinator
    from fastlog.state.effects import Effects, Write
    from fastlog.state.moment import Moment
    from fastlog.state.records import Record


class Shard:
    """A coordinator and what it waits for: its log when it begins, its appends afterwards."""

    def __init__(self, leadership: Leadership, coordinator: Coordinator) -> None:
        self.partition, self.leader_epoch = leadership
        self._coordinator = coordinator
        self.is_loaded = False
        """Whether it serves."""
        self._is_failed = False
        self.attempts = 0
        """How often in a row it could not be read on."""
        self.removed_topics: set[str] = set()
        """Topics that were deleted while it was being read."""
        self._next_offset = -1
        self._end_offset = -1
        # the last value of each key, as the cleaner would leave them: only these are looked into
        self._last: dict[bytes, bytes | None] = {}
        self.pending: deque[tuple[Write, Pairs]] = deque()
        """What is to be appended, encoded."""
        self.in_flight: list[Write] = []

    @property
    def is_loading(self) -> bool:
        """Whether there is more of its log to read."""
        return not (self.is_loaded or self._is_failed)

    def coordinator(self) -> Coordinator:
        """The coordinator; COORDINATOR_LOAD_IN_PROGRESS until it knows what its log says."""
        if self._is_failed:
            raise NotCoordinatorError(f"the groups of partition {self.partition} could not be read")
        if not self.is_loaded:
            raise CoordinatorLoadInProgressError(f"the groups of partition {self.partition} are being read")
        return self._coordinator

    def load_page(self, log: GroupLog, now: Moment) -> Effects | None:
        """Reads on in the log; the effects of its end, when that is reached. Raises KafkaError."""
        at = self.partition, self.leader_epoch
        if self._next_offset < 0:
            self._next_offset = log.start_offset(*at)
        page = log.read(*at, self._next_offset)
        self._last.update(page.records)
        self._next_offset = page.next_offset
        self.attempts = 0
        if not page.is_last:
            return None
        if self._end_offset < 0:
            # a leader that was just elected shows less than was committed before it, until the others have fetched
            self._end_offset = log.end_offset(*at)
            if self._next_offset < self._end_offset:
                return None
        effects = self._coordinator.load(self._records(), now)
        self.is_loaded = True
        self._last = {}
        return effects

    def give_up(self, *, with_appended: bool) -> list[Write]:
        """Takes what is not appended yet, and what is and not known to last, in its order: to be told by the caller."""
        appended: list[Write] = []
        if with_appended:
            appended, self.in_flight = self.in_flight, []
        writes = [*appended, *(write for write, _ in self.pending)]
        self.pending.clear()
        return writes

    def fail(self) -> None:
        """Its log cannot be read: it serves nobody."""
        self._is_failed = True
        self._last = {}

    def _records(self) -> Iterator[Record]:
        for key, value in self._last.items():
            try:
                record = decode(key, value)
            except MalformedMessageError as error:
                # whatever wrote it: the other groups are served
                EventLog("groups").error(
                    "a record of a group is passed over", partition=self.partition, reason=str(error)
                )
                continue
            if record is not None and record.value is not None:
                yield record
