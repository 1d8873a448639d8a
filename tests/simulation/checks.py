"""What must hold, whatever happens: the invariants of docs/cluster.md, held against everything that is seen."""

from __future__ import annotations

from fastlog.ports import PartitionKey, PartitionState
from tests.simulation.history import Era, History, first_difference
from tests.simulation.machine import Log
from tests.simulation.records import Record


class ViolationError(AssertionError):
    """An invariant does not hold."""


class Judge:
    """Raises ViolationError where one is seen."""

    def __init__(self, *, is_loose: bool, unclean: bool) -> None:
        """`is_loose` where producers do without order and what was lost; `unclean` where any log may be elected."""
        self._is_loose = is_loose
        self._unclean = unclean
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
        is_surprise = after.leader not in (-1, *before.isr, *before.elr)
        if self._unclean and is_surprise and after.recovering:
            self.of(key).eras.append(Era(after.leader_epoch, None))

    # -- brokers ---------------------------------------------------------------------------------------------------

    def leads(
        self, key: PartitionKey, epoch: int, process: tuple[int, int], log: Log, *, is_current: bool
    ) -> None:
        """A broker begins to lead, perhaps when the next one was elected already: I1 and I5.

        Not when it is elected: that may be a process that is dead, and whose disk is gone, as nobody knows yet.
        """
        history = self.of(key)
        known = history.leaders.setdefault(epoch, process)
        self.require(
            known == process, f"I1: epoch {epoch} of {key.partition} is led by {known} and {process}"
        )
        history.begins(epoch, log)
        committed = history.committed_in(epoch)
        if is_current and committed is not None:
            at = first_difference(log, 0, committed, len(committed))
            if at is not None:
                raise ViolationError(
                    f"I5: {process[0]} leads {key.partition} in epoch {epoch}, but lacks what was committed at {at}: "
                    f"{committed[at]}; it ends at {log.end}"
                )

    def exposes(
        self, key: PartitionKey, epoch: int, log: Log, broker: int, since: int, high_watermark: int
    ) -> None:
        """A leader's high watermark has moved from `since`: I2, and one record at an offset for ever."""
        committed = self.of(key).committed_in(epoch)
        assert committed is not None
        # what is new, and the last of what is known: the rest was compared when it was new
        start = max(0, min(since, len(committed), high_watermark) - 1)
        at = first_difference(log, start, committed, min(len(committed), high_watermark))
        if at is not None:
            raise ViolationError(
                f"I2: {broker} has {log.records(at, at + 1)} at {at} of {key.partition}, others {committed[at]}"
            )
        fresh = len(committed)
        self.require(log.start <= fresh, f"lost: {broker} deleted what was not committed, from {fresh} on")
        committed.extend(log.records(fresh, high_watermark))
        if self._is_loose:
            return
        # the only producer of a partition numbers its records: nothing is there twice, and the order is kept
        for offset in range(fresh, len(committed)):
            value = committed[offset][1]
            self.require(
                value == offset,
                f"order: record {value} is at {offset} of {key.partition}, committed by {broker}",
            )

    def follows(self, key: PartitionKey, epoch: int, log: Log, broker: int, since: int) -> None:
        """A follower's log has grown from `since` on: what of it is committed must be the same."""
        committed = self.of(key).committed_in(epoch)
        if committed is None:
            return
        end = min(len(committed), log.high_watermark)
        if since < end and first_difference(log, since, committed, end) is not None:
            raise ViolationError(f"I2: {broker} diverges below the high watermark {end} of {key.partition}")

    def cuts(self, key: PartitionKey, log: Log, broker: int, offset: int) -> None:
        """A follower cuts its log: never what it knows to be committed, unless an unclean election lost that."""
        high_watermark = log.high_watermark
        self.require(
            offset >= high_watermark or self.of(key).has_lost,
            f"lost: {broker} cuts {key.partition} to {offset}, below its high watermark {high_watermark}",
        )

    def restarts(self, key: PartitionKey, log: Log, broker: int, offset: int) -> None:
        """A follower drops its log to begin where its leader's does: that is behind its own, and was committed."""
        history = self.of(key)
        self.require(
            history.has_lost or log.end < offset <= len(history.committed),
            f"lost: {broker} begins {key.partition} anew at {offset}; it ended at {log.end}",
        )

    # -- clients ---------------------------------------------------------------------------------------------------

    def acknowledges(self, key: PartitionKey, value: int, offset: int) -> None:
        """A producer is told that `value` is at `offset`, on all that are in sync."""
        history = self.of(key)
        if history.has_lost:
            return
        known = history.acknowledged.setdefault(value, offset)
        self.require(
            # without a producer's id what the network sends twice is there twice
            known == offset or self._is_loose,
            f"{value} of {key.partition} was acknowledged at {known} and at {offset}",
        )
        if offset < len(history.committed):
            found = history.committed[offset][1]
            self.require(
                found == value, f"at {offset} of {key.partition} is {found}, acknowledged was {value}"
            )

    def tells_end(self, key: PartitionKey, end: int) -> None:
        """A client is told where the log ends: it never goes back."""
        history = self.of(key)
        self.require(
            end >= history.told_end or history.has_lost,
            f"I3: the end of {key.partition} goes back: {history.told_end}, {end}",
        )
        history.told_end = end

    def reads(self, key: PartitionKey, offset: int, records: list[Record]) -> None:
        """A consumer is given records."""
        self.require(
            self.of(key).was_committed(offset, records),
            f"a consumer reads {records} at {offset} of {key.partition}, which was never committed",
        )

    # -- the end ---------------------------------------------------------------------------------------------------

    def ends_with(self, key: PartitionKey, log: Log) -> None:
        """All is well again and `log` is the leader's: nothing acknowledged is lost."""
        history = self.of(key)
        if history.has_lost:
            return
        start = log.start
        held = log.records(start, log.end)
        for value, offset in history.acknowledged.items():
            found = held[offset - start] if 0 <= offset - start < len(held) else None
            self.require(
                offset < start or (found is not None and found[1] == value),
                f"lost: {value} was acknowledged at {offset} of {key.partition}, where {found} is",
            )

    @staticmethod
    def require(holds: bool, what: str) -> None:
        """Raises where it does not."""
        if not holds:
            raise ViolationError(what)
