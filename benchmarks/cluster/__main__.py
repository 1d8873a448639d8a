"""`python -m benchmarks.cluster BENCH [--systems fastlog,kafka] …`: one JSON object a line, as each is known.

It needs the test requirements (confluent-kafka, Java, Maven for Kafka's jars the first time). Nothing else may run on
the machine. docs/benchmarks.md tells how to read it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cluster import failover, partitions, start, throughput
from benchmarks.cluster.systems import SYSTEMS
from fastlog.bench.harness import machine

if TYPE_CHECKING:
    from collections.abc import Iterator


def main(arguments: list[str]) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--systems", type=words, default=list(SYSTEMS), metavar="A,B")
    shared.add_argument("--directory", type=Path, default=None, metavar="DIR")
    benches = parser.add_subparsers(dest="bench", required=True)
    one = benches.add_parser("failover", parents=[shared])
    one.add_argument("--faults", type=words, default=list(failover.FAULTS), metavar="A,B")
    one.add_argument("--runs", type=int, default=5)
    two = benches.add_parser("throughput", parents=[shared])
    two.add_argument("--clients", type=words, default=list(throughput.WORKS), metavar="A,B")
    two.add_argument("--sizes", type=numbers, default=[100, 1024], metavar="N,N")
    two.add_argument("--records", type=int, default=2_000_000, help="of 100 bytes; fewer of larger ones")
    two.add_argument("--partitions", type=int, default=3)
    two.add_argument("--rounds", type=int, default=5)
    three = benches.add_parser("start", parents=[shared])
    three.add_argument("--runs", type=int, default=5)
    four = benches.add_parser("partitions", parents=[shared])
    four.add_argument("--count", type=int, default=10_000)
    given = parser.parse_args(arguments)
    print(json.dumps({"bench": "machine", **machine.describe(given.directory)}), flush=True)
    for found in results(given):
        print(json.dumps(found), flush=True)
    return 0


def results(given: argparse.Namespace) -> Iterator[dict[str, object]]:
    """What the bench that was named finds."""
    if given.bench == "failover":
        return failover.run(given.systems, given.faults, given.runs, given.directory)
    if given.bench == "throughput":
        return throughput.run(
            given.systems,
            given.clients,
            given.sizes,
            given.records,
            given.partitions,
            given.rounds,
            given.directory,
        )
    if given.bench == "start":
        return start.run(given.systems, given.runs, given.directory)
    return partitions.run(given.systems, given.count, given.directory)


def words(text: str) -> list[str]:
    """A list with commas."""
    return text.split(",")


def numbers(text: str) -> list[int]:
    """A list of numbers with commas."""
    return [int(each) for each in text.split(",")]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
