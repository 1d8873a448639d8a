"""`fastlog consume`: the records of a topic on standard output."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click

from fastlog.cli import jsonl, report
from fastlog.cli.admin import REQUEST_MS, admin_at
from fastlog.cli.interrupt import sigterm_interrupts
from fastlog.cli.options import bootstrap_option, json_option
from fastlog.errors import CorruptMessageError, FastlogError, OffsetOutOfRangeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fastlog.client.admin import Admin
    from fastlog.client.consumer.consumer import Consumer

# a stop by Ctrl-C, --timeout-ms or --max is noticed at least this often
POLL_SECONDS = 0.2
POLL_RECORDS = 10_000
# a person waits for the end
COMMIT_SECONDS = 2.0
#: with --exit-at-end a partition that cannot be read is tried for so long; a broker that starts again is back by then
PATIENCE_SECONDS = 60.0
#: after so long it is told which partitions do not say where they end
TOLD_SECONDS = 5.0
#: partitions that one error names
NAMES_MAX = 5

Position = tuple[str, int]


class Share(NamedTuple):
    """A topic that is read as a member of a group."""

    topic: str
    group: str
    protocol: str


@dataclass
class Stop:
    """When to end: whatever comes first, never if nothing is set."""

    records_max: int | None
    silence_seconds: float | None
    ends: Mapping[Position, int] | None
    shared: bool = False
    #: partitions that do not tell where they end, with the reason
    missing: Mapping[Position, Exception] = field(default_factory=dict)
    count: int = 0
    heard: float = field(default_factory=time.monotonic)
    #: where partitions stand that are short of their ends
    behind: dict[Position, int] = field(default_factory=dict)
    #: for how long nothing came of these
    stood_seconds: float = 0.0

    def note(self, count: int, seconds: float = 0.0) -> None:
        """Notes that `count` records came in `seconds`."""
        self.stood_seconds += seconds
        if count:
            self.count += count
            self.heard = time.monotonic()

    def wanted(self) -> int:
        """How many records the next poll may bring."""
        return POLL_RECORDS if self.records_max is None else min(POLL_RECORDS, self.records_max - self.count)

    def is_due(self, positions: Callable[[], Mapping[Position, int]]) -> bool:
        """Whether it is time to end."""
        if self.records_max is not None and self.count >= self.records_max:
            return True
        if self.silence_seconds is not None and time.monotonic() - self.heard >= self.silence_seconds:
            return True
        if self.ends is None:
            return False
        now = positions()
        # a member has some of the partitions, and none before it was given any
        places = now if self.shared else self.ends
        behind = {it: now.get(it, 0) for it in places if now.get(it, 0) < self.ends.get(it, 0)}
        if behind != self.behind:
            self.behind, self.stood_seconds = behind, 0.0
        return not behind and not (self.shared and not now)

    def check_goes_on(self, failures: Callable[[], Mapping[Position, FastlogError]]) -> None:
        """Raises FastlogError where nothing came for long of any partition that is short of its end."""
        if self.behind and self.stood_seconds >= PATIENCE_SECONDS:
            found = failures()
            unknown = FastlogError("nothing came, and the brokers do not say why")
            raise unread({**self.missing, **{it: found.get(it, unknown) for it in self.behind}})

    def check_whole(self) -> None:
        """At the end: raises FastlogError where partitions were left out."""
        if self.missing and self.wanted():
            raise unread(self.missing)


@click.command()
@click.argument("topic")
@click.option(
    "--from-beginning", is_flag=True, help="Begin with the oldest record instead of the next to come."
)
@click.option("--offset", type=click.IntRange(min=0), metavar="N", help="Begin at this offset.")
@click.option("--partition", type=click.IntRange(min=0), metavar="N", help="Only this partition.")
@click.option(
    "--group",
    metavar="GROUP",
    help="Share the topic with the other members of this group, from its positions on.",
)
@click.option(
    "--group-protocol",
    type=click.Choice(["classic", "consumer"]),
    default="classic",
    show_default=True,
    help="With --group: whether members assign the partitions, or the broker (KIP-848).",
)
@click.option("--max", "records_max", type=click.IntRange(min=1), metavar="N", help="End after N records.")
@click.option("--exit-at-end", is_flag=True, help="End where the topic ended when the command started.")
@click.option("--timeout-ms", type=click.IntRange(min=1), metavar="N", help="End when nothing came for N ms.")
@click.option(
    "--output",
    type=click.Choice(["value", "jsonl"]),
    default="value",
    help="What a line is.",
    show_default=True,
)
@bootstrap_option
@json_option
def consume(
    *,
    topic: str,
    from_beginning: bool,
    offset: int | None,
    partition: int | None,
    group: str | None,
    group_protocol: str,
    records_max: int | None,
    exit_at_end: bool,
    timeout_ms: int | None,
    output: str,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Print the records of TOPIC, one a line; without an end of its own it goes on until Ctrl-C or SIGTERM.

    jsonl is {topic, partition, offset, timestamp_ms, key, value, headers}. Bytes that are not UTF-8 are
    {"base64": …}. The report of --json goes to standard error.

    With --group, the group's positions count and are kept: --from-beginning is for partitions where it has none, and
    --exit-at-end for those that this member is given.

    --exit-at-end fails where a partition cannot be read for a minute, when all has been printed that can be read.
    """
    if from_beginning and offset is not None:
        raise click.UsageError("give either --from-beginning or --offset")
    if group is not None and (offset is not None or partition is not None):
        raise click.UsageError("--group chooses partitions and positions: leave --partition and --offset out")
    missing: dict[Position, Exception] = {}
    start, ends = plan(
        bootstrap,
        topic,
        partition,
        from_beginning=from_beginning,
        offset=offset,
        missing=missing if exit_at_end and group is None else None,
    )
    silence = timeout_ms / 1000 if timeout_ms else None
    stop = Stop(
        records_max, silence, ends if exit_at_end else None, shared=group is not None, missing=missing
    )
    begun = time.monotonic()
    total = sum(max(0, ends[place] - start[place]) for place in ends) if exit_at_end else records_max
    # records may be deleted while we read; an offset that the user named must be there
    reset = "earliest" if from_beginning else "latest" if offset is None else "none"
    write = write_jsonl if output == "jsonl" else write_values
    try:
        with sigterm_interrupts():
            if group is not None:
                read(
                    bootstrap,
                    Share(topic, group, group_protocol),
                    stop,
                    write,
                    total=records_max,
                    reset=reset,
                )
            elif start:
                read(bootstrap, start, stop, write, total=total, reset=reset)
            stop.check_whole()
    except KeyboardInterrupt:
        pass  # how a user ends a command that has no end
    finally:
        sys.stdout.flush()
        if as_json:
            seconds = round(time.monotonic() - begun, 3)
            report.print_json({"topic": topic, "records": stop.count, "seconds": seconds}, err=True)


