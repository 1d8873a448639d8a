"""Ends processes when the one that started them has died, by kill -9 say, which lets nobody end anything.

A process of its own reads from a pipe whose other end the starter alone holds, and comes to its end when that one is
gone. (PR_SET_PDEATHSIG would not do: it comes when the thread ends that started the process.)
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

#: how long each may take to end by itself
END_SECONDS = 20.0


class Leash:
    """A context manager; whoever is held when this process dies is ended, the last one first."""

    def __init__(self) -> None:
        # a session of its own: Ctrl-C on the terminal is for the starter
        self._watcher = subprocess.Popen(
            [sys.executable, "-m", "fastlog.testing.leash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def hold(self, pid: int) -> None:
        """From now on that process, a child of this one, does not outlive it."""
        assert self._watcher.stdin is not None  # noqa: S101  # it was asked for
        self._watcher.stdin.write(f"{pid}\n")
        self._watcher.stdin.flush()

    def __enter__(self) -> Leash:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lets go: what still runs is ended."""
        self._watcher.communicate()


def watch() -> None:
    """Reads process ids, a line each, and ends them at the end of standard input."""
    # not by their ids: another process may have one by then
    held: list[int] = []
    for line in sys.stdin:
        try:
            held.append(os.pidfd_open(int(line)))
        except ProcessLookupError:
            continue
    for process in reversed(held):
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                signal.pidfd_send_signal(process, number)
            except ProcessLookupError:
                break
            if select.select([process], [], [], END_SECONDS)[0]:
                break


if __name__ == "__main__":
    watch()
