"""fastlog.Consumer: reads topics of any Kafka cluster."""

from __future__ import annotations

import itertools
import re
import time
import weakref
from typing import TYPE_CHECKING, Self, Unpack

from fastlog.client.consumer.assignment import Assignment
from fastlog.client.consumer.checks import (
    checked_group,
    checked_offset,
    checked_offsets,
    checked_partition,
    checked_topics,
    re2_syntax,
)
from fastlog.client.consumer.driver import Driver
from fastlog.client.consumer.making import (
    close_dropped,
    make_fetcher,
    make_group,
    make_options,
    weak_call,
)
from fastlog.client.consumer.partition_state import EARLIEST, LATEST
from fastlog.client.consumer.reader import Reader
from fastlog.client.consumer.topic_partition import TopicPartition
from fastlog.client.group.listeners import Listeners
from fastlog.errors import ClosedError, ConfigError, FastlogError, NotReachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from fastlog.client.committed_offset import CommittedOffset
    from fastlog.client.consumer.checks import Offset, Partition, Topics
    from fastlog.client.consumer.options import OptionTypes
    from fastlog.client.group.driver import GroupDriver
    from fastlog.client.group.effects import GroupMetadata
    from fastlog.client.group.listeners import Committed, Listener
    from fastlog.client.group.session import GroupSession
    from fastlog.native._records import Record, RecordBatch

FOREVER = float("inf")
CLOSE_AT_EXIT_MS = 1_000
CLOSE_SECONDS = 5.0


