"""What /proc says of a process: processor time, memory, descriptors."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MEBIBYTE = 1 << 20


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads, those that ended included; in steps of a tick, 10 ms as a rule."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    # the name, in parentheses, may hold blanks
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def rss_bytes(pid: int) -> int:
    """Resident memory, shared pages included."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def descriptor_count(pid: int) -> int:
    """Open descriptors."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
