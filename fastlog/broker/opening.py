"""When all logs of a start are open: only then what a crash of the machine left is known to be recovered."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from fastlog.broker.node import warn_of_strays
from fastlog.events import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOOK_SECONDS = 0.2


class OpenLogs(Protocol):
    """The engine's calls."""

    def log_sizes(self) -> list[tuple[str, int, int]]:
        """(topic, partition, bytes) of each open partition."""
        ...

    def finish_opening(self) -> list[Path]:
        """To be called when all partitions are open; the directories that belong to no topic."""
        ...


class Opening:
    """Waits for the logs that a broker of a cluster holds, from `start` on, and then says that they are open.

    Some are opened when the controller has given them another leader only. One that cannot be opened keeps it waiting:
    the next start then recovers all of them as after the crash that it may have been.
    """

    def __init__(self, logs: OpenLogs, held: Callable[[], set[tuple[str, int]]]) -> None:
        """`held` answers which partitions have a replica here, by topic and number."""
        self._logs = logs
        self._held = held
        self._log = EventLog("broker")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fastlog-opening", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Looks no more."""
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._held() - {(topic, index) for topic, index, _ in self._logs.log_sizes()}:
            if self._is_over.wait(LOOK_SECONDS):
                return
        warn_of_strays(self._logs, self._log)
