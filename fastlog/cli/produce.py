"""`fastlog produce`: lines or JSON records from files or standard input into a topic."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter, deque
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

import click

from fastlog.cli import jsonl, report
from fastlog.cli.admin import admin_at
from fastlog.cli.options import bootstrap_option, json_option
from fastlog.errors import ConfigError, FastlogError, MessageTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fastlog.client.producer import Delivery, Producer

# how long a command waits for a topic's metadata or for room in the buffer before it gives up
BLOCK_MS = 15_000
# what a broker that answers has for the records on their way when the user presses Ctrl-C
INTERRUPTED_SECONDS = 1.0
# deliveries that are not looked at yet; each holds its record's batch in memory
OPEN_DELIVERIES_MAX = 100_000


class Tally:
    """What became of the records: counts by partition, and the first error."""

    def __init__(self) -> None:
        self.waiting: deque[Delivery] = deque()
        self.partitions: Counter[int] = Counter()
        self.failed = 0
        self.error: BaseException | None = None

    def add(self, delivery: Delivery) -> None:
        """Notes a delivery, and settles those that are done or too many."""
        self.waiting.append(delivery)
        while self.waiting and (self.waiting[0].done() or len(self.waiting) > OPEN_DELIVERIES_MAX):
            self.settle(self.waiting.popleft())

    def settle(self, delivery: Delivery) -> None:
        """Waits for one delivery."""
        error = delivery.exception()
        if error is None:
            self.partitions[delivery.result().partition] += 1
            return
        self.failed += 1
        self.error = self.error or error

    def finish(self) -> None:
        """Waits for all."""
        while self.waiting:
            self.settle(self.waiting.popleft())


@click.command()
@click.argument("topic")
@click.argument(
    "files", nargs=-1, type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="[FILE]…"
)
@click.option(
    "--input",
    "kind",
    type=click.Choice(["lines", "jsonl"]),
    default="lines",
    help="What a line is.",
    show_default=True,
)
@click.option("--key-separator", metavar="S", help="Split each line into key and value at the first S.")
@click.option("--partition", type=click.IntRange(min=0), help="Send all records to this partition.")
@click.option(
    "--acks",
    type=click.Choice(["0", "1", "all"]),
    default="all",
    help="Who must have a record before it counts as sent: nobody, the leader, all in-sync replicas.",
    show_default=True,
)
@click.option(
    "--compression",
    type=click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]),
    default="none",
    help="How batches are compressed.",
    show_default=True,
)
@bootstrap_option
@json_option
def produce(
    *,
    topic: str,
    files: tuple[str, ...],
    kind: str,
    key_separator: str | None,
    partition: int | None,
    acks: str,
    compression: str,
    bootstrap: str,
    as_json: bool,
) -> int:
    """Send each line of the FILEs (standard input without any) to TOPIC as one record.

    With --input jsonl a line is {"key", "value", "headers", "partition", "timestamp_ms"}, all of them optional; the
    output of `fastlog consume --output jsonl` can be sent back as it is.
    """
    if key_separator is not None and (kind != "lines" or not key_separator):
        raise click.UsageError("--key-separator needs --input lines and at least one character")
    from fastlog.client.producer import Producer

    tell_of_outages()
    parse = jsonl.load if kind == "jsonl" else line_parser(key_separator)
    tally = Tally()
    # a broker that is not there is told sooner than a producer gives up
    with admin_at(bootstrap) as admin:
        admin.describe_cluster()
    start = time.monotonic()
    with Producer(
        bootstrap, acks=acks, compression=compression, linger_ms=20, max_block_ms=BLOCK_MS
    ) as producer:
        try:
            send_all(producer, topic, files, parse=parse, partition=partition, tally=tally)
            producer.flush()
        except KeyboardInterrupt:
            give_up(producer, tally)
        except FastlogError as error:
            tally.finish()
            tell(topic, tally, time.monotonic() - start, as_json=as_json, stopped_by=error)
            raise
        tally.finish()
    tell(topic, tally, time.monotonic() - start, as_json=as_json)
    return int(tally.failed > 0)


def tell_of_outages() -> None:
    """Has the producer say on standard error when a broker is away, and when it is there again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("fastlog: %(message)s"))
    # what failed for good is in the command's own report, once and not batch by batch
    handler.addFilter(lambda record: record.levelno < logging.ERROR)
    said = logging.getLogger("fastlog.producer")
    said.addHandler(handler)
    said.setLevel(logging.INFO)
    said.propagate = False


