"""Drains the engine's control queue in an asyncio loop and has each request answered.

The loop only hands over: handlers may block on the metadata store or on a disk, so they run on threads of their own,
one a lane: what changes metadata (one request after the other, in their order), what only asks, and groups. Each
request gets an answer: what a handler did not foresee is answered with UNKNOWN_SERVER_ERROR and logged with its
traceback. An answer that comes later (`Later`) holds up nobody but its own connection.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Protocol

from fastlog.broker.context import RequestContext
from fastlog.broker.control_api import Lane, server_error, storage_error
from fastlog.broker.later import Later
from fastlog.broker.worker import Worker
from fastlog.errors import MalformedMessageError
from fastlog.events import EventLog
from fastlog.ports import StoreUnavailableError
from fastlog.protocol.codec import decode_request, encode_response_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.broker.control_api import ControlApi, Services

# taken from the engine's bounded queue and not handled yet; the rest waits there, where the bound is
IN_HAND_MAX = 64


class ControlRequest(Protocol):
    """A request that waits for its answer; giving it up without one closes its connection."""

    @property
    def api_key(self) -> int:
        """The API's key."""
        ...

    @property
    def api_version(self) -> int:
        """The version, one of those that are served."""
        ...

    @property
    def correlation_id(self) -> int:
        """What the answer carries back."""
        ...

    @property
    def client_id(self) -> str | None:
        """What the client calls itself."""
        ...

    @property
    def principal(self) -> str:
        """Who the client is."""
        ...

    @property
    def listener(self) -> str:
        """The name of the listener."""
        ...

    @property
    def client_address(self) -> str | None:
        """The peer's HOST:PORT."""
        ...

    @property
    def local_address(self) -> tuple[str, int] | None:
        """Host and port that the client connected to."""
        ...

    @property
    def request(self) -> bytes:
        """Header and body."""
        ...

    @property
    def body_offset(self) -> int:
        """Where the body begins in `request`."""
        ...

    def answer(self, frame: bytes) -> None:
        """Sends header and body of the answer."""
        ...

    def answer_by_engine(self) -> None:
        """Has the data plane answer, from what is published now."""
        ...

    def close(self, reason: str) -> None:
        """Closes the connection."""
        ...


