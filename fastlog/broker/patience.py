"""How long a request waits for the controller of a cluster."""

from __future__ import annotations

import time

from fastlog.errors import RequestTimedOutError

#: no client waits longer for a change
WAIT_MS_MAX = 30_000
# a client that gives no time at all is given so much: its request is on its way when it asks again
WAIT_MS_MIN = 1_000


def clamped(timeout_ms: int) -> int:
    """How long is waited for a client that gives so much time."""
    return min(max(timeout_ms, WAIT_MS_MIN), WAIT_MS_MAX)


class TimeLeft:
    """The time of one request, which all its parts share: a hundred topics are not waited for a hundred times."""

    def __init__(self, timeout_ms: int, *, is_bounded: bool) -> None:
        """`is_bounded` is whether there is somebody to wait for; one node alone does what it is asked."""
        self._timeout_ms = timeout_ms
        self._deadline = time.monotonic() + clamped(timeout_ms) / 1000 if is_bounded else None

    def ms(self) -> int:
        """What the next part may take; raises RequestTimedOutError where those before it took all."""
        if self._deadline is None:
            return self._timeout_ms
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise RequestTimedOutError(
                "it was not tried: what stands before it in the request took all the time"
            )
        return int(left * 1000) + 1
