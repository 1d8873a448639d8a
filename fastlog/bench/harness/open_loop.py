"""An open loop: operations begin when they are due, whatever became of those before them.

A closed loop that waits for each answer sends less while the other side is slow, and so measures least when it matters
most (coordinated omission). Here each operation's time counts from the moment it was due: one that had to wait for its
turn, behind a stall, has waited.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NANOSECONDS = 1_000_000_000
#: a timer wakes a thread some 40 µs late on a virtual machine. That is the harness' time and no one else's, so it
#: sleeps until shortly before, and is awake for the rest, with the GIL given to whoever wants it
AWAKE_SECONDS = 0.0001


def doze(seconds: float) -> None:
    """Sleeps for less than `seconds`, so that nothing is late that is due after them."""
    time.sleep(shortened(seconds))


def shortened(seconds: float) -> float:
    """How much of `seconds` may be slept."""
    return max(0.0, seconds - AWAKE_SECONDS)


def pace(
    send: Callable[[int, int], object],
    *,
    rate: float,
    count: int,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], object] = doze,
) -> None:
    """Calls `send(number, due_ns)` for 0 to `count` - 1, `rate` times a second, each as soon as it is due.

    One that is late, since the calls before it took long, is called at once and keeps its `due_ns`. `sleep` may return
    early. Blocks until the last call has returned.
    """
    start = clock_ns()
    for number in range(count):
        due = start + int(number * NANOSECONDS / rate)
        while (left := due - clock_ns()) > 0:
            sleep(left / NANOSECONDS)
        send(number, due)


def sharpen_timers() -> bool:
    """Has the kernel wake this thread when asked to, not up to 50 µs later (its default); whether it does.

    That lateness is not the other side's, but would count as its time.
    """
    try:
        Path(f"/proc/{threading.get_native_id()}/timerslack_ns").write_text("1")
    except OSError:
        return False
    return True
