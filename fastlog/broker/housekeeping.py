"""What a broker does from time to time: retention, checkpoints, purging what was deleted; cleaning compacted logs,
the scrub, moves between data directories, and tiered storage.

A thread of the broker, one of each data directory, whose disk may not answer, and others for the cleaner, the scrub,
moves and tiers, which may be at a log for minutes; the engine's calls release the GIL. A task that fails is logged and
tried again at its next turn.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from fastlog.errors import KafkaStorageError
from fastlog.events import EventLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.broker.deletion_clock import DeletionClock
    from fastlog.config import BrokerSettings
    from fastlog.ports import Clock

# files are purged within this time of their delay's end
PURGE_INTERVAL_MS = 5_000
# an interval that was changed is heard of within this time
LOOK_INTERVAL_MS = 5_000
# below its floor a disk gets records for at most so long
ROOM_INTERVAL_MS = 1_000
# a file of a log that nobody used for so long is closed, within twice that time
IDLE_FILES_INTERVAL_MS = 60_000
# when the next pass of the scrub is due is looked at so often, and what somebody doubts
SCRUB_LOOK_MS = 1_000
SCRUB_NICENESS = 15
# a move between data directories begins within this time
MOVES_LOOK_MS = 500
# what time it is, is written down so often
CLOCK_INTERVAL_MS = 60_000
# the cleaner looks at every compacted log: never more often than this
CLEANER_BACKOFF_MS_MIN = 10


class Logs(Protocol):
    """The engine's calls; all block."""

    def close_idle_files(self) -> int:
        """Closes the files that nobody used since this was last called; answers how many."""
        ...

    def look_at_rooms(self) -> None:
        """Asks the disks for their room; appends are refused where there is too little, and resume when there is."""
        ...


class DirectoryLogs(Protocol):
    """The engine's calls for the logs in one data directory, which has a number; all block."""

    def enforce_retention(self, directory: int, now_ms: int, /) -> int:
        """Deletes the segments that retention says; answers how many."""
        ...

    def purge_deleted(self, directory: int, now_ms: int, /) -> int:
        """Removes the files of segments and topics whose delay is over; answers how many."""
        ...

    def checkpoint_recovery_points(self, directory: int, /) -> None:
        """Writes down what is known to be synced."""
        ...

    def checkpoint_log_starts(self, directory: int, /) -> None:
        """Writes down the log start offsets."""
        ...

    def checkpoint_high_watermarks(self, directory: int, /) -> None:
        """Writes down the high watermarks."""
        ...


class CleanedLogs(Protocol):
    """The engine's calls; the first blocks."""

    def clean_one(self, now_ms: int) -> bool:
        """Cleans the compacted log that needs it most; False when none does."""
        ...

    def stop_cleaner(self) -> None:
        """Ends a `clean_one` that is under way, and later ones at once."""
        ...


class ScrubbedLogs(Protocol):
    """The engine's calls; the first blocks."""

    def scrub_next(self, now_ms: int) -> bool:
        """Looks at what is doubted and checks the next segment, of that or of a pass; False when none is due."""
        ...

    def stop_scrub(self) -> None:
        """Ends a `scrub_next` that is under way, and later ones at once."""
        ...


class MovedLogs(Protocol):
    """The engine's calls; the first blocks."""

    def move_next(self, now_ms: int) -> bool:
        """Does a step of a move between data directories; False when none is wanted."""
        ...

    def stop_moves(self) -> None:
        """Ends a `move_next` that is under way, and later ones at once."""
        ...


class TieredLogs(Protocol):
    """The engine's calls; the first blocks."""

    def run_tiers(self, now_ms: int) -> bool:
        """Uploads full segments, and deletes what retention says in the store; True when there may be more to do."""
        ...

    def stop_tiers(self) -> None:
        """Ends a `run_tiers` that is under way, and later ones at once."""
        ...


class Task(msgspec.Struct, frozen=True):
    """Something to do every so often."""

    name: str
    interval_ms: int | Callable[[], int]
    """A function for an interval that may be changed."""
    run: Callable[[], object]

    def interval(self) -> int:
        """The interval in force, in milliseconds."""
        return self.interval_ms if isinstance(self.interval_ms, int) else self.interval_ms()


def broker_tasks(logs: Logs) -> tuple[Task, ...]:
    """The tasks of the broker's thread, which wait for no disk."""
    return (
        Task("room of the disks", ROOM_INTERVAL_MS, logs.look_at_rooms),
        Task("idle files", IDLE_FILES_INTERVAL_MS, logs.close_idle_files),
    )


