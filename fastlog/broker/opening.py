"""When all logs of a start are open: only then what a crash of the machine left is known to be recovered."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from fastlog.broker.node import warn_of_strays
from fastlog.events import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# at first, and where a log stays closed
LOOK_SECONDS, LOOK_SECONDS_MAX = 0.2, 10.0
COMPLAIN_SECONDS = 60.0
SHOWN_MAX = 10


class OpenLogs(Protocol):
    """The engine's calls."""

    def log_sizes(self) -> list[tuple[str, int, int]]:
        """(topic, partition, bytes) of each open partition."""
        ...

    def offline_replicas(self) -> list[tuple[str, bytes, int]]:
        """Topic, topic id and partition of each replica whose data directory failed."""
        ...

    def finish_opening(self) -> list[Path]:
        """To be called when all partitions are open; the directories that belong to no topic."""
        ...


class Opening:
    """Waits for the logs that a broker of a cluster holds, from `start` on, and then says that they are open.

    Some are opened when the controller has given them another leader only. One that cannot be opened keeps it waiting:
    the next start then recovers all of them as after the crash that it may have been. So does a directory of a topic
    whose metadata cannot be read: nobody knows whether its log is to be here.
    """

    def __init__(
        self,
        logs: OpenLogs,
        held: Callable[[], set[tuple[str, int]]],
        unreadable: Callable[[], Mapping[Path, str]] = dict,
    ) -> None:
        """`held` answers which partitions have a replica here, by topic and number.

        `unreadable` answers which directories here are of topics whose metadata cannot be read, and of which.
        """
        self._logs = logs
        self._held = held
        self._unreadable = unreadable
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
        try:
            self._wait()
        except Exception:
            self._log.exception("whether all logs are open is not known, the next start recovers all of them")

    def _wait(self) -> None:
        pause, waited, said = LOOK_SECONDS, 0.0, set[str]()
        while True:
            unreadable = self._unreadable()
            for directory, topic in unreadable.items():
                if topic not in said:
                    said.add(topic)
                    self._log.error(
                        "directories of a topic whose metadata cannot be read are left alone: mend the metadata",
                        topic=topic,
                        directory=str(directory),
                    )
            closed = self._held() - {(topic, index) for topic, index, _ in self._logs.log_sizes()}
            # what is on a disk that failed is not opened in this run
            closed -= {(topic, index) for topic, _, index in self._logs.offline_replicas()}
            if not closed and not unreadable:
                break
            if closed and waited < COMPLAIN_SECONDS <= waited + pause:
                self._complain(closed)
            if self._is_over.wait(pause):
                return
            waited += pause
            pause = min(pause * 1.5, LOOK_SECONDS_MAX)
        warn_of_strays(self._logs, self._log)

    def _complain(self, closed: set[tuple[str, int]]) -> None:
        self._log.warning(
            "some logs are not open since the start: errors or leaders that are missing say why",
            count=len(closed),
            partitions=" ".join(f"{topic}-{index}" for topic, index in sorted(closed)[:SHOWN_MAX]),
        )
