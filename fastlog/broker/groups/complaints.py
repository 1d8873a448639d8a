"""What goes wrong in the coordinator is said, not too often, and ends nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.events import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.state.moment import Moment

INTERVAL_MS = 1_000


class Complaints:
    """Of the coordinator's thread."""

    def __init__(self) -> None:
        self.log = EventLog("groups")
        self._silent_until_ms = 0

    def may_complain(self, now: Moment) -> bool:
        """Whether to log a failure: a failing disk refuses every partition and commit, and a line a second says so."""
        if now.monotonic_ms < self._silent_until_ms:
            return False
        self._silent_until_ms = now.monotonic_ms + INTERVAL_MS
        return True

    def guarded(self, call: Callable[..., object], *arguments: object) -> None:
        """Makes the call: a fault of ours with one group is not to end the others."""
        try:
            call(*arguments)
        except Exception:
            self.log.exception("the group coordinator failed at something and goes on")
