"""Memory that a broker's process has freed is there for the next request. In a child, since it holds for a process."""

from __future__ import annotations

import resource
import subprocess
import sys

BUFFERS, BUFFER_BYTES, ROUNDS = 16, 256 * 1024, 20
CHILD = f"""
import resource, sys, threading
from fastlog.native._engine import keep_freed_memory

def rounds():
    for number in range(1 + {ROUNDS}):
        if number == 1:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        held = [bytes({BUFFER_BYTES}) + b"touched" for _ in range({BUFFERS})]
        del held
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if sys.argv[1] == "keep":
    assert keep_freed_memory()
# as a request's memory, which comes from the arena of a thread
thread = threading.Thread(target=rounds)
thread.start()
thread.join()
"""


def fresh_pages(how: str) -> int:
    """The pages that a child touched for the first time."""
    done = subprocess.run([sys.executable, "-c", CHILD, how], check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_freed_memory_is_used_again() -> None:
    pages = ROUNDS * BUFFERS * BUFFER_BYTES // resource.getpagesize()
    assert fresh_pages("keep") < pages / 20
    assert fresh_pages("as it is") > pages / 2
