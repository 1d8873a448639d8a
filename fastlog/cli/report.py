"""What a command tells about itself: a line, a table, or one JSON document."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


def print_json(document: object, *, err: bool = False) -> None:
    """One JSON document on one line."""
    click.echo(json.dumps(document, ensure_ascii=False), err=err)


def counted(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun; -1 is a count that the broker did not tell."""
    if count < 0:
        return f"the broker's number of {many or one + 's'}"
    return f"{count} {one if count == 1 else many or one + 's'}"


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as their widest cell, two blanks between them."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@contextmanager
def progress(
    label: str, total: int | None, *, unit: str = "records", beside: IO[str] | None = None
) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error where that is a terminal; gives the function that moves it by a count.

    `total` None means that the end is not known. `unit` is "records" or "bytes". There is no bar where `beside`, what
    the command reads or writes meanwhile, is a terminal too: its lines would run into the bar.
    """
    if not sys.stderr.isatty() or (beside is not None and beside.isatty()):
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    amount = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


def cell(value: object) -> str:
    """A value in a table."""
    if value is None or value == -1:
        return "-"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def place(partition: tuple[str, int]) -> str:
    """A partition as commands take it, TOPIC:PARTITION."""
    return f"{partition[0]}:{partition[1]}"
