"""The real clock and the real randomness."""

from __future__ import annotations

import time
from uuid import UUID, uuid4


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Milliseconds since the machine's start, more or less."""
        return time.monotonic_ns() // 1_000_000


class SystemRandom:
    """The machine's randomness."""

    def uuid(self) -> UUID:
        """A random id (version 4), which is never one that Kafka keeps for itself."""
        return uuid4()
