"""Work for a thread that also waits for a descriptor and for deadlines."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

Work = tuple[Callable[..., object], tuple[object, ...]]


class Inbox:
    """Takes work from any thread; one thread waits for it, and for the descriptors it watches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Work] = []
        self._sleeps = False
        self._watched: dict[int, Callable[[], object] | None] = {}
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller = select.poll()
        self._poller.register(self._wakeup, select.POLLIN)

    def put(self, work: Callable[..., object], *arguments: object) -> None:
        """Has the call made; the one who puts bounds how many wait."""
        with self._lock:
            if self._wakeup < 0:
                return
            self._waiting.append((work, arguments))
            wake, self._sleeps = self._sleeps, False
        if wake:
            os.eventfd_write(self._wakeup, 1)

    def watch(self, descriptor: int, work: Callable[[], object] | None = None) -> None:
        """Has `wait` end when the descriptor is readable too, with `work` among what there is to do."""
        self._watched[descriptor] = work
        self._poller.register(descriptor, select.POLLIN)

    def unwatch(self, descriptor: int) -> None:
        """Undoes `watch`; for the thread that waits. Again is harmless."""
        if descriptor in self._watched:
            del self._watched[descriptor]
            self._poller.unregister(descriptor)

    def wait(self, timeout_ms: int | None) -> list[Work]:
        """The work that has come; waits while there is none and nothing that is watched is readable.

        `timeout_ms` of None is for ever.
        """
        with self._lock:
            if self._waiting:
                return self._take()
            self._sleeps = True
        ready = [descriptor for descriptor, _ in self._poller.poll(timeout_ms)]
        if self._wakeup in ready:
            os.eventfd_read(self._wakeup)
        with self._lock:
            self._sleeps = False
            taken = self._take()
        for descriptor in ready:
            work = self._watched.get(descriptor)
            if work is not None:
                taken.append((work, ()))
        return taken

    def _take(self) -> list[Work]:
        taken, self._waiting = self._waiting, []
        return taken

    def close(self) -> None:
        """Gives up the descriptor; what waits is dropped, and what is put from now on. Again is harmless."""
        with self._lock:
            self._sleeps = False
            # the owner's own methods: they would keep it alive
            self._waiting.clear()
            self._watched.clear()
            wakeup, self._wakeup = self._wakeup, -1
        if wakeup >= 0:
            os.close(wakeup)
