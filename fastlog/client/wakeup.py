"""What ends the sleep of a thread at its connections: an eventfd(2), which poll(2) waits for beside the connections."""

from __future__ import annotations

import contextlib
import os
import weakref


class Wakeup:
    """One descriptor, from the start until `close`; not thread-safe, its owner's lock guards it.

    Closed by the thread that sleeps on it, when it ends: a producer is part of a cycle with its threads, and where only
    the garbage collector took it apart, the descriptor would stay open for as long as that is not called.
    """

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # for a producer whose thread never ran
        self._close = weakref.finalize(self, os.close, self.descriptor)

    def signal(self) -> None:
        """Makes the descriptor readable; without effect once it is closed."""
        # its number may be another file's by then
        if self._close.alive:
            os.eventfd_write(self.descriptor, 1)

    def acknowledge(self) -> None:
        """Makes the descriptor unreadable after a signal."""
        os.eventfd_read(self.descriptor)

    def acknowledge_all(self) -> None:
        """As `acknowledge`, and without effect where there was no signal."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)

    def close(self) -> None:
        """Closes the descriptor. Again is harmless."""
        self._close()
