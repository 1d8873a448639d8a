"""Runs seeds: `python -m tests.simulation.run FIRST [COUNT [EVENTS]]`, and prints one's trace."""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass

from tests.simulation.bugs import Bugs
from tests.simulation.checks import ViolationError
from tests.simulation.clients import Producer
from tests.simulation.cluster import Cluster
from tests.simulation.faults import Faults

EVENTS = 1_500
#: by then all must be well again: sessions and time-outs run out several times
HEALED_MS = 60_000
#: lines of a trace that are shown of a failure
SHOWN = 60


@dataclass(frozen=True)
class Outcome:
    """What came of a seed."""

    seed: int
    violation: str
    events: int
    trace: tuple[str, ...]
    acknowledged: int
    #: of all that was committed, record by record
    checksum: int


def simulate(seed: int, bugs: Bugs | None = None, *, events: int = EVENTS) -> Outcome:
    """Runs one seed: `events` with faults, then all is healed and must come to rest well."""
    # with one that suffices a leader is alone at times, and its lease matters
    cluster = Cluster(seed, bugs or Bugs(min_isr=2 if seed % 4 else 1))
    faults = Faults(cluster)
    violation = ""
    try:
        cluster.start()
        faults.start()
        cluster.agenda.run(events=events, until_ms=10**9)
        faults.is_over = True
        cluster.heal()
        cluster.come_to_rest(HEALED_MS)
    except ViolationError as found:
        violation = str(found)
        cluster.note(f"VIOLATION {violation}")
    acknowledged = sum(it.acknowledged for it in cluster.clients if isinstance(it, Producer))
    committed = [cluster.judge.of(key).committed for key in cluster.keys]
    checksum = zlib.crc32(repr(committed).encode())
    return Outcome(seed, violation, cluster.agenda.count, tuple(cluster.trace), acknowledged, checksum)


def main() -> None:
    """Prints what came of the seeds given as FIRST [COUNT [EVENTS]]."""
    first, count, events = (*map(int, sys.argv[1:]), *(1, EVENTS)[len(sys.argv) - 2 :])
    for seed in range(first, first + count):
        outcome = simulate(seed, events=events)
        if count == 1 or outcome.violation:
            print(*outcome.trace[-SHOWN:], sep="\n")
        print(seed, outcome.events, outcome.acknowledged, outcome.violation or "ok")


if __name__ == "__main__":
    main()
