"""`python -m tests.crashes [KIND …]`: crashes a broker under load in every way, and tells what is left.

It runs in a process and a mount namespace of its own, on a disk in memory: whatever becomes of it, no process, mount,
loop device or file stays behind.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.crashes.kinds import KINDS
from tests.crashes.machine import Outcome
from tests.crashes.table import LOAD_SECONDS, complaints, measured, promises, run
from tests.support.faults import loop_disk

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "durability.md"
# where the disk in memory is mounted, which nobody else sees
FOLDER = ROOT / "build" / "crashes"
# a kind takes 3 to 6 s; a disk that hangs must not hang whoever waits for this
WATCHDOG_SECONDS = 60.0
INSIDE = "FASTLOG_CRASHES_INSIDE"
USED_WRONGLY, HUNG = 2, 70


def main() -> int:
    """The exit status: 0 when everything that was promised is there."""
    arguments = parse_arguments()
    if os.geteuid() != 0:
        print("tests.crashes mounts a file system and cuts its power, which only root may", file=sys.stderr)
        return USED_WRONGLY
    if INSIDE not in os.environ:
        return isolate()
    # failed deliveries are what is counted here
    logging.disable(logging.CRITICAL)
    loop_disk.run("mount", "-t", "tmpfs", "tmpfs", str(FOLDER))
    wrong: list[str] = []
    results: dict[str, list[Outcome]] = {}
    for kind in KINDS:
        if kind.name not in arguments.kinds:
            continue
        print(f"{kind.title.replace('`', '')}, after {arguments.seconds:g} s of load", flush=True)
        watchdog = threading.Timer(WATCHDOG_SECONDS + arguments.seconds, give_up, [kind.name])
        watchdog.daemon = True
        watchdog.start()
        results[kind.name] = run(kind, FOLDER, arguments.seconds)
        watchdog.cancel()
        wrong += complaints(kind, results[kind.name])
        for outcome in results[kind.name]:
            print(line(outcome), flush=True)
    if arguments.write:
        write(PAGE, results)
    for complaint in wrong:
        print(f"BROKEN PROMISE: {complaint}", file=sys.stderr)
    return 1 if wrong else 0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    names = [kind.name for kind in KINDS]
    parser = argparse.ArgumentParser(prog="tests.crashes", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"all by default: {', '.join(names)}")
    parser.add_argument("--seconds", type=float, default=LOAD_SECONDS, help="of load before the crash")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/durability.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.kinds) - set(names):
        parser.error(f"no kind {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if arguments.write and arguments.kinds:
        parser.error("--write is of all kinds")
    arguments.kinds = arguments.kinds or names
    return arguments


def isolate() -> int:
    """Runs this program again in namespaces of its own, whose end is the end of all that is in them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    # each ends with the one before it, whatever ends that: even kill -9
    command = ["setpriv", "--pdeathsig", "KILL"]
    command += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += [sys.executable, "-m", "tests.crashes", *sys.argv[1:]]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    process = subprocess.Popen(command, env={**os.environ, INSIDE: "1"})
    try:
        return process.wait()
    finally:
        process.kill()


def give_up(kind: str) -> None:
    """Ends all: this is the first process of its namespace."""
    print(f"{kind}: no end within {WATCHDOG_SECONDS:g} s, given up", file=sys.stderr, flush=True)
    os._exit(HUNG)


def line(outcome: Outcome) -> str:
    """One topic's counts."""
    return (
        f"  {outcome.durability:6} sent {outcome.sent:7,}  acknowledged {outcome.acknowledged:7,}"
        f"  consumed {outcome.consumed:7,}  readable after {outcome.readable:7,}"
        f"  acknowledged and lost {outcome.lost:6,}"
    )


def write(page: Path, results: dict[str, list[Outcome]]) -> None:
    """Replaces the tables of the page."""
    text = page.read_text()
    for name, table in (("promises", promises()), ("measured", measured(results))):
        text = re.sub(
            f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m, t=table: m[1] + t + m[2], text, flags=re.S
        )
    page.write_text(text)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
