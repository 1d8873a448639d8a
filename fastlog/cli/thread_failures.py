"""What becomes of a broker whose thread fails: it stops, its session ends, and others lead.

Each thread deals with the errors that it foresees. One that it does not foresee ends it, and a broker without its
listener for brokers, say, would stay registered and be deaf. So all threads of the process are watched, kazoo's too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from fastlog.errors import FastlogError
from fastlog.events import EventLog

if TYPE_CHECKING:
    from types import TracebackType

# a stop may wait for the very thread that failed
STOP_SECONDS = 30.0
FAILED = 1


class ThreadFailures:
    """Watches all threads while its block lasts; the main thread waits for SIGTERM there, which a failure sends it.

    At the end of the block it raises FastlogError where a thread failed before `stopping`. The process ends with
    status 1 where that takes longer than STOP_SECONDS.
    """

    def __init__(self) -> None:
        self._log = EventLog("broker")
        self._lock = threading.Lock()
        self._first: str | None = None
        self._is_stopping = False
        self._hook = threading.excepthook

    def stopping(self) -> None:
        """The broker is being stopped: what fails from now on is logged, and is no reason any more."""
        with self._lock:
            self._is_stopping = True

    def __enter__(self) -> ThreadFailures:
        threading.excepthook = self._failed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        threading.excepthook = self._hook
        if self._first is not None:
            raise FastlogError(self._first) from error

    def _failed(self, failure: threading.ExceptHookArgs) -> None:
        if failure.exc_type is SystemExit:
            return
        name = "" if failure.thread is None else failure.thread.name
        self._log.exception("a thread failed", failure.exc_value, thread=name)
        with self._lock:
            if self._is_stopping or self._first is not None:
                return
            self._first = (
                f"the thread {name} failed ({failure.exc_type.__name__}: {failure.exc_value}), and the broker was "
                "stopped: this is a fault of fastlog's, start it again, and report what is above in its log"
            )
        patience = threading.Timer(STOP_SECONDS, self._give_up)
        patience.daemon = True
        patience.start()
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, signal.SIGTERM)

    def _give_up(self) -> None:
        self._log.error("the broker did not stop after a failure, it is ended", seconds=int(STOP_SECONDS))
        print(f"fastlog: {self._first}", file=sys.stderr, flush=True)
        os._exit(FAILED)