class Consumer:
    """Reads records from topics: by subscription, by explicit assignment, or as a member of a group.

    >>> with Consumer("127.0.0.1:9092", topics=["flights"], auto_offset_reset="earliest") as consumer:
    ...     for record in consumer:
    ...         print(record.offset, record.value)

    With `group_id` the members of the group share the partitions of their topics, and their positions are kept by the
    brokers. Without it nothing is kept anywhere.

    Records are fetched ahead by one thread per broker, within `prefetch_bytes`. A position is the next offset to be
    delivered; it passes transaction markers and other gaps. One thread reads and seeks; `close` may be called from any.
    """

    def __init__(
        self,
        bootstrap: str | Iterable[str] = "127.0.0.1:9092",
        *,
        topics: Topics | None = None,
        group_id: str | None = None,
        on_assign: Listener | None = None,
        on_revoke: Listener | None = None,
        on_lost: Listener | None = None,
        **options: Unpack[OptionTypes],
    ) -> None:
        """Connects to nobody yet; the first contact is made in the background once there is something to read.

        `bootstrap` is HOST:PORT, several separated by commas or as a list. `topics` is the same as calling `subscribe`.
        `auto_offset_reset` ("latest", "earliest" or "none") says where to begin without a position; `isolation_level`
        is "read_uncommitted" or "read_committed". `prefetch_bytes` (16 MiB) bounds what is fetched ahead, and
        `bootstrap_timeout_ms` (10 s) how long the first contact may take. The others are Kafka's, with its defaults:
        client_id, rack, check_crcs, fetch_min_bytes, fetch_max_bytes, max_partition_fetch_bytes, fetch_max_wait_ms,
        metadata_max_age_ms, request_timeout_ms, connect_timeout_ms, retry_backoff_ms, retry_backoff_max_ms,
        max_poll_records.

        `group_id` makes it a member of a group, or with `assign` a reader with the group's positions. Then these count
        too, with Kafka's defaults: group_instance_id, session_timeout_ms, heartbeat_interval_ms, max_poll_interval_ms,
        partition_assignment_strategy ("range", "roundrobin", "sticky", "cooperative-sticky", or several),
        enable_auto_commit, auto_commit_interval_ms. `on_assign`, `on_revoke` and `on_lost` are called with sets of
        partitions, by the thread that reads, while it asks for records or closes. Raises ConfigError.
        """
        self._options = make_options(options)
        self._fetcher = make_fetcher(self._options)
        self._assignment = Assignment(self._fetcher, self._options.auto_offset_reset)
        self._driver = Driver(bootstrap, self._options, self._fetcher, self._assignment)
        self._group: GroupSession | None = None
        group: GroupDriver | None = None
        if group_id is not None:
            self._group, group = make_group(
                checked_group(group_id),
                self._options,
                self._assignment,
                self._driver,
                weak_call(self._handed_out, {}),
                weak_call(self._dropped, None),
                Listeners(on_assign, on_revoke, on_lost),
            )
        elif on_assign or on_revoke or on_lost:
            raise ConfigError(
                "on_assign, on_revoke and on_lost are for members of a group: give group_id too"
            )
        attend = None if self._group is None else self._group.attend
        self._reader = Reader(self._fetcher, self._assignment, self._driver, attend)
        #: taken from the stream but not returned: an interrupt came between
        self._kept: list[Record] = []
        # ends the threads of a consumer that was dropped without close, also when the interpreter exits
        self._finalizer = weakref.finalize(self, close_dropped, self._driver, group, CLOSE_AT_EXIT_MS)
        if topics is not None:
            self.subscribe(topics)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # what was being worked on when it failed is not done: the group's position stays before it
        self._close(CLOSE_SECONDS, keep=error is None)

    def __repr__(self) -> str:
        state = "closed" if self._driver.closing else f"{len(self._assignment.states)} partitions"
        return f"<Consumer {self._options.client_id!r}, {state}>"

    # --- what to read ---

    def subscribe(self, topics: Topics) -> None:
        """Reads `topics` in place of what was read before; partitions added later included.

        `topics` is one name, several, or a compiled regular expression that whole names have to match; topics that
        match later are found within `metadata_max_age_ms`. In a group with `group_protocol="consumer"` the coordinator
        matches, so that the expression has to be one of RE2, unless it is too old for that. A member of a group reads
        what the group gives it; others read all partitions. A partition that is added later is read from its start, and
        so is one of a topic that is deleted and made anew. Raises ConfigError.
        """
        chosen = checked_topics(topics)
        if isinstance(chosen, re.Pattern):
            self._expect(chosen)
        else:
            self._subscribe_to(chosen)
        # a member keeps what it has until its group has agreed
        self._touched(None if self._group is None else ())

    def _expect(self, pattern: re.Pattern[str]) -> None:
        regex = re2_syntax(pattern) if self._group is not None and self._group.matches_patterns else None
        self._begin()
        self._assignment.expect()
        self._driver.expect(pattern, by_group=regex is not None)
        if self._group is not None:
            self._group.expect(regex)
        self._driver.refresh_soon()

    def _subscribe_to(self, topics: frozenset[str]) -> None:
        self._begin()
        self._driver.expect(None)
        if self._group is not None:
            self._group.subscribe(topics)
        else:
            self._assignment.subscribe(topics)

    def unsubscribe(self) -> None:
        """Reads nothing any more; a member leaves its group, after `on_revoke`."""
        self._check_open()
        self._driver.expect(None)
        if self._group is not None:
            self._group.unsubscribe("unsubscribed")
        self._assignment.assign({})
        self._touched()

    def assign(
        self,
        partitions: Iterable[Partition] = (),
        *,
        positions: Mapping[Partition, int] | None = None,
    ) -> None:
        """Reads exactly these partitions, in place of what was read before.

        Those in `positions` begin there; the others where they stand, at the group's position if there is a group, or
        as `auto_offset_reset` says. `positions` is what `positions()` returned, perhaps in an earlier process.
        """
        self._begin()
        self._driver.expect(None)
        if self._group is not None:
            self._group.unsubscribe("partitions are assigned by hand")
            self._group.stand_alone()
        wanted: dict[TopicPartition, int | None] = {}
        wanted.update((checked_partition(one), None) for one in partitions)
        for one, offset in (positions or {}).items():
            wanted[checked_partition(one)] = checked_offset(one, offset)
        self._assignment.assign(wanted)
        self._touched()
        if self._group is not None:
            self._group.look_up()

    def assignment(self) -> set[TopicPartition]:
        """The partitions that are read; those of a subscription are known after the first contact.

        A member of a group has those that it was given when it last asked for records.
        """
        with self._assignment.changed:
            return set(self._assignment.states)

    # --- reading ---

    def poll(self, max_records: int | None = None, timeout: float = 1.0) -> list[Record]:
        """The next records, at most `max_records`, of one partition after the other; waits for the first one.

        Without `max_records` it is the option `max_poll_records`, 500 unless set.

        Returns an empty list after `timeout` seconds. Raises what keeps a partition from being read, such as
        OffsetOutOfRangeError (with `auto_offset_reset="none"`) or CorruptMessageError; NotReachableError if no broker
        could be reached within `bootstrap_timeout_ms`. Later outages are waited out.
        """
        if max_records is None:
            max_records = self._options.max_poll_records
        elif max_records < 1:
            raise ConfigError(f"max_records is {max_records}; it must be at least 1")
        deadline = time.monotonic() + timeout
        kept = self._kept
        while len(kept) < max_records:
            try:
                records = self._next_records(0.0 if kept else deadline)
                if records is None:
                    break
                # one call into C: an interrupt comes before or after, and loses nothing
                kept.extend(itertools.islice(records, max_records - len(kept)))
            except FastlogError:
                # what came before it is delivered first; the next poll meets it again
                if kept:
                    break
                raise
        if len(kept) <= max_records:
            self._kept = []
            return kept
        self._kept = kept[max_records:]
        return kept[:max_records]

    def __iter__(self) -> Iterator[Record]:
        """Iterates over records for ever; ends when the consumer is closed."""
        return itertools.chain.from_iterable(self._record_iterators())

    def batches(self, timeout: float = FOREVER) -> Iterator[RecordBatch]:
        """Iterates over whole batches as they were written; ends after `timeout` seconds without one.

        A batch counts as read when the next one is asked for.
        """
        self._check_open()
        while (batch := self._next_batch(time.monotonic() + timeout)) is not None:
            yield batch

    # --- positions ---

    def positions(self, timeout: float = 10.0) -> dict[TopicPartition, int]:
        """The position of each partition: the next offset to be delivered.

        Waits up to `timeout` seconds for those that are being looked up, then raises NotReachableError.
        """
        self._wait(self._all_positions_known, timeout, "the positions of {unknown} are not known")
        with self._assignment.changed:
            positions = {
                tp: state.position
                for tp, state in self._assignment.states.items()
                if state.position is not None
            }
        standing = self._standing()
        return {tp: standing.get(tp, position) for tp, position in positions.items()}

    def position(self, partition: Partition, timeout: float = 10.0) -> int:
        """The position of one partition; waits like `positions`."""
        tp = self._assigned(partition)
        return self.positions(timeout)[tp]

    def seek(self, partition: Partition, offset: int) -> None:
        """The next record of the partition is the one at `offset`, or the first one after it.

        What was fetched ahead is dropped, and so is what remains of an iteration's present batch.
        """
        tp = self._assigned(partition)
        checked_offset(tp, offset)
        self._assignment.seek(tp, offset)
        self._touched([tp])

    def seek_to_beginning(self, *partitions: Partition) -> None:
        """Goes to the first readable record of these partitions, or of all."""
        self._seek_to(EARLIEST, partitions)

    def seek_to_end(self, *partitions: Partition) -> None:
        """Goes behind the last record of these partitions, or of all."""
        self._seek_to(LATEST, partitions)

    def seek_to_timestamp(self, timestamp_ms: int, *partitions: Partition) -> None:
        """Goes to the first record with at least this timestamp in these partitions, or in all; else to the end."""
        if timestamp_ms < 0:
            raise ConfigError(
                f"timestamp_ms is {timestamp_ms}; it counts milliseconds since 1970 and is not negative"
            )
        self._seek_to(timestamp_ms, partitions)

    def pause(self, *partitions: Partition) -> None:
        """Delivers nothing of these partitions, or of any, until they are resumed."""
        chosen = self._chosen(partitions)
        standing = self._standing()
        for tp in chosen:
            self._assignment.pause(tp, standing.get(tp))
        self._touched(chosen)

    def resume(self, *partitions: Partition) -> None:
        """Goes on with these partitions, or with all, at their positions."""
        for tp in self._chosen(partitions):
            self._assignment.resume(tp)
        self._driver.wake()

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        with self._assignment.changed:
            return {tp for tp, state in self._assignment.states.items() if state.paused}

    # --- the group ---

    def commit(self, offsets: Mapping[Partition, Offset] | None = None, *, timeout: float = 10.0) -> None:
        """Has the group keep `offsets`, or the positions after all that was handed out; waits for it.

        An offset is that of the next record to be read. Raises RebalanceInProgressError while the group changes (poll,
        then commit again), IllegalGenerationError or UnknownMemberIdError when the partitions have gone to others, and
        NotReachableError after `timeout` seconds.
        """
        self._require_group().commits.commit(
            None if offsets is None else checked_offsets(offsets), timeout * 1000
        )

    def commit_async(
        self, offsets: Mapping[Partition, Offset] | None = None, on_done: Committed | None = None
    ) -> None:
        """As `commit`, without waiting: `on_done` is called with what was to be committed, and None or the error.

        That happens on this thread while it asks for records, commits or closes. Nothing is tried again, since a later
        commit says more. Commits that wait for the coordinator are joined into one. Raises BufferFullError where
        100,000 are not settled.
        """
        self._require_group().commits.commit_async(
            None if offsets is None else checked_offsets(offsets), on_done
        )

    def committed(
        self, partitions: Iterable[Partition] | None = None, *, timeout: float = 10.0
    ) -> dict[TopicPartition, CommittedOffset]:
        """The group's positions of `partitions`, or of those that are read; without those that have none.

        Raises NotReachableError after `timeout` seconds.
        """
        group = self._require_group()
        chosen = self.assignment() if partitions is None else {checked_partition(one) for one in partitions}
        return group.commits.committed(sorted(chosen), timeout * 1000) if chosen else {}

    def group_metadata(self) -> GroupMetadata:
        """Who this consumer is in its group now; generation -1 where it is no member."""
        return self._require_group().metadata()

    def lag(self) -> dict[TopicPartition, int | None]:
        """How many offsets each partition's position is behind its end, as the broker last told; None before it did.

        It counts offsets, transaction markers and gaps included.
        """
        standing = self._handed_out()
        with self._assignment.changed:
            slots = {tp: state.slot for tp, state in self._assignment.states.items()}
        found: dict[TopicPartition, int | None] = {}
        for tp, slot in slots.items():
            marks = self._fetcher.watermarks(slot)
            end = -1 if marks is None else marks[1] if self._options.read_committed else marks[0]
            found[tp] = max(0, end - standing[tp]) if end >= 0 and tp in standing else None
        return found

    def failures(self) -> dict[TopicPartition, FastlogError]:
        """Why partitions could not be read when they were last tried; they are tried on.

        One without a leader is among them, and one is no longer when records of it come or it is sought.
        """
        return self._assignment.failures()

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Ends threads and connections; waits at most `timeout` seconds for them. May be called more than once.

        A member of a group commits what was handed out (unless `enable_auto_commit` is off), hears `on_revoke`, and
        leaves at once; a static one stays until its session ends.
        """
        self._close(timeout, keep=True)

    # --- within ---

    def _handed_out(self) -> dict[TopicPartition, int]:
        """The positions that are known now, without waiting."""
        with self._assignment.changed:
            known = {
                tp: state.position
                for tp, state in self._assignment.states.items()
                if state.position is not None
            }
        standing = self._standing()
        return {tp: standing.get(tp, position) for tp, position in known.items()}

    def _dropped(self) -> None:
        """Partitions are not read any more: nothing that is held of them must be delivered."""
        with self._assignment.changed:
            held = set(self._assignment.states)
        # in place: a poll may be collecting them
        self._kept[:] = [one for one in self._kept if TopicPartition(one.topic, one.partition) in held]
        self._reader.drop_stale()

    def _close(self, timeout: float, *, keep: bool) -> None:
        deadline = time.monotonic() + timeout
        self._finalizer.detach()
        if self._group is not None and not self._driver.closing:
            try:
                self._group.close(timeout * 1000, keep=keep)
            finally:
                self._driver.close(max(0.0, deadline - time.monotonic()) * 1000)
        else:
            self._driver.close(timeout * 1000)

    def _require_group(self) -> GroupSession:
        self._check_open()
        if self._group is None:
            raise ConfigError("this consumer is of no group, and only groups keep positions: give group_id")
        return self._group

    def _begin(self) -> None:
        self._check_open()
        self._driver.start()

    def _check_open(self) -> None:
        if self._driver.closing:
            raise ClosedError("the consumer is closed; make a new one")

    def _touched(self, partitions: Iterable[TopicPartition] | None = None) -> None:
        """Drops what is held of partitions whose position has changed, and has the driver look."""
        changed = None if partitions is None else set(partitions)
        self._kept = [
            record
            for record in self._kept
            if changed is not None and TopicPartition(record.topic, record.partition) not in changed
        ]
        self._reader.drop_stale()
        self._driver.wake()

    def _standing(self) -> dict[TopicPartition, int]:
        """Positions that are ahead of, or behind, what the assignment has written down."""
        present = self._reader.position()
        standing = {} if present is None else dict([present])
        for record in reversed(self._kept):
            standing[TopicPartition(record.topic, record.partition)] = record.offset
        return standing

    def _next_records(self, deadline: float) -> Iterator[Record] | None:
        self._check_open()
        if self._group is None:
            records = self._reader.next_records(deadline)
        else:
            with self._group:
                records = self._reader.next_records(deadline)
        if records is None:
            self._check_open()
        return records

    def _next_batch(self, deadline: float) -> RecordBatch | None:
        if self._group is None:
            return self._reader.next_batch(deadline)
        with self._group:
            return self._reader.next_batch(deadline)

    def _record_iterators(self) -> Iterator[Iterator[Record]]:
        while True:
            while self._kept:
                yield iter((self._kept.pop(0),))
            try:
                records = self._next_records(FOREVER)
            except ClosedError:
                return
            if records is not None:
                # a member looks after its group between two pieces, as it would between two polls
                yield (
                    records
                    if self._group is None
                    else itertools.islice(records, self._options.max_poll_records)
                )

    def _seek_to(self, timestamp: int, partitions: tuple[Partition, ...]) -> None:
        chosen = self._chosen(partitions)
        for tp in chosen:
            self._assignment.seek_to(tp, timestamp)
        self._touched(chosen)

    def _chosen(self, partitions: tuple[Partition, ...]) -> list[TopicPartition]:
        if partitions:
            return [self._assigned(one) for one in partitions]
        self._wait_for_assignment()
        return list(self._assignment.states)

    def _assigned(self, partition: Partition) -> TopicPartition:
        tp = checked_partition(partition)
        self._check_open()
        if tp not in self._assignment.states and self._assignment.subscription is not None:
            self._wait_for_assignment()
        if tp not in self._assignment.states:
            raise ConfigError(f"{tp} is not assigned to this consumer: subscribe to its topic, or assign it")
        return tp

    def _wait_for_assignment(self) -> None:
        timeout = self._options.bootstrap_timeout_ms / 1000
        self._wait(self._assignment_known, timeout, "the partitions of the subscribed topics are not known")

    def _assignment_known(self) -> bool:
        if self._assignment.of_group:
            return True  # what a group gives is no matter of metadata
        wanted = self._assignment.subscription
        if wanted is None:
            return self._driver.pattern is None
        return wanted <= self._assignment.known_topics

    def _all_positions_known(self) -> bool:
        states = self._assignment.states.values()
        return self._assignment_known() and all(state.position is not None for state in states)

    def _wait(self, known: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        self._check_open()
        with self._assignment.changed:
            while not known():
                error = self._assignment.error_to_raise() if self._assignment.alarm else None
                if error is not None:
                    raise error
                self._check_open()
                left = deadline - time.monotonic()
                if left <= 0:
                    states = self._assignment.states.values()
                    unknown = sorted(str(state.tp) for state in states if state.position is None)
                    raise NotReachableError(
                        f"{what.format(unknown=', '.join(unknown[:10]) or 'the subscribed topics')} after {timeout} s: "
                        "is a broker running, and have the partitions a leader?"
                    )
                # short waits: a Ctrl-C and a close from another thread are noticed
                self._assignment.changed.wait(min(left, 0.1))
