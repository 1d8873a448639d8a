"""`fastlog bench`: what this machine and this build reach, each beside the limit that it cannot pass."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fastlog.cli import report
from fastlog.cli.interrupt import sigterm_interrupts
from fastlog.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fastlog.bench.harness.result import Result

Command = TypeVar("Command", bound="Callable[..., Any]")
BATCH_BYTES = click.IntRange(1024, 1 << 20)
COUNT = click.IntRange(min=1)
#: a value holds the time that its record was due, and more
SIZE = click.IntRange(8, 1 << 19)
SIGNIFICANT = 4


class Counts(click.ParamType[tuple[int, ...]]):
    """Numbers from 1 on, separated by commas."""

    name = "COUNT[,…]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers; fails for what is none."""
        if isinstance(value, tuple):
            return value
        return tuple(int(COUNT(part.strip(), param, ctx)) for part in str(value).split(","))


@click.group()
def bench() -> None:
    """Measure this machine and this build, each figure beside its limit.

    Without --bootstrap a bench starts a broker of its own, and takes it away again. Files lie below --directory. A
    ratio is the median of pairs that ran in turn; docs/benchmarks.md tells how to read it.
    """


def option(name: str, kind: Any, default: object, text: str) -> Callable[[Command], Command]:
    """An option with a shown default."""
    return click.option(name, type=kind, default=default, show_default=True, help=text)


def cluster_option(command: Command) -> Command:
    """`--bootstrap`, which has no default here: without it the bench has a broker of its own."""
    text = "A broker of the cluster to measure, or several.  [a broker of the bench's own]"
    return click.option("--bootstrap", metavar="HOST:PORT[,…]", help=text)(command)


def directory_option(command: Command) -> Command:
    """`--directory`: where files are made, and removed."""
    # absolute: settings of brokers may be made of it, and a store's directory has to be
    kind = click.Path(exists=True, file_okay=False, writable=True, resolve_path=True, path_type=Path)
    text = "Where the bench's files lie meanwhile.  [the system's temporary directory]"
    return click.option("--directory", type=kind, metavar="DIR", help=text)(command)


def pairs_option(command: Command) -> Command:
    """`--pairs`: fewer than five say too little."""
    return option("--pairs", click.IntRange(min=5), 5, "Runs of subject and limit, in turn.")(command)


size_option = option("--size", SIZE, 100, "The bytes of a record's value.")
batch_option = option("--batch-bytes", BATCH_BYTES, 1 << 18, "The largest batch, before compression.")
acks_option = option("--acks", click.Choice(["0", "1", "all"]), "all", "Who must have a record.")
compression_option = option(
    "--compression",
    click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]),
    "none",
    "How batches are compressed.",
)
partitions_option = option("--partitions", COUNT, 1, "The partitions of the topic.")


@bench.command()
@option("--bytes", COUNT, 256 << 20, "What one round of one measure moves, at most.")
@size_option
@option("--rounds", COUNT, 5, "How often each is measured.")
@directory_option
@json_option
def limits(*, directory: Path | None, as_json: bool, **given: int) -> int:
    """What the machine can do at best: checksums, writes, syncs, sendfile, ZeroMQ."""
    from fastlog.bench.limits import MEASURES, Settings, run

    with measured("limits", MEASURES) as done:
        found = run(Settings(**given), directory=directory, done=done)
    return tell(found, as_json=as_json)


@bench.command()
@option("--batches", COUNT, 512, "The batches of a round.")
@option("--batch-bytes", BATCH_BYTES, 1 << 20, "The bytes of a batch, at most.")
@size_option
@pairs_option
@directory_option
@json_option
def append(*, directory: Path | None, as_json: bool, **given: int) -> int:
    """Append batches to a log in this process, without a broker."""
    from fastlog.bench.append import Settings, run

    with measured("append", given["pairs"]) as done:
        found = run(Settings(**given), directory=directory, done=done)
    return tell([found], as_json=as_json)


