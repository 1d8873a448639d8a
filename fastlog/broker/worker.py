"""Threads that do one thing after another, and threads that do many which wait.

Not executors of `concurrent.futures`: those end when the interpreter begins to exit, before a broker that was
forgotten is stopped, and so before its last requests are answered.
"""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Work = tuple["Callable[..., object]", tuple[object, ...]]

# a thread that had nothing to do for so long ends
IDLE_SECONDS = 10.0


class Worker:
    """Runs what it is given, in order, from `start` to `stop`. The work raises nothing: an error ends the thread."""

    def __init__(self, name: str) -> None:
        self._waiting: SimpleQueue[Work | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def put(self, work: Callable[..., object], *arguments: object) -> None:
        """Has the call made; the one who puts bounds how many wait."""
        self._waiting.put((work, arguments))

    def stop(self) -> None:
        """Ends the thread when all that was put is done."""
        self._waiting.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            work, arguments = item
            work(*arguments)
            # nothing of the last request is kept while there is no next one
            del item, work, arguments


class Workers:
    """As Worker, in no order: what is put has a thread at once, up to a number of them, and holds up nothing else.

    For what may wait for somebody else, a controller that is being elected say. Threads come as they are needed.
    """

    def __init__(self, name: str, count_max: int) -> None:
        self._name = name
        self._count_max = count_max
        self._changed = threading.Condition()
        # what follows is touched under it
        self._waiting: deque[Work] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._is_stopped = False

    def start(self) -> None:
        """Does nothing: threads come with the work."""

    def put(self, work: Callable[..., object], *arguments: object) -> None:
        """Has the call made; the one who puts bounds how many wait."""
        with self._changed:
            self._waiting.append((work, arguments))
            if self._idle < len(self._waiting) and len(self._threads) < self._count_max:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._threads.add(thread)
                thread.start()
            else:
                self._changed.notify()

    def stop(self) -> None:
        """Ends the threads when all that was put is done."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            work, arguments = item
            work(*arguments)
            del item, work, arguments

    def _next(self) -> Work | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._waiting or self._is_stopped, IDLE_SECONDS)
            self._idle -= 1
            if self._waiting:
                return self._waiting.popleft()
            self._threads.discard(threading.current_thread())
            return None