def give_up(producer: Producer, tally: Tally) -> NoReturn:
    """Ends after Ctrl-C without waiting for a broker that may be gone; raises FastlogError with the counts."""
    producer.close(INTERRUPTED_SECONDS)
    tally.finish()
    sent = sum(tally.partitions.values())
    raise FastlogError(f"interrupted: {report.counted(sent, 'record')} acknowledged, {tally.failed} not")


def line_parser(separator: str | None) -> Callable[[bytes], jsonl.Row]:
    """The function that turns a line into a record; a line without the separator has no key."""
    mark = separator.encode() if separator else None

    def parse(line: bytes) -> jsonl.Row:
        key, found, value = line.partition(mark) if mark else (b"", b"", line)
        return jsonl.Row(key, value, (), None, None) if found else jsonl.Row(None, line, (), None, None)

    return parse


def send_all(
    producer: Producer,
    topic: str,
    files: Sequence[str],
    *,
    parse: Callable[[bytes], jsonl.Row],
    partition: int | None,
    tally: Tally,
) -> None:
    """Sends every line; raises FastlogError that names the line that is wrong."""
    total = total_bytes(files)
    typed = sys.stdin if total is None else None
    with report.progress(f"to {topic}", total, unit="bytes", beside=typed) as advance:
        for where, line in numbered_lines(files or ("-",)):
            try:
                tally.add(send_line(producer, topic, parse(line), partition))
            except (ValueError, MessageTooLargeError) as error:
                raise FastlogError(
                    f"reading {where}: {error}; the lines before it were sent, correct it and send the rest"
                ) from error
            advance(len(line) + 1)


def send_line(producer: Producer, topic: str, row: jsonl.Row, partition: int | None) -> Delivery:
    """Sends one record; raises ValueError where the line itself names a partition that the topic has not."""
    try:
        return producer.send(
            topic,
            row.value,
            key=row.key,
            headers=row.headers,
            partition=row.partition if partition is None else partition,
            timestamp_ms=row.timestamp_ms,
        )
    except ConfigError as error:
        if partition is None:
            raise ValueError(str(error)) from error
        raise


def numbered_lines(files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Each line without its end, and where it stands."""
    for name in files:
        with ExitStack() as stack:
            source: IO[bytes] = (
                sys.stdin.buffer if name == "-" else stack.enter_context(Path(name).open("rb"))
            )
            shown = "standard input" if name == "-" else name
            for number, line in enumerate(source, 1):
                yield f"{shown}, line {number}", line.removesuffix(b"\n")


def total_bytes(files: Sequence[str]) -> int | None:
    """The size of all files; None where standard input is one."""
    if not files or "-" in files:
        return None
    return sum(Path(name).stat().st_size for name in files)


def tell(
    topic: str, tally: Tally, seconds: float, *, as_json: bool, stopped_by: FastlogError | None = None
) -> None:
    """Prints the report: JSON on standard output, otherwise a line on standard error.

    `stopped_by` is why no more records were sent; whoever raised it says it too.
    """
    error = stopped_by or tally.error
    sent = sum(tally.partitions.values())
    if as_json:
        document = {
            "topic": topic,
            "records": sent,
            "failed": tally.failed,
            "seconds": round(seconds, 3),
            "partitions": {str(number): count for number, count in sorted(tally.partitions.items())},
            "error": str(error) if error else None,
        }
        report.print_json(document)
    else:
        click.echo(f"{report.counted(sent, 'record')} to {topic} in {seconds:.2f} s", err=True)
    if tally.error is not None:
        click.echo(
            f"fastlog: {report.counted(tally.failed, 'record')} not acknowledged; the first: {tally.error}",
            err=True,
        )