@bench.command()
@option("--fetches", COUNT, 512, "The fetches of a round.")
@option("--fetch-bytes", click.IntRange(1024, 1 << 28), 1 << 20, "What one fetch brings, at most.")
@batch_option
@option("--ahead", COUNT, 2, "Fetches that are under way at a time.")
@size_option
@pairs_option
@cluster_option
@directory_option
@json_option
def fetch(*, bootstrap: str | None, directory: Path | None, as_json: bool, **given: int) -> int:
    """Fetch by a raw socket that throws the bytes away."""
    from fastlog.bench.fetch import Settings, run

    with measured("fetch", given["pairs"]) as done:
        found = run(Settings(**given), bootstrap=bootstrap, directory=directory, done=done)
    return tell([found], as_json=as_json)


@bench.command()
@option("--records", COUNT, 2_000_000, "The records of a round.")
@size_option
@partitions_option
@acks_option
@compression_option
@click.option(
    "--batch-bytes",
    type=BATCH_BYTES,
    help="The largest batch, before compression.  [262144 by send, 1048576 by send_many]",
)
@option("--linger-ms", click.FloatRange(min=0), 5.0, "How long a batch waits for more records.")
@option(
    "--mode", click.Choice(["send", "many"]), "send", "Call send for each record, or send_many with lists."
)
@pairs_option
@cluster_option
@directory_option
@json_option
def produce(*, bootstrap: str | None, directory: Path | None, as_json: bool, **given: Any) -> int:
    """Produce with the SDK, every delivery's result looked at."""
    from fastlog.bench.produce import Settings, run

    with measured("produce", given["pairs"]) as done:
        found = run(Settings(**given), bootstrap=bootstrap, directory=directory, done=done)
    return tell([found], as_json=as_json)


@bench.command()
@option("--records", COUNT, 4_000_000, "The records of a round, rounded up to whole batches.")
@option(
    "--mode",
    click.Choice(["iterate", "poll", "values"]),
    "iterate",
    "One record and its value at a time, lists of records, or a batch's values as a list.",
)
@option("--max-poll-records", COUNT, 500, "The longest list of --mode poll.")
@size_option
@partitions_option
@compression_option
@batch_option
@pairs_option
@cluster_option
@directory_option
@json_option
def consume(*, bootstrap: str | None, directory: Path | None, as_json: bool, **given: Any) -> int:
    """Consume a topic from its start with the SDK."""
    from fastlog.bench.consume import Settings, run

    with measured("consume", given["pairs"]) as done:
        found = run(Settings(**given), bootstrap=bootstrap, directory=directory, done=done)
    return tell([found], as_json=as_json)


@bench.command()
@option("--rate", COUNT, 1_000, "Records a second, each due at its time whatever became of those before it.")
@option("--seconds", click.FloatRange(min=0.05), 10.0, "How long each side runs, over all pairs.")
@acks_option
@size_option
@pairs_option
@cluster_option
@directory_option
@json_option
def latency(*, bootstrap: str | None, directory: Path | None, as_json: bool, **given: Any) -> int:
    """The time of single records at a fixed rate (open loop): to the acknowledgement, and to a consumer."""
    from fastlog.bench.latency import Settings, run

    with measured("latency", 2 * given["pairs"]) as done:
        found = run(Settings(**given), bootstrap=bootstrap, directory=directory, done=done)
    return tell(found, as_json=as_json)


@bench.command()
@option("--clients", COUNT, 16, "Clients, each with one append under way.")
@option("--durability", click.Choice(["os", "fsync"]), "fsync", "The topic's fastlog.durability.")
# there is no answer to wait for with 0
@option("--acks", click.Choice(["1", "all"]), "all", "Who must have a record.")
@option("--seconds", click.FloatRange(min=0.05), 10.0, "How long each side runs, over all pairs.")
@size_option
@pairs_option
@cluster_option
@directory_option
@json_option
def commits(*, bootstrap: str | None, directory: Path | None, as_json: bool, **given: Any) -> int:
    """Acknowledged single appends from many clients at once."""
    from fastlog.bench.commits import Settings, run

    with measured("commits", given["pairs"]) as done:
        found = run(Settings(**given), bootstrap=bootstrap, directory=directory, done=done)
    return tell([found], as_json=as_json)


