"""What must hold, whatever happens: the invariants of docs/cluster.md, held against everything that is seen."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastlog.ports import PartitionKey, PartitionState
from tests.simulation.machine import Log
from tests.simulation.records import Record


class ViolationError(AssertionError):
    """An invariant does not hold."""


@dataclass
class History:
    """What was seen of one partition."""

    #: what every replica must hold at an offset for ever, since some leader had it below its high watermark
    committed: list[Record] = field(default_factory=list)
    #: offset by value, of what a producer was told is in the log
    acknowledged: dict[int, int] = field(default_factory=dict)
    #: the process, as (broker, broker epoch), that led in an epoch
    leaders: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: the latest offset that a client was told
    told_end: int = 0


class Judge:
    """Raises ViolationError where one is seen."""

    def __init__(self) -> None:
        self.histories: dict[PartitionKey, History] = {}

    def of(self, key: PartitionKey) -> History:
        """What was seen of a partition."""
        return self.histories.setdefault(key, History())

    # -- the store -------------------------------------------------------------------------------------------------

    def stored(
        self,
        key: PartitionKey,
        before: PartitionState,
        after: PartitionState,
        controller_epoch: int,
        fence: int,
    ) -> None:
        """A state is written: I4, I6, I7."""
        told = f"{key.partition}: {before} -> {after}"
        self.require(
            controller_epoch == fence, f"I7: written by controller {controller_epoch} of {fence}; {told}"
        )
        self.require(set(after.isr) <= set(after.replicas), f"I4: {told}")
        self.require(after.leader == -1 or after.leader in after.isr, f"I4: {told}")
        self.require(after.leader_epoch >= before.leader_epoch, f"I6: {told}")
        if after.leader != before.leader:
            self.require(after.leader_epoch > before.leader_epoch, f"I6: {told}")

    def _has_everything(self, key: PartitionKey, leader: int, epoch: int, log: Log) -> None:
        committed = self.of(key).committed
        count = len(committed)
        held = log.records(0, count)
        if held != committed:
            at = next(n for n in range(count) if n >= len(held) or held[n] != committed[n])
            raise ViolationError(
                f"I5: {leader} leads {key.partition} in epoch {epoch}, but lacks what was committed at {at}: "
                f"{committed[at]}; it ends at {log.end}"
            )

    # -- brokers ---------------------------------------------------------------------------------------------------

    def leads(
        self, key: PartitionKey, epoch: int, process: tuple[int, int], log: Log, *, is_current: bool
    ) -> None:
        """A broker begins to lead, perhaps when the next one was elected already: I1 and I5.

        Not when it is elected: that may be a process that is dead, and whose disk is gone, as nobody knows yet.
        """
        known = self.of(key).leaders.setdefault(epoch, process)
        self.require(
            known == process, f"I1: epoch {epoch} of {key.partition} is led by {known} and {process}"
        )
        if is_current:
            self._has_everything(key, process[0], epoch, log)

    def exposes(self, key: PartitionKey, log: Log, broker: int, since: int, high_watermark: int) -> None:
        """A leader's high watermark has moved from `since`: I2, and one record at an offset for ever."""
        committed = self.of(key).committed
        # what is new, and the last of what is known: the rest was compared when it was new
        start = max(0, min(since, len(committed), high_watermark) - 1)
        records = log.records(start, high_watermark)
        known = committed[start:high_watermark]
        if records[: len(known)] != known:
            at = next(n for n in range(len(known)) if n >= len(records) or records[n] != known[n])
            raise ViolationError(
                f"I2: {broker} has {records[at : at + 1]} at {start + at} of {key.partition}, others {known[at]}"
            )
        fresh = len(committed)
        committed.extend(records[len(known) :])
        # the only producer of a partition numbers its records: nothing is there twice, and the order is kept
        for offset in range(fresh, len(committed)):
            value = committed[offset][1]
            self.require(
                value == offset,
                f"order: record {value} is at {offset} of {key.partition}, committed by {broker}",
            )

    def follows(self, key: PartitionKey, log: Log, broker: int, since: int) -> None:
        """A follower's log has grown from `since` on: what of it is committed must be the same."""
        committed = self.of(key).committed
        end = min(len(committed), log.high_watermark)
        if since < end and log.records(since, end) != committed[since:end]:
            raise ViolationError(f"I2: {broker} diverges below the high watermark {end} of {key.partition}")

    # -- clients ---------------------------------------------------------------------------------------------------

    def acknowledges(self, key: PartitionKey, value: int, offset: int) -> None:
        """A producer is told that `value` is at `offset`."""
        acknowledged = self.of(key).acknowledged
        known = acknowledged.setdefault(value, offset)
        self.require(
            known == offset, f"{value} of {key.partition} was acknowledged at {known} and at {offset}"
        )
        if offset < len(self.of(key).committed):
            found = self.of(key).committed[offset][1]
            self.require(
                found == value, f"at {offset} of {key.partition} is {found}, acknowledged was {value}"
            )

    def tells_end(self, key: PartitionKey, end: int) -> None:
        """A client is told where the log ends: it never goes back."""
        history = self.of(key)
        self.require(
            end >= history.told_end, f"I3: the end of {key.partition} goes back: {history.told_end}, {end}"
        )
        history.told_end = end

    def reads(self, key: PartitionKey, offset: int, records: list[Record]) -> None:
        """A consumer is given records."""
        committed = self.of(key).committed
        if committed[offset : offset + len(records)] != records:
            raise ViolationError(
                f"a consumer reads {records} at {offset} of {key.partition}, which was never committed"
            )

    # -- the end ---------------------------------------------------------------------------------------------------

    def ends_with(self, key: PartitionKey, log: Log) -> None:
        """All is well again and `log` is the leader's: nothing acknowledged is lost."""
        held = log.records(0, log.end)
        for value, offset in self.of(key).acknowledged.items():
            found = held[offset] if offset < len(held) else None
            self.require(
                found is not None and found[1] == value,
                f"lost: {value} was acknowledged at {offset} of {key.partition}, where {found} is",
            )

    @staticmethod
    def require(holds: bool, what: str) -> None:
        """Raises where it does not."""
        if not holds:
            raise ViolationError(what)
