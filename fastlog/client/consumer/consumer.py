"""fastlog.Consumer: reads topics of any Kafka cluster."""

from __future__ import annotations

import itertools
import time
import weakref
from typing import TYPE_CHECKING, Self, Unpack

from fastlog.client.consumer.assignment import Assignment
from fastlog.client.consumer.driver import Driver
from fastlog.client.consumer.options import ConsumerOptions
from fastlog.client.consumer.partition_state import EARLIEST, LATEST
from fastlog.client.consumer.reader import Reader
from fastlog.client.consumer.topic_partition import TopicPartition
from fastlog.errors import ClosedError, ConfigError, FastlogError, NotReachableError
from fastlog.native._engine import Fetcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from fastlog.client.consumer.options import OptionTypes
    from fastlog.native._records import Record, RecordBatch

FOREVER = float("inf")
CLOSE_AT_EXIT_MS = 1_000
#: a partition: topic and number
Partition = tuple[str, int]


class Consumer:
    """Reads records from topics, by subscription or by explicit assignment, and keeps no state on any broker.

    >>> with Consumer("127.0.0.1:9092", topics=["flights"], auto_offset_reset="earliest") as consumer:
    ...     for record in consumer:
    ...         print(record.offset, record.value)

    Records are fetched ahead by one thread per broker, within `prefetch_bytes`. A position is the next offset to be
    delivered; it passes transaction markers and other gaps. One thread reads and seeks; `close` may be called from any.
    """

    def __init__(
        self,
        bootstrap: str | Iterable[str] = "127.0.0.1:9092",
        *,
        topics: str | Iterable[str] | None = None,
        group_id: str | None = None,
        **options: Unpack[OptionTypes],
    ) -> None:
        """Connects to nobody yet; the first contact is made in the background once there is something to read.

        `bootstrap` is HOST:PORT, several separated by commas or as a list. `topics` is the same as calling `subscribe`.
        `auto_offset_reset` ("latest", "earliest" or "none") says where to begin without a position; `isolation_level`
        is "read_uncommitted" or "read_committed". `prefetch_bytes` (16 MiB) bounds what is fetched ahead, and
        `bootstrap_timeout_ms` (10 s) how long the first contact may take. The others are Kafka's, with its defaults:
        client_id, rack, check_crcs, fetch_min_bytes, fetch_max_bytes, max_partition_fetch_bytes, fetch_max_wait_ms,
        metadata_max_age_ms, request_timeout_ms, connect_timeout_ms, retry_backoff_ms, retry_backoff_max_ms.
        `group_id` is refused: there are no groups yet. Raises ConfigError.
        """
        if group_id is not None:
            raise ConfigError(
                f"group_id is {group_id!r}, but consumer groups are not supported yet: leave it out, "
                "and keep positions yourself with positions() and assign(positions=...)"
            )
        self._options = make_options(options)
        self._fetcher = make_fetcher(self._options)
        self._assignment = Assignment(self._fetcher, self._options.auto_offset_reset)
        self._driver = Driver(bootstrap, self._options, self._fetcher, self._assignment)
        self._reader = Reader(self._fetcher, self._assignment, self._driver)
        #: taken from the stream but not returned: an interrupt came between
        self._kept: list[Record] = []
        # ends the threads of a consumer that was dropped without close, also when the interpreter exits
        self._finalizer = weakref.finalize(self, Driver.close, self._driver, CLOSE_AT_EXIT_MS)
        if topics is not None:
            self.subscribe(topics)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._driver.closing else f"{len(self._assignment.states)} partitions"
        return f"<Consumer {self._options.client_id!r}, {state}>"

    # --- what to read ---

    def subscribe(self, topics: str | Iterable[str]) -> None:
        """Reads all partitions of `topics`, in place of what was read before; partitions added later included.

        A partition that is added later is read from its start, and so is one of a topic that is deleted and made anew.
        """
        names = frozenset([topics] if isinstance(topics, str) else topics)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ConfigError(f"cannot subscribe to {topics!r}: name at least one topic")
        self._begin()
        self._assignment.subscribe(names)
        self._touched()

    def assign(
        self,
        partitions: Iterable[Partition] = (),
        *,
        positions: Mapping[Partition, int] | None = None,
    ) -> None:
        """Reads exactly these partitions, in place of what was read before.

        Those in `positions` begin there; the others where they stand, or as `auto_offset_reset` says. `positions` is
        what `positions()` returned, perhaps in an earlier process.
        """
        self._begin()
        wanted: dict[TopicPartition, int | None] = {}
        wanted.update((checked_partition(one), None) for one in partitions)
        for one, offset in (positions or {}).items():
            wanted[checked_partition(one)] = checked_offset(one, offset)
        self._assignment.assign(wanted)
        self._touched()

    def assignment(self) -> set[TopicPartition]:
        """The partitions that are read; those of a subscription are known after the first contact."""
        with self._assignment.changed:
            return set(self._assignment.states)

    # --- reading ---

    def poll(self, max_records: int = 500, timeout: float = 1.0) -> list[Record]:
        """The next records, at most `max_records`, of one partition after the other; waits for the first one.

        Returns an empty list after `timeout` seconds. Raises what keeps a partition from being read, such as
        OffsetOutOfRangeError (with `auto_offset_reset="none"`) or CorruptMessageError; NotReachableError if no broker
        could be reached within `bootstrap_timeout_ms`. Later outages are waited out.
        """
        if max_records < 1:
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
        while (batch := self._reader.next_batch(time.monotonic() + timeout)) is not None:
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

    def close(self, timeout: float = 5.0) -> None:
        """Ends threads and connections; waits at most `timeout` seconds for them. May be called more than once."""
        self._finalizer.detach()
        self._driver.close(timeout * 1000)

    # --- within ---

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
        records = self._reader.next_records(deadline)
        if records is None:
            self._check_open()
        return records

    def _record_iterators(self) -> Iterator[Iterator[Record]]:
        while True:
            while self._kept:
                yield iter((self._kept.pop(0),))
            try:
                records = self._next_records(FOREVER)
            except ClosedError:
                return
            if records is not None:
                yield records

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
        return (self._assignment.subscription or frozenset()) <= self._assignment.known_topics

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