def unread(reasons: Mapping[Position, Exception]) -> FastlogError:
    """The error that names partitions which could not be read to their ends."""
    named = [
        f"{topic}-{number} ({reason})" for (topic, number), reason in sorted(reasons.items())[:NAMES_MAX]
    ]
    more = f" and {len(reasons) - NAMES_MAX} more" if len(reasons) > NAMES_MAX else ""
    return FastlogError(
        f"not read to the end, tried for {PATIENCE_SECONDS:.0f} s: {'; '.join(named)}{more}. What can be read was "
        "printed; the broker's log has the reason"
    )


def plan(
    bootstrap: str,
    topic: str,
    partition: int | None,
    *,
    from_beginning: bool,
    offset: int | None,
    missing: dict[Position, Exception] | None = None,
) -> tuple[dict[Position, int], dict[Position, int]]:
    """Where to begin in each partition, and where it ends now.

    Partitions that do not tell are put into `missing` with the reason, where it is given, and else raised.
    """
    timeout_ms = REQUEST_MS if missing is None else PATIENCE_SECONDS * 1000
    with admin_at(bootstrap, timeout_ms) as admin:
        numbers = [entry.partition for entry in admin.describe_topic(topic).partitions]
        if partition is not None:
            if partition not in numbers:
                raise click.UsageError(f"{topic} has no partition {partition}; it has 0 to {max(numbers)}")
            numbers = [partition]
        places = [(topic, number) for number in numbers]
        ends = offsets(admin, places, "latest", missing)
        if not from_beginning and offset is None:
            return dict(ends), ends
        firsts = offsets(admin, ends, "earliest", missing)
    ends = {place: ends[place] for place in firsts}
    if offset is None:
        return firsts, ends
    require_inside(offset, firsts, ends)
    return dict.fromkeys(firsts, offset), ends


