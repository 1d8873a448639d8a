"""For how long a broker may act as leader without asking anybody.

A session of the store ends when the store says so, which a broker that was stopped or cut off learns too late. So what
only this broker vouches for (acks 0 and 1, a leader alone in its ISR, reads above the high watermark) has a lease.
It is renewed by writes that a quorum of the store took, counts from when such a write was sent, and is shorter than the
session. Acknowledgements of acks=all with followers in sync do not ask it: they need fetches of the current epoch.
"""

from __future__ import annotations

from fractions import Fraction

#: of the session: the rest covers a clock that runs slower here than there, and an answer under way
SHARE = Fraction(2, 3)
#: writes in a session: three may get lost before the lease ends
WRITES_PER_SESSION = 6


class Lease:
    """The lease of one registration. Times are of one monotonic clock, in milliseconds."""

    def __init__(self, *, broker_epoch: int, session_ms: int) -> None:
        self._broker_epoch = broker_epoch
        self._length_ms = int(session_ms * SHARE)
        self._until_ms: int | None = None
        self._is_over = False
        #: how long after a write was sent the next one is due
        self.interval_ms = session_ms // WRITES_PER_SESSION

    @property
    def until_ms(self) -> int | None:
        """When it ends; None where there is none."""
        return None if self._is_over else self._until_ms

    def holds(self, now_ms: int) -> bool:
        """Whether the broker may act on its own word now."""
        return self.until_ms is not None and now_ms < self.until_ms

    def renewed(self, *, sent_ms: int, broker_epoch: int) -> None:
        """The store took a write to our registration, which was sent at `sent_ms` and met one of `broker_epoch`.

        Another epoch ends the lease: what is registered under our id is not of this session. An answer that was
        overtaken by a later one shortens nothing.
        """
        if broker_epoch != self._broker_epoch:
            self.lost()
            return
        until_ms = sent_ms + self._length_ms
        if self._until_ms is None or until_ms > self._until_ms:
            self._until_ms = until_ms

    def lost(self) -> None:
        """The session is over, or our registration is gone: the lease ends now, and for ever."""
        self._is_over = True
