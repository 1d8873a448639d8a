"""`python -m benchmarks.cold [--systems fastlog,kafka] …`: one JSON object a line, as each is known. Root only.

A broker has less memory than its log has bytes, page cache included. It is written to at a fixed rate, in phases that
take turns: alone, beside readers of what is in memory, and beside readers that go through the whole log.
docs/benchmarks.md tells how to read it. Kafka needs Java and its jars, which the tests fetch, and 1 GiB.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.cold.run import Settings, run
from benchmarks.cold.systems import SYSTEMS
from fastlog.bench.harness import machine

MEBIBYTE = 1 << 20


def main(arguments: list[str]) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold", description=__doc__)
    parser.add_argument("--systems", type=lambda text: text.split(","), default=list(SYSTEMS), metavar="A,B")
    parser.add_argument("--readers", type=numbers, default=[1, 3, 10], metavar="N,N")
    parser.add_argument("--memory-mib", type=int, default=1024, help="of the broker, page cache included")
    parser.add_argument("--times", type=int, default=8, help="how many times that the log has")
    parser.add_argument("--write-mb", type=int, default=20, help="megabytes written a second")
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        help="of a phase; a round has three, and each number of readers a round that does not count",
    )
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--directory", type=Path, default=None, metavar="DIR")
    given = parser.parse_args(arguments)
    print(json.dumps({"bench": "machine", **machine.describe(given.directory)}), flush=True)
    settings = Settings(
        limit_bytes=given.memory_mib * MEBIBYTE,
        backlog_bytes=given.times * given.memory_mib * MEBIBYTE,
        write_bytes=given.write_mb * 1_000_000,
        seconds=given.seconds,
        pairs=given.pairs,
        directory=given.directory,
    )
    for found in run(given.systems, given.readers, settings):
        print(json.dumps(found), flush=True)
    return 0


def numbers(text: str) -> list[int]:
    """N,N,…"""
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
