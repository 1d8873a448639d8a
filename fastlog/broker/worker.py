"""A thread that does one thing after another.

Not an executor of `concurrent.futures`: those end when the interpreter begins to exit, before a broker that was
forgotten is stopped, and so before its last requests are answered.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Work = tuple["Callable[..., object]", tuple[object, ...]]


class Worker:
    """Runs what it is given, in order, from `start` to `stop`. The work raises nothing."""

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
