"""Descriptors of this process: logs' files have a half, connections most of the rest (`fastlog_sys::limits`)."""

from __future__ import annotations

import resource
from contextlib import suppress

#: as many as the logs of a broker use at most, and as many again
WANTED = 1 << 16
RESERVE = 128


def allow_many() -> None:
    """Raises what this process may open, for its owner, to WANTED or as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_max() -> int:
    """How many connections ZeroMQ's listener may have: a sixth of those of all listeners."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return WANTED
    return max(soft // 2 - RESERVE, soft // 4) // 6
