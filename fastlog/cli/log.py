"""`fastlog log`: the files of a log, read without a broker."""

from __future__ import annotations

import mmap
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastlog.cli import jsonl, report, segments
from fastlog.cli.options import json_option
from fastlog.errors import FastlogError, KafkaError
from fastlog.protocol.batch import ATTRIBUTES_AT, BrokenSegmentError, read_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.protocol.batch import BatchView

KINDS = (".log", ".index", ".timeindex", ".txnindex", ".snapshot")


@dataclass
class Finding:
    """What one file holds, and what is wrong with it."""

    file: str
    kind: str
    bytes: int
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        counts = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in self.counts.items())
        return f"{self.file}: {self.bytes} bytes, {counts or 'empty'}{', BROKEN' if self.problems else ''}"


@dataclass(frozen=True)
class Wish:
    """What the user wants to see besides the findings."""

    batches: bool
    entries: bool
    records: bool


@click.group()
def log() -> None:
    """Look into the files of a log, without a broker."""


@log.command()
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH…"
)
@click.option("--batches", is_flag=True, help="Print each batch of the segments.")
@click.option("--entries", is_flag=True, help="Print each entry of the indexes and snapshots.")
@click.option("--records", is_flag=True, help="Print each record as a JSON line.")
@json_option
def dump(*, paths: tuple[Path, ...], batches: bool, entries: bool, records: bool, as_json: bool) -> int:
    """Read segments, indexes and producer snapshots and check them.

    A PATH is a partition's directory or one of its files. Every checksum, offset and index entry is looked at; the exit
    status is 1 where something is wrong. Nothing is changed: a broker may run meanwhile.
    """
    wish = Wish(batches, entries, records)
    files = [file for path in paths for file in files_of(path)]
    total = sum(file.stat().st_size for file in files)
    with report.progress("reading", total, unit="bytes", beside=sys.stdout) as advance:
        findings = []
        for file in files:
            findings.append(READERS[file.suffix](file, wish))
            advance(file.stat().st_size)
            if not as_json:
                tell(findings[-1], quiet=records)
    if as_json:
        report.print_json({"files": [vars(finding) for finding in findings]}, err=records)
    return int(any(finding.problems for finding in findings))


def files_of(path: Path) -> list[Path]:
    """The readable files that `path` names; raises FastlogError where there are none."""
    found = sorted(file for file in path.iterdir() if file.suffix in KINDS) if path.is_dir() else [path]
    if not found or found[0].suffix not in KINDS:
        raise FastlogError(
            f"looking for a log in {path}: no {', '.join(KINDS)} file; name a partition's directory "
            "(topic-number inside the data directory) or one of its files"
        )
    return found


def tell(finding: Finding, *, quiet: bool) -> None:
    """Prints a finding; `quiet` leaves standard output to the records."""
    click.echo(finding.line(), err=quiet)
    for problem in finding.problems:
        click.echo(f"  {problem}", err=True)


def topic_partition(file: Path) -> tuple[str, int]:
    """Topic and partition, from the directory's name."""
    topic, _, number = file.resolve().parent.name.rpartition("-")
    return (topic, int(number)) if number.isdecimal() else (file.resolve().parent.name, 0)


def read_segment(file: Path, wish: Wish) -> Finding:
    """Every batch of a segment: checksum, offsets, records."""
    from fastlog.native._engine import crc32c

    finding = Finding(str(file), "segment", file.stat().st_size)
    if not finding.bytes:
        return finding
    counts = {"batches": 0, "records": 0, "first_offset": -1, "last_offset": -1}
    finding.counts = counts
    expected = segments.base_offset_of(file)
    with file.open("rb") as source:
        # unmapped when the last batch is gone; a segment may be larger than memory
        mapped = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        for batch in read_batches(memoryview(mapped)):
            problems = batch_problems(batch, expected, crc32c)
            finding.problems += problems
            counts["batches"] += 1
            counts["records"] += batch.count
            counts["first_offset"] = (
                batch.base_offset if counts["first_offset"] < 0 else counts["first_offset"]
            )
            counts["last_offset"] = batch.last_offset
            expected = batch.last_offset + 1
            try:
                show_batch(batch, wish, file)
            except KafkaError as error:
                # said already where the checksum is wrong too
                if not problems:
                    finding.problems.append(f"position {batch.position}, offset {batch.base_offset}: {error}")
    except BrokenSegmentError as error:
        finding.problems.append(str(error))
    return finding


def batch_problems(batch: BatchView, expected_offset: int, crc32c: Callable[[memoryview], int]) -> list[str]:
    """What is wrong with a batch itself."""
    found = []
    where = f"position {batch.position}, offset {batch.base_offset}"
    actual = crc32c(batch.data[ATTRIBUTES_AT:])
    if actual != batch.crc:
        found.append(f"{where}: checksum {actual:08x}, the header says {batch.crc:08x}")
    if batch.base_offset < expected_offset:
        found.append(f"{where}: offsets go back, {expected_offset} or more was expected")
    return found


