"""The wall clock of a process, shifted by libfaketime; the clocks that nobody sets go on as they are."""

from __future__ import annotations

from pathlib import Path

YEARS_5 = 5 * 365 * 86_400


def library() -> Path | None:
    """libfaketime for processes of several threads, where it is installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


class ShiftedClock:
    """How far the wall clock of processes is from that of the machine; it may be changed while they run."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.shift(0)

    def shift(self, seconds: int) -> None:
        """Sets it; running processes see it within a second."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment."""
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
