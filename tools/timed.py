"""Runs one suite and says how long it took beside what it may take: `timed.py NAME BUDGET_SECONDS COMMAND…`.

The line goes to standard output as the suite ends, and to the file that FASTLOG_TIMES names, if it does, so that a
longer run can print all of them together. Over the budget is said, not failed: machines differ.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path


def line(name: str, seconds: float, budget: float, status: int) -> str:
    """What is printed about one suite."""
    outcome = "ok" if status == 0 else f"FAILED ({status})"
    late = ", OVER BUDGET" if seconds > budget else ""
    return f"suite {name:<12} {seconds:7.1f} s of {budget:.0f} s  {outcome}{late}"


def main() -> int:
    """Runs the command; its exit status is ours."""
    if len(sys.argv) < 4:
        print("usage: timed.py NAME BUDGET_SECONDS COMMAND…", file=sys.stderr)
        return 2
    name, budget = sys.argv[1], float(sys.argv[2])
    start = time.monotonic()
    status = subprocess.run(sys.argv[3:], check=False).returncode
    text = line(name, time.monotonic() - start, budget, status)
    print(text, flush=True)
    times = os.environ.get("FASTLOG_TIMES")
    if times:
        with Path(times).open("a") as out:
            out.write(text + "\n")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
