"""Running kinds of crash, and the tables that tell of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.crashes.kinds import ALL, ALL_BUT_DAMAGED, KINDS, Kind
from tests.crashes.machine import DURABILITIES, Machine, Outcome
from tests.support.broker import BrokerProcess
from tests.support.faults.loop_disk import LoopDisk
from tests.support.faults.witness import IN_FLIGHT_MAX

LOAD_SECONDS = 1.0
# four producers of 10,000 records of 500 bytes a second at most; the image has holes
DISK_MEBIBYTES, DISK_MEBIBYTES_PER_SECOND = 128, 30


def run(kind: Kind, folder: Path, seconds: float = LOAD_SECONDS) -> list[Outcome]:
    """Crashes a broker in `folder` so, under load, and looks at what is left of each topic. Needs root."""
    mebibytes = DISK_MEBIBYTES + int(DISK_MEBIBYTES_PER_SECOND * seconds)
    disk = LoopDisk(folder / kind.name, mebibytes=mebibytes)
    broker = BrokerProcess(disk.path / "data")
    broker.log_file = folder / f"{kind.name}.stderr"
    try:
        machine = Machine(disk, broker.start())
        machine.run(seconds)
        kind.crash(machine)
        return [machine.outcome(durability) for durability in DURABILITIES]
    finally:
        broker.kill()
        disk.close()


def complaints(kind: Kind, outcomes: Iterable[Outcome]) -> list[str]:
    """What is other than promised."""
    found = []
    for outcome in outcomes:
        where = f"{kind.name}, {outcome.durability}"
        lost_max = {ALL: 0, ALL_BUT_DAMAGED: IN_FLIGHT_MAX}.get(kind.keeps[outcome.durability])
        if lost_max is not None and outcome.lost > lost_max:
            found.append(f"{where}: {outcome.lost} acknowledged records are lost")
        if lost_max is None and not outcome.lost:
            found.append(f"{where}: nothing is lost, so nothing happened")
        if outcome.changed:
            found.append(f"{where}: {outcome.changed} records are others than was told")
    return found


def promises() -> str:
    """The table of what is kept."""
    rows = [(kind.title, kind.keeps["os"], kind.keeps["fsync"], kind.clients, kind.start) for kind in KINDS]
    head = ("crash", "`os` keeps", "`fsync` keeps", "clients see", "the next start")
    return markdown(head, rows)


def measured(results: dict[str, list[Outcome]]) -> str:
    """The table of what was counted."""
    head = ("crash", "durability", "sent", "acknowledged", "readable after", "acknowledged and lost")
    titles = {kind.name: kind.title for kind in KINDS}
    rows = [
        (titles[name], f"`{it.durability}`", *map(str, (it.sent, it.acknowledged, it.readable, it.lost)))
        for name, outcomes in results.items()
        for it in outcomes
    ]
    return markdown(head, rows)


def markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table of Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