@bench.command()
@option("--groups", COUNT, 1000, "Groups that heartbeat.")
@option("--members", COUNT, 3, "Members of each.")
@option("--interval", click.FloatRange(min=0.05), 3.0, "Seconds between a member's heartbeats.")
@option("--large", COUNT, 200, "Members of the group that one more joins.")
@option("--large-interval", click.FloatRange(min=0.05), 0.5, "Seconds between their heartbeats.")
@option("--committers", COUNT, 64, "Clients that commit offsets.")
@option("--rate", COUNT, 5000, "Commits a second, over all clients.")
@option("--seconds", click.FloatRange(min=0.1), 10.0, "How long to heartbeat, and to commit.")
@directory_option
@json_option
def groups(*, directory: Path | None, as_json: bool, **given: Any) -> int:
    """What consumer groups cost a broker: heartbeats, a rebalance, commits. There is no limit to compare with."""
    from fastlog.bench.groups.run import Settings, run

    with measured("groups", 3) as done:
        found = run(Settings(**given), directory=directory, done=done)
    return tell(found, as_json=as_json)


@bench.command()
@option("--idle-seconds", click.FloatRange(min=0), 1.0, "How long a broker has idled when it is looked at.")
@pairs_option
@directory_option
@json_option
def start(*, directory: Path | None, as_json: bool, **given: Any) -> int:
    """Start brokers on empty directories: the time until they are ready, and their memory."""
    from fastlog.bench.start import Settings, run

    with measured("start", given["pairs"]) as done:
        found = run(Settings(**given), directory=directory, done=done)
    return tell([found], as_json=as_json)


@bench.command()
@option(
    "--topics", Counts(), "10000", "How many, of one partition each; several numbers by commas for a curve."
)
@option("--per-request", click.IntRange(1, 10_000), 1, "How many topics are asked for at once.")
@option("--clients", COUNT, 1, "How many connections ask at the same time.")
@option(
    "--records", click.IntRange(min=0), 200_000, "What is written to all of them, and read; 0 is nothing."
)
@option("--idle-seconds", click.FloatRange(min=0.1), 5.0, "How long the broker idles with them.")
@directory_option
@json_option
def topics(*, directory: Path | None, as_json: bool, **given: Any) -> int:
    """Make topics, use them, start with them, delete them. There is no limit to compare with."""
    from fastlog.bench.topics import STEPS, Settings, run

    settings = Settings(**given)
    with measured("topics", STEPS * len(settings.topics)) as done:
        found = list(run(settings, directory=directory, done=done))
    return tell(found, as_json=as_json)


@bench.command()
@option("--bytes", click.IntRange(1, 2_000_000_000), 1 << 30, "The bytes of the log.")
@option("--batch-bytes", BATCH_BYTES, 1 << 20, "The bytes of a batch, at most.")
@size_option
@pairs_option
@directory_option
@json_option
def recovery(*, directory: Path | None, as_json: bool, **given: int) -> int:
    """Start a broker again after kill -9, with a log that was never synced."""
    from fastlog.bench.recovery import Settings, run

    with measured("recovery", given["pairs"]) as done:
        found = run(Settings(**given), directory=directory, done=done)
    return tell([found], as_json=as_json)


@bench.command()
@option("--bytes", click.IntRange(1, 1 << 40), 1 << 30, "The bytes of the log.")
@option("--keys", COUNT, 1_000_000, "Different keys, which come in no order.")
@pairs_option
@directory_option
@json_option
def clean(*, directory: Path | None, as_json: bool, **given: int) -> int:
    """Clean a compacted log of 100-byte records in this process, without a broker."""
    from fastlog.bench.clean import Settings, run

    with measured("clean", given["pairs"]) as done:
        found = run(Settings(**given), directory=directory, done=done)
    return tell([found], as_json=as_json)


