"""Memory that a broker's process has freed is there for the next request. In a child, since it holds for a process."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from fastlog.cli import serve as command
from fastlog.config import load

if TYPE_CHECKING:
    import pytest

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


def test_serve_keeps_freed_memory_before_it_starts_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Recorded:
        """A broker that only tells what is done with it."""

        def __init__(self, _config: object) -> None:
            done.append("made")

        def start(self) -> list[str]:
            done.append("started")
            return []

        def stop(self) -> None:
            done.append("stopped")

    monkeypatch.setattr("fastlog.native._engine.keep_freed_memory", lambda: done.append("keeps"))
    monkeypatch.setattr("fastlog.native._engine.end_process_on_panic", lambda: done.append("ends"))
    monkeypatch.setattr("fastlog.broker.broker.Broker", Recorded)
    monkeypatch.setattr(signal, "pthread_sigmask", lambda *_: set())
    monkeypatch.setattr(signal, "sigwait", lambda _: signal.SIGTERM)
    command._serve(load())
    assert done == ["keeps", "ends", "made", "started", "stopped"]