def directory_tasks(
    logs: DirectoryLogs, directory: int, settings: BrokerSettings, clock: Clock, deletion_clock: DeletionClock
) -> tuple[Task, ...]:
    """The tasks of a data directory's thread; `deletion_clock` says what is old, and lies in the first one."""
    clock_task = [Task("clock", CLOCK_INTERVAL_MS, deletion_clock.write)] if directory == 0 else []
    return (
        *clock_task,
        Task(
            "retention",
            settings.log_retention_check_interval_ms,
            lambda: logs.enforce_retention(directory, deletion_clock.now_ms()),
        ),
        Task("purge", PURGE_INTERVAL_MS, lambda: logs.purge_deleted(directory, clock.now_ms())),
        Task(
            "recovery-point checkpoint",
            settings.log_flush_offset_checkpoint_interval_ms,
            lambda: logs.checkpoint_recovery_points(directory),
        ),
        Task(
            "log-start checkpoint",
            settings.log_flush_start_offset_checkpoint_interval_ms,
            lambda: logs.checkpoint_log_starts(directory),
        ),
        Task(
            "high-watermark checkpoint",
            settings.replica_high_watermark_checkpoint_interval_ms,
            lambda: logs.checkpoint_high_watermarks(directory),
        ),
    )


def cleaner_task(logs: CleanedLogs, settings: Callable[[], BrokerSettings], clock: Clock) -> Task:
    """The task of the cleaner's thread: one log after the other, until none needs it; `settings` are those in force."""

    def clean() -> None:
        while logs.clean_one(clock.now_ms()):
            pass

    def backoff_ms() -> int:
        return max(settings().log_cleaner_backoff_ms, CLEANER_BACKOFF_MS_MIN)

    return Task("cleaner", backoff_ms, clean)


def scrub_task(logs: ScrubbedLogs, clock: Clock) -> Task:
    """The task of the scrub's thread, which steps back behind all others: one segment after the other."""

    def scrub() -> None:
        # of this thread alone; one that steps back further already may not come forward again
        thread = threading.get_native_id()
        niceness = max(os.getpriority(os.PRIO_PROCESS, thread), SCRUB_NICENESS)
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
        while logs.scrub_next(clock.now_ms()):
            pass

    return Task("scrub", SCRUB_LOOK_MS, scrub)


def moves_task(logs: MovedLogs, clock: Clock) -> Task:
    """The task of the thread that moves replicas between data directories: one after the other."""

    def move() -> None:
        while logs.move_next(clock.now_ms()):
            pass

    return Task("moves", MOVES_LOOK_MS, move)


def tiers_task(logs: TieredLogs, settings: BrokerSettings, clock: Clock) -> Task:
    """The task of the thread of tiered storage, which waits for the object store."""

    def run() -> None:
        while logs.run_tiers(clock.now_ms()):
            pass

    return Task("tiers", settings.remote_log_manager_task_interval_ms, run)


class Housekeeping:
    """Runs tasks by their intervals from `start` to `stop`."""

    def __init__(self, tasks: Sequence[Task], clock: Clock, name: str = "housekeeping") -> None:
        self._tasks = tuple(tasks)
        self._clock = clock
        now = clock.monotonic_ms()
        self._ran = {task.name: now for task in tasks}
        self._log = EventLog(name)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"fastlog-{name}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the task that it is at."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def run_due(self) -> int:
        """Runs the tasks that are due; answers the milliseconds until the next one is."""
        for task in self._tasks:
            if self._clock.monotonic_ms() >= self._ran[task.name] + task.interval():
                self._run_one(task)
                self._ran[task.name] = self._clock.monotonic_ms()
        due = min(self._ran[task.name] + task.interval() for task in self._tasks)
        return max(0, due - self._clock.monotonic_ms())

    def _run_one(self, task: Task) -> None:
        try:
            task.run()
        except KafkaStorageError as error:
            # a disk that is full or fails is no fault of ours: the text says which file and why
            self._log.error(
                "housekeeping could not use a disk, it is tried again", task=task.name, reason=str(error)
            )
        except Exception:
            self._log.exception("housekeeping failed, it is tried again", task=task.name)

    def _run(self) -> None:
        wait_ms = self.run_due()
        while not self._stopped.wait(min(wait_ms, LOOK_INTERVAL_MS) / 1000):
            wait_ms = self.run_due()
