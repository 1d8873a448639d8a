"""By which time things are deleted: the machine's clock, but not at once where that jumped.

Retention, the cleaner, committed offsets and producers' sequences go by the wall clock, and one that is a year ahead
makes all of them old. Where it should be by now is known from a clock that nobody sets: the time since the machine's
start. `fastlog.clock` in the first data directory has both as of a minute ago, for the next start. Where the wall clock
is elsewhere that is said, and until `fastlog.clock.jump.wait.ms` is over, or it is right again, the lesser of the two
counts.

Crash points: the file is replaced as a whole and not synced; with an older one, or none, less is known of the clock.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from fastlog.events import EventLog

if TYPE_CHECKING:
    from fastlog.ports import Clock

FILE_NAME = "fastlog.clock"
VERSION = "0"
#: how far clocks differ without anybody being told: what message.timestamp.after.max.ms lets producers be ahead
TOLERANCE_MS = 3_600_000
#: so long a machine may have been off without being asked about it
ABSENCE_MS = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Uptime(Protocol):
    """The time since the machine's start."""

    def boot_id(self) -> str:
        """Which start of the machine that was."""
        ...

    def now_ms(self) -> int:
        """Milliseconds since then, also those in which the machine slept."""
        ...


class MachineUptime:
    """Linux's own."""

    def boot_id(self) -> str:
        """Drawn by the kernel at its start."""
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def now_ms(self) -> int:
        """CLOCK_BOOTTIME."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Mark(NamedTuple):
    """What time it was at a moment of a machine's uptime."""

    boot_id: str
    uptime_ms: int
    wall_ms: int


class DeletionClock:
    """A Clock for what is deleted by time. Any thread may ask it."""

    def __init__(self, clock: Clock, directory: Path, wait_ms: int, uptime: Uptime | None = None) -> None:
        """`directory` has the file, and is locked by this broker; 0 for `wait_ms` believes each jump at once."""
        self._clock = clock
        self._uptime = uptime or MachineUptime()
        self._wait_ms = wait_ms
        self._path = directory / FILE_NAME
        self._log = EventLog("broker")
        self._lock = threading.Lock()
        #: the uptime at which a jump was met that is not believed yet
        self._met_ms: int | None = None
        self._boot_id = self._uptime.boot_id()
        #: the last moment at which the wall clock was believed
        self._believed = Mark(self._boot_id, self._uptime.now_ms(), self._clock.now_ms())
        last = _read(self._path)
        if last is not None:
            self._compare(last)
        self.write()

    def now_ms(self) -> int:
        """Milliseconds since 1970: never later than the wall clock, and behind one that jumped ahead."""
        with self._lock:
            return min(self._look(), self._clock.now_ms())

    def monotonic_ms(self) -> int:
        """Milliseconds since some moment, which never goes back."""
        return self._clock.monotonic_ms()

    def write(self) -> None:
        """Writes down what time it is, for the next start. Where the disk does not take it, less is known then."""
        with self._lock:
            wall_ms = self._look()
            uptime_ms = self._uptime.now_ms()
        text = f"version: {VERSION}\nboot_id: {self._boot_id}\nuptime_ms: {uptime_ms}\nwall_ms: {wall_ms}\n"
        new = self._path.with_suffix(".clock.tmp")
        try:
            new.write_text(text)
            new.replace(self._path)
        except OSError as error:
            self._log.info(
                "what time it is could not be written down", file=str(self._path), reason=str(error)
            )

    def _compare(self, last: Mark) -> None:
        now = self._believed
        if last.boot_id == now.boot_id and last.uptime_ms <= now.uptime_ms:
            self._believed = last
            self._look()
            return
        # nobody knows how long the machine was off, but that it was off for some time
        passed_ms = now.wall_ms - last.wall_ms
        if passed_ms > ABSENCE_MS or passed_ms < 0:
            self._believed = Mark(now.boot_id, now.uptime_ms, last.wall_ms)
            self._look(was_off=True)

    def _look(self, *, was_off: bool = False) -> int:
        """What time it should be; what changed in that is said. Under the lock, once there are other threads."""
        now = Mark(self._boot_id, self._uptime.now_ms(), self._clock.now_ms())
        expected_ms = self._believed.wall_ms + now.uptime_ms - self._believed.uptime_ms
        ahead_ms = now.wall_ms - expected_ms
        if abs(ahead_ms) <= TOLERANCE_MS:
            if self._met_ms is not None:
                self._log.info("the clock is right again", clock=_shown(now.wall_ms))
            self._met_ms, self._believed = None, now
            return now.wall_ms
        if self._met_ms is None:
            self._met_ms = now.uptime_ms
            self._warn(now.wall_ms, expected_ms, was_off=was_off)
        if now.uptime_ms - self._met_ms < self._wait_ms:
            return expected_ms
        self._log.warning(
            "the clock is believed from now on: things are deleted by it", clock=_shown(now.wall_ms)
        )
        self._met_ms, self._believed = None, now
        return now.wall_ms

    def _warn(self, wall_ms: int, expected_ms: int, *, was_off: bool) -> None:
        if wall_ms < expected_ms:
            text = (
                "the clock is far behind: nothing is old by it, so records are kept longer than retention.ms says, "
                "and those of producers with a right clock may be refused as dated in the future. Set it right"
            )
        elif was_off:
            text = (
                "the clock is far past the last run of this broker. If it was down for so long, nothing is amiss. "
                "If not, set the clock right within the time named here: until then nothing is deleted for being old, "
                "afterwards retention.ms, offsets.retention.minutes and producer.id.expiration.ms go by it"
            )
        else:
            text = (
                "the clock jumped far ahead. If it is wrong, set it right within the time named here: until then "
                "nothing is deleted for being old, afterwards retention.ms, offsets.retention.minutes and "
                "producer.id.expiration.ms go by it"
            )
        self._log.warning(
            text,
            clock=_shown(wall_ms),
            last_run_at_least=_shown(expected_ms),
            differs_seconds=abs(wall_ms - expected_ms) // 1000,
            believed_in_seconds=self._wait_ms // 1000,
        )


def _read(path: Path) -> Mark | None:
    """What an earlier run wrote; None where that does not read, for it is a hint only."""
    try:
        lines = [line.partition(": ") for line in path.read_text().splitlines()]
        fields = {key: value for key, _, value in lines}
        if fields["version"] != VERSION:
            return None
        return Mark(fields["boot_id"], int(fields["uptime_ms"]), int(fields["wall_ms"]))
    except (OSError, KeyError, ValueError):
        return None


def _shown(wall_ms: int) -> str:
    try:
        return (EPOCH + timedelta(milliseconds=wall_ms)).isoformat(timespec="seconds")
    except OverflowError:
        return f"{wall_ms} ms since 1970"
