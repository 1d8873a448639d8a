"""Drains the engine's control queue in a thread and has each request answered.

The thread only hands over: handlers may block on the metadata store or on a disk, so they run on threads of their own,
one for what only asks and others for what changes metadata. One node alone has one of those, which does one change
after the other; requests of an API that wait for it are served together where that API knows how, so that they share
what they wait for (group commit). In a cluster the controller does that, and each change has a thread that waits for
it: while there is no controller, nobody waits behind others. Requests of groups have a queue and a thread of their own,
see `groups.coordinator`.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol

from fastlog.broker.control_api import Lane
from fastlog.broker.inbox import Inbox
from fastlog.broker.worker import Worker, Workers
from fastlog.events import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.broker.control_api import ControlApi
    from fastlog.broker.serving import ControlRequest, Serving
    from fastlog.protocol.api import ApiKey

# taken from the engine's bounded queue and not handled yet, of each lane; the rest waits there, where the bound is
IN_HAND_MAX = 64
# of requests that are served together: decoded, a byte is some 25 bytes of objects, and all of them are held at once
TOGETHER_BYTES_MAX = 256 << 10


class ControlSource(Protocol):
    """The engine's side of the queue."""

    def control_fd(self) -> int:
        """Readable when there is something to drain."""
        ...

    def drain_control(self, limit: int) -> Sequence[ControlRequest]:
        """Takes requests, at most `limit`."""
        ...

    def drain_events(self) -> tuple[list[tuple[str, str, dict[str, str]]], int]:
        """Takes log lines, (level, text, fields) each, and the number of those that did not fit."""
        ...


class ControlLoop:
    """Serves the control queue from `start` to `stop`, with threads of its own."""

    def __init__(
        self,
        source: ControlSource,
        serving: Serving,
        *,
        noticed: Callable[[], None] = lambda: None,
        changes_at_once: int = 1,
    ) -> None:
        """`noticed` is called in the thread when the source had something: it may be for who takes its other notices.

        `changes_at_once` is how many requests that change something may wait for that at the same time.
        """
        self._source = source
        self._serving = serving
        self._noticed = noticed
        self._engine_log = EventLog("engine")
        changes = f"fastlog-{Lane.CHANGES.value}"
        self._workers: dict[Lane, Worker | Workers] = {
            Lane.ASKS: Worker(f"fastlog-{Lane.ASKS.value}"),
            Lane.CHANGES: Worker(changes) if changes_at_once == 1 else Workers(changes, changes_at_once),
        }
        # those of an API that wait for the one thread of changes
        self._gathered: dict[ApiKey, deque[ControlRequest]] | None = {} if changes_at_once == 1 else None
        self._in_hand_max = {Lane.ASKS: IN_HAND_MAX, Lane.CHANGES: max(IN_HAND_MAX, changes_at_once)}
        # what follows is touched in the thread only
        self._in_hand = dict.fromkeys(self._in_hand_max, 0)
        self._draining = True
        self._inbox = Inbox()
        self._thread = threading.Thread(target=self._run, name="fastlog-control", daemon=True)

    def start(self) -> None:
        """Begins to drain."""
        self._inbox.watch(self._source.control_fd(), self._drain)
        self._inbox.put(self._drain)
        for worker in self._workers.values():
            worker.start()
        self._thread.start()

    def stop(self) -> None:
        """Handles what was taken and drains no more; what is left in the queue is the engine's to give up. Blocks."""
        if self._thread.ident is not None:
            self._inbox.put(self._finish)
            self._thread.join()
        for worker in self._workers.values():
            worker.stop()
        self._inbox.close()
        self._write_events()

    def _run(self) -> None:
        # an error of ours ends the thread: requests may be lost with it, and nobody would know
        while self._draining or any(self._in_hand.values()):
            for work, arguments in self._inbox.wait(None):
                work(*arguments)

    def _finish(self) -> None:
        self._draining = False
        self._inbox.unwatch(self._source.control_fd())

    def _room(self) -> int:
        return min(most - self._in_hand[lane] for lane, most in self._in_hand_max.items())

    def _drain(self) -> None:
        room = self._room()
        # this clears the descriptor: log lines are taken after it, or one that comes in between would wait for the next
        requests = self._source.drain_control(room) if self._draining and room > 0 else ()
        self._write_events()
        self._noticed()
        for request in requests:
            api = self._serving.api_of(request)
            if api is not None:
                self._in_hand[api.lane] += 1
                self._hand_over(api, request)
        if self._draining and self._room() <= 0:
            # the descriptor stays readable while requests wait
            self._inbox.unwatch(self._source.control_fd())

    def _hand_over(self, api: ControlApi, asked: ControlRequest) -> None:
        if api.together is None or self._gathered is None:
            self._workers[api.lane].put(self._serve, api, asked)
            return
        waiting = self._gathered.setdefault(api.key, deque())
        waiting.append(asked)
        self._workers[api.lane].put(self._serve_gathered, api, waiting)

    def _serve_gathered(self, api: ControlApi, waiting: deque[ControlRequest]) -> None:
        """Serves what waits by now, up to a bound; turns that were meant for those find the next, or nothing."""
        asked: list[ControlRequest] = []
        room = TOGETHER_BYTES_MAX
        while waiting:
            room -= len(waiting[0].request)
            if asked and room < 0:
                break
            asked.append(waiting.popleft())
        if asked:
            self._serving.serve_together(api, asked)
        for _ in asked:
            self._inbox.put(self._done, api.lane)

    def _serve(self, api: ControlApi, asked: ControlRequest) -> None:
        if self._serving.serve(api, asked):
            self._inbox.put(self._done, api.lane)
        else:
            self._inbox.put(self._hand_on, api, asked)

    def _hand_on(self, api: ControlApi, asked: ControlRequest) -> None:
        self._in_hand[Lane.CHANGES] += 1
        self._workers[Lane.CHANGES].put(self._change, api, asked)
        self._done(api.lane)

    def _change(self, api: ControlApi, asked: ControlRequest) -> None:
        self._serving.change(api, asked)
        self._inbox.put(self._done, Lane.CHANGES)

    def _done(self, lane: Lane) -> None:
        was_full = self._room() <= 0
        self._in_hand[lane] -= 1
        if was_full and self._draining and self._room() > 0:
            self._inbox.watch(self._source.control_fd(), self._drain)
            self._drain()

    def _write_events(self) -> None:
        events, dropped = self._source.drain_events()
        for level, text, fields in events:
            # the engine's fields come in no order; a log is read down its columns
            getattr(self._engine_log, level)(text, **dict(sorted(fields.items())))
        if dropped:
            self._engine_log.warning("log lines dropped, too many came at once", count=dropped)