def show_batch(batch: BatchView, wish: Wish, file: Path) -> None:
    """Prints a batch, its records, or neither."""
    if wish.batches:
        marks = "".join(
            f" {name}"
            for name, on in (("control", batch.is_control), ("transactional", batch.is_transactional))
            if on
        )
        click.echo(
            f"  position {batch.position} offsets {batch.base_offset}..{batch.last_offset} count {batch.count} "
            f"bytes {len(batch.data)} {batch.compression} epoch {batch.leader_epoch} "
            f"producer {batch.producer_id}/{batch.producer_epoch} sequence {batch.base_sequence} "
            f"max timestamp {batch.max_timestamp_ms}{marks}"
        )
    if wish.records and not batch.is_control:
        for record in records_of(batch, *topic_partition(file)):
            click.echo(jsonl.dump(record))


def records_of(batch: BatchView, topic: str, partition: int) -> list[Any]:
    """The records of a batch, decompressed."""
    from fastlog.native._engine import open_batch
    from fastlog.native._records import RecordBatch

    return list(RecordBatch(open_batch(batch.data), topic, partition))


def read_index(file: Path, wish: Wish) -> Finding:
    """An offset index, compared with the segment beside it."""
    finding = Finding(str(file), "offset index", file.stat().st_size)
    found = segments.read_offset_index(file.read_bytes(), segments.base_offset_of(file))
    finding.counts = {"entries": len(found)}
    segment = file.with_suffix(".log")
    places = batch_places(segment)
    previous = (-1, -1)
    for offset, position in found:
        if offset <= previous[0] or position <= previous[1]:
            finding.problems.append(f"offset {offset}, position {position}: not after {previous}")
        first, last = places.get(position, (0, -1))
        if not first <= offset <= last:
            finding.problems.append(
                f"offset {offset}: no batch with it at position {position} of {segment.name}"
            )
        previous = (offset, position)
        if wish.entries:
            click.echo(f"  offset {offset} position {position}")
    return finding


def batch_places(segment: Path) -> dict[int, tuple[int, int]]:
    """Position -> first and last offset of each whole batch of a segment; empty where it is missing."""
    places: dict[int, tuple[int, int]] = {}
    if segment.exists():
        try:
            for batch in read_batches(memoryview(segment.read_bytes())):
                places[batch.position] = (batch.base_offset, batch.last_offset)
        except BrokenSegmentError:
            pass  # the segment's own finding says so
    return places


def read_time_index(file: Path, wish: Wish) -> Finding:
    """A time index: both columns grow."""
    finding = Finding(str(file), "time index", file.stat().st_size)
    found = segments.read_time_index(file.read_bytes(), segments.base_offset_of(file))
    finding.counts = {"entries": len(found)}
    previous = (-(2**63), -1)
    for timestamp_ms, offset in found:
        if timestamp_ms < previous[0] or offset < previous[1]:
            finding.problems.append(f"timestamp {timestamp_ms}, offset {offset}: not after {previous}")
        previous = (timestamp_ms, offset)
        if wish.entries:
            click.echo(f"  timestamp {timestamp_ms} offset {offset}")
    return finding


def read_transaction_index(file: Path, wish: Wish) -> Finding:
    """The aborted transactions of a segment."""
    finding = Finding(str(file), "transaction index", file.stat().st_size)
    found = segments.read_transaction_index(file.read_bytes())
    finding.counts = {"entries": len(found)}
    for entry in found if wish.entries else ():
        click.echo("  " + " ".join(f"{name} {value}" for name, value in entry.items()))
    return finding


def read_snapshot(file: Path, wish: Wish) -> Finding:
    """The producers of a snapshot, and its checksum."""
    from fastlog.native._engine import crc32c

    finding = Finding(str(file), "producer snapshot", file.stat().st_size)
    data = file.read_bytes()
    try:
        crc, producers = segments.read_snapshot(data)
    except ValueError as error:
        finding.problems.append(str(error))
        return finding
    # one of each batch that is remembered
    finding.counts = {
        "producers": len({entry["producer_id"] for entry in producers}),
        "entries": len(producers),
    }
    # the checksum covers everything behind itself
    actual = crc32c(data[6:])
    if actual != crc:
        finding.problems.append(f"checksum {actual:08x}, the header says {crc:08x}")
    for entry in producers if wish.entries else ():
        click.echo("  " + " ".join(f"{name} {value}" for name, value in entry.items()))
    return finding


READERS: dict[str, Callable[[Path, Wish], Finding]] = {
    ".log": read_segment,
    ".index": read_index,
    ".timeindex": read_time_index,
    ".txnindex": read_transaction_index,
    ".snapshot": read_snapshot,
}