def offsets(
    admin: Admin,
    places: Iterable[Position],
    which: Literal["earliest", "latest"],
    missing: dict[Position, Exception] | None,
) -> dict[Position, int]:
    """The first or the next offset of partitions; those that do not tell are put into `missing`, or raised.

    They are tried again for long, and named before.
    """
    late: dict[Position, Exception] = {}
    wanted = dict.fromkeys(places, which)
    first_ms = min(TOLD_SECONDS, PATIENCE_SECONDS) * 1000
    found = admin.list_offsets(wanted, unanswered=late, timeout_ms=first_ms)
    if late:
        for (topic, number), reason in sorted(late.items())[:NAMES_MAX]:
            click.echo(f"fastlog: {topic}-{number} is tried again: {reason}", err=True)
        if (more := len(late) - NAMES_MAX) > 0:
            click.echo(f"fastlog: and {more} more", err=True)
        found |= admin.list_offsets(dict.fromkeys(late, which), unanswered=missing)
    return {place: found[place].offset for place in wanted if place in found}


def require_inside(offset: int, firsts: Mapping[Position, int], ends: Mapping[Position, int]) -> None:
    """Raises OffsetOutOfRangeError where a partition neither has the record `offset` nor gets it next."""
    for place, end in ends.items():
        if not firsts[place] <= offset <= end:
            topic, partition = place
            raise OffsetOutOfRangeError(
                f"reading {topic}-{partition} from offset {offset}: its first record is {firsts[place]}, its next will "
                f"be {end}; give one of these or one between, or --from-beginning"
            )


def read(
    bootstrap: str,
    where: Mapping[Position, int] | Share,
    stop: Stop,
    write: Callable[[list[Any]], None],
    *,
    total: int | None,
    reset: str,
) -> None:
    """Polls and writes until `stop` is due. `where` is positions to begin at, or what is shared."""
    from fastlog.client.consumer.consumer import Consumer
    from fastlog.client.consumer.topic_partition import TopicPartition

    group_id, protocol = (where.group, where.protocol) if isinstance(where, Share) else (None, "classic")
    with (
        Consumer(
            bootstrap,
            group_id=group_id,
            group_protocol=protocol,
            auto_offset_reset=reset,
            client_id="fastlog-cli",
        ) as consumer,
        report.progress("reading", total, beside=sys.stdout) as advance,
    ):
        if isinstance(where, Share):
            consumer.subscribe(where.topic)
        else:
            consumer.assign(positions={TopicPartition(*place): offset for place, offset in where.items()})

        def positions() -> dict[Position, int]:
            return {(place.topic, place.partition): offset for place, offset in consumer.positions().items()}

        def failures() -> dict[Position, FastlogError]:
            return {(place.topic, place.partition): it for place, it in consumer.failures().items()}

        written: dict[Position, int] = {}
        try:
            while not stop.is_due(positions):
                stop.check_goes_on(failures)
                begun = time.monotonic()
                records = poll(consumer, stop)
                # without the time in which nobody takes what we print
                seconds = time.monotonic() - begun
                write(records)
                if group_id is not None:
                    written.update({(one.topic, one.partition): one.offset + 1 for one in records})
                stop.note(len(records), seconds)
                advance(len(records))
        except KeyboardInterrupt:
            if written:
                commit(consumer, written)
            raise


def poll(consumer: Consumer, stop: Stop) -> list[Any]:
    """The next records. With an end, those of other partitions too where one has a damaged batch."""
    try:
        return consumer.poll(max_records=stop.wanted(), timeout=POLL_SECONDS)
    except CorruptMessageError:
        if stop.ends is None:
            raise
        # it is fetched again: a cluster mends it, and where it stays so that is told in the end
        time.sleep(POLL_SECONDS)
        return []


def commit(consumer: Consumer, written: Mapping[Position, int]) -> None:
    """Keeps what was written before an interrupt: a consumer that an exception ends commits nothing by itself."""
    held = consumer.assignment()
    try:
        consumer.commit(
            {place: offset for place, offset in written.items() if place in held}, timeout=COMMIT_SECONDS
        )
    except FastlogError as error:
        click.echo(f"fastlog: the last records will be read again: {error}", err=True)


def write_values(records: list[Any]) -> None:
    """Each value and a line end; null is an empty line."""
    if records:
        sys.stdout.buffer.write(b"".join((record.value or b"") + b"\n" for record in records))
        sys.stdout.buffer.flush()


def write_jsonl(records: list[Any]) -> None:
    """Each record as a JSON line."""
    if records:
        sys.stdout.buffer.write("".join(f"{jsonl.dump(record)}\n" for record in records).encode())
        sys.stdout.buffer.flush()
