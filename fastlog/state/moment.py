"""The time as the state machines are told it."""

from __future__ import annotations

from typing import NamedTuple


class Moment(NamedTuple):
    """Now: what decides uses the first, what is written down the second."""

    monotonic_ms: int
    """Milliseconds since some moment, which never goes back."""
    wall_ms: int
    """Milliseconds since 1970, which may jump."""