class LaneThread(Protocol):
    """Runs what it is given, in order, on a thread of its own."""

    def put(self, work: Callable[..., object], *arguments: object) -> None:
        """Has the call made."""
        ...


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
    """Serves the control queue from `start` to `stop`; the asyncio loop and its thread are its own."""

    def __init__(
        self, source: ControlSource, services: Services, apis: Sequence[ControlApi], groups: LaneThread
    ) -> None:
        self._source = source
        self._services = services
        self._apis = {int(api.key): api for api in apis}
        self._log = EventLog("control")
        self._engine_log = EventLog("engine")
        self._workers = {lane: Worker(f"fastlog-{lane.value}") for lane in (Lane.ASKS, Lane.CHANGES)}
        self._lanes: dict[Lane, LaneThread] = {**self._workers, Lane.GROUPS: groups}
        self._counting = threading.Lock()
        self._in_hand = 0
        self._is_waited_for = False
        self._draining = True
        self._idle: asyncio.Event
        # not of the policy's making: which loop the program uses is no concern of the broker's
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fastlog-control", daemon=True)

    def start(self) -> None:
        """Begins to drain."""
        self._loop.add_reader(self._source.control_fd(), self._drain)
        self._loop.call_soon(self._drain)
        for worker in self._workers.values():
            worker.start()
        self._thread.start()

    def lane(self, lane: Lane) -> LaneThread:
        """The thread of a lane."""
        return self._lanes[lane]

    def stop(self) -> None:
        """Handles what was taken and drains no more; what is left in the queue is the engine's to give up. Blocks."""
        if self._thread.ident is not None:
            asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        for worker in self._workers.values():
            worker.stop()
        self._loop.close()
        self._write_events()

    async def _finish(self) -> None:
        self._draining = False
        self._loop.remove_reader(self._source.control_fd())
        self._idle = asyncio.Event()
        with self._counting:
            self._is_waited_for = is_busy = self._in_hand > 0
        if is_busy:
            await self._idle.wait()

    def _drain(self) -> None:
        with self._counting:
            room = IN_HAND_MAX - self._in_hand
            # who makes room wakes this loop only if that is needed: it costs more than a heartbeat
            self._is_waited_for = room <= 0 or not self._draining
        if room <= 0:
            # the descriptor stays readable while requests wait
            self._loop.remove_reader(self._source.control_fd())
        # this clears the descriptor: log lines are taken after it, or one that comes in between would wait for the next
        requests = self._source.drain_control(room) if self._draining and room > 0 else ()
        self._write_events()
        by_lane: dict[Lane, list[tuple[ControlApi, ControlRequest]]] = {}
        for request in requests:
            api = self._apis.get(request.api_key)
            if api is None:
                request.close(f"no control API has the key {request.api_key}")
                continue
            by_lane.setdefault(api.lane, []).append((api, request))
        for lane, batch in by_lane.items():
            with self._counting:
                self._in_hand += len(batch)
                self._is_waited_for = self._in_hand >= IN_HAND_MAX
            self._lanes[lane].put(self._serve_batch, batch)

    def _serve_batch(self, batch: list[tuple[ControlApi, ControlRequest]]) -> None:
        for api, asked in batch:
            try:
                self._serve(api, asked)
            except Exception:
                self._log.exception("a request was given up without an answer")
        with self._counting:
            self._in_hand -= len(batch)
            wake, self._is_waited_for = self._is_waited_for, False
        if wake:
            self._loop.call_soon_threadsafe(self._room_made)

    def _room_made(self) -> None:
        if self._draining:
            self._loop.add_reader(self._source.control_fd(), self._drain)
            self._drain()
            return
        with self._counting:
            is_busy = self._is_waited_for = self._in_hand > 0
        if not is_busy:
            self._idle.set()

    def _write_events(self) -> None:
        events, dropped = self._source.drain_events()
        for level, text, fields in events:
            # the engine's fields come in no order; a log is read down its columns
            getattr(self._engine_log, level)(text, **dict(sorted(fields.items())))
        if dropped:
            self._engine_log.warning("log lines dropped, too many came at once", count=dropped)

    def _serve(self, api: ControlApi, asked: ControlRequest) -> None:
        try:
            request = decode_request(api.key, asked.api_version, asked.request, asked.body_offset)
        except MalformedMessageError as error:
            asked.close(f"a {api.key.name} version {asked.api_version} request does not parse: {error}")
            return
        try:
            response = api.handle(self._services, context_of(asked), request)
        except StoreUnavailableError as error:
            response = api.refuse(request, storage_error(error))
        except Exception:
            response = self._failed(api, asked, request)
        if isinstance(response, Later):
            response.then(lambda it: self._answer(api, asked, request, it))
        else:
            self._answer(api, asked, request, response)

    def _failed(self, api: ControlApi, asked: ControlRequest, request: Any) -> Any:
        """The answer to what is a fault of ours, which is logged."""
        self._log.exception(
            "request failed",
            request=api.key.name,
            version=asked.api_version,
            client=asked.client_address,
            client_id=asked.client_id,
        )
        return api.refuse(request, server_error())

    def _answer(self, api: ControlApi, asked: ControlRequest, request: Any, response: Any) -> None:
        if response is None:
            asked.answer_by_engine()
            return
        try:
            frame = encode_response_frame(api.key, asked.api_version, asked.correlation_id, response)
        except Exception:
            failed = self._failed(api, asked, request)
            frame = encode_response_frame(api.key, asked.api_version, asked.correlation_id, failed)
        asked.answer(frame)


def context_of(asked: ControlRequest) -> RequestContext:
    """Who asks."""
    return RequestContext(
        api_version=asked.api_version,
        correlation_id=asked.correlation_id,
        client_id=asked.client_id,
        principal=asked.principal,
        listener=asked.listener,
        client_address=asked.client_address,
        local_address=asked.local_address,
    )