def make_options(options: OptionTypes) -> ConsumerOptions:
    """The options of a consumer; raises ConfigError for one that does not exist or does not fit."""
    unknown = sorted(set(options) - set(ConsumerOptions.__slots__))
    if unknown:
        known = ", ".join(sorted(ConsumerOptions.__slots__))
        raise ConfigError(f"a consumer has no option {unknown[0]!r}; it has {known}")
    return ConsumerOptions(**options)


def make_fetcher(options: ConsumerOptions) -> Fetcher:
    """The native fetcher for these options."""
    return Fetcher(
        client_id=options.client_id,
        rack=options.rack,
        fetch_min_bytes=options.fetch_min_bytes,
        fetch_max_bytes=options.fetch_max_bytes,
        max_partition_fetch_bytes=options.max_partition_fetch_bytes,
        fetch_max_wait_ms=options.fetch_max_wait_ms,
        read_committed=options.read_committed,
        check_crcs=options.check_crcs,
        prefetch_bytes=options.prefetch_bytes,
        connect_timeout_ms=options.connect_timeout_ms,
        request_timeout_ms=options.request_timeout_ms,
        reconnect_backoff_ms=options.retry_backoff_ms,
        reconnect_backoff_max_ms=options.retry_backoff_max_ms,
    )


def checked_partition(partition: Partition) -> TopicPartition:
    """`partition` as a TopicPartition; raises ConfigError where it is none."""
    match partition:
        case (str() as topic, int() as number) if (
            topic and not isinstance(number, bool) and 0 <= number < 2**31
        ):
            return TopicPartition(topic, number)
    raise ConfigError(f"{partition!r} is no partition: write TopicPartition('topic', 0) or ('topic', 0)")


def checked_offset(partition: Partition, offset: int) -> int:
    """`offset`; raises ConfigError where it is none."""
    if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset < 2**63:
        raise ConfigError(
            f"{offset!r} is no offset of {partition!r}: offsets count from 0; "
            "for the ends use seek_to_beginning and seek_to_end"
        )
    return offset