@bench.command()
@option("--bytes", click.IntRange(1, 1 << 40), 512 << 20, "The bytes of a topic.")
@option("--segment-bytes", click.IntRange(1 << 20, 1 << 30), 32 << 20, "The bytes of a segment, at most.")
@option("--cache-bytes", COUNT, 32 << 20, "The broker's memory for what was read from the store.")
@batch_option
@option("--size", SIZE, 1000, "The bytes of a record's value.")
@click.option(
    "--store",
    metavar="URL",
    help="A directory or s3://bucket/prefix as the store; access to S3 as the environment says.  [a directory below "
    "--directory]",
)
@pairs_option
@directory_option
@json_option
def tiers(*, directory: Path | None, as_json: bool, **given: Any) -> int:
    """Upload segments to an object store, and read them from there; with a broker of the bench's own."""
    from fastlog.bench.tiers import Settings, run

    with measured("tiers", 2 * given["pairs"]) as done:
        found = run(Settings(**given), directory=directory, done=done)
    return tell(found, as_json=as_json)


@bench.command()
@option("--minutes", click.FloatRange(min=0.05), 10.0, "How long records are written.")
@option("--rate", click.IntRange(min=10), 10_000, "Records a second.")
@option("--size", click.IntRange(20, 1 << 19), 100, "The bytes of a record's value.")
@option("--partitions", COUNT, 2, "The partitions of the topic.")
@cluster_option
@directory_option
@json_option
def soak(*, bootstrap: str | None, directory: Path | None, as_json: bool, **given: Any) -> int:
    """Run a steady load for long, and look for losses, duplicates and growth.

    Retention deletes meanwhile; one consumer reads as records come, one returns in batches, one rewinds again and
    again to records that are not in memory, one reads a topic that is compacted. Exit status 1 where a promise was
    broken.
    """
    from fastlog.bench.soak.run import Settings, run

    def told(result: Result) -> None:
        if as_json:
            report.print_json(result.as_json())
        else:
            times = f"p50 {shown(result.p50_ms)} ms, p99 {shown(result.p99_ms)} ms"
            click.echo(f"window {result.details['window']}: {result.records} records, {times}")

    settings = Settings(**given)
    with measured("soak", round(settings.seconds)) as done:
        found = run(settings, bootstrap=bootstrap, directory=directory, told=told, done=done)
    for problem in found.details["problems"]:
        click.echo(f"fastlog: soak: {problem}", err=True)
    return tell([found], as_json=as_json)


@contextmanager
def measured(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar around a bench; SIGTERM ends it as Ctrl-C does, so that nothing is left behind."""
    with sigterm_interrupts(), report.progress(f"bench {name}", total) as done:
        yield done


def tell(results: Iterable[Result], *, as_json: bool) -> int:
    """Prints results: a JSON object on each line, or a table; 1 where one found a promise broken, otherwise 0."""
    found = list(results)
    if as_json:
        for result in found:
            report.print_json(result.as_json())
    else:
        head = ("", "records/s", "MB/s", "p50 ms", "p99 ms", "of limit", "limit")
        report.print_table(head, [row_of(result) for result in found])
        for result in found:
            tell_pairs(f"{result.name}:" if len(found) > 1 else "", result.details)
        if found:
            tell_pairs("settings:", found[0].settings)
    return int(any(result.failed for result in found))


def row_of(result: Result) -> tuple[object, ...]:
    """The table's row."""
    figures = (
        result.records_per_second,
        result.megabytes_per_second,
        result.p50_ms,
        result.p99_ms,
        result.ratio_to_limit,
    )
    return (result.name, *map(shown, figures), result.limit or "-")


def tell_pairs(head: str, pairs: Mapping[str, object]) -> None:
    """Prints names and values on one line; those that do not apply are left out."""
    words = [f"{name}={shown(value)}" for name, value in pairs.items() if value is not None]
    if words:
        click.echo(" ".join([head, *words] if head else words))


def shown(value: object) -> str:
    """A figure for people: few digits, thousands apart."""
    if value is None:
        return "-"
    if isinstance(value, float) and abs(value) < 1000:
        return f"{value:.{SIGNIFICANT}g}"
    return f"{value:,.0f}" if isinstance(value, float) else str(value)
