"""Drains the engine's control queue in an asyncio loop and has each request answered.

The loop only hands over: handlers may block on the metadata store or on a disk, so they run on two threads of their
own, one for what changes metadata (one request after the other, in their order) and one for what only asks. Each
request gets an answer: what a handler did not foresee is answered with UNKNOWN_SERVER_ERROR and logged with its
traceback.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Protocol

from fastlog.broker.context import RequestContext
from fastlog.broker.control_api import server_error, storage_error
from fastlog.broker.worker import Worker
from fastlog.errors import MalformedMessageError
from fastlog.events import EventLog
from fastlog.ports import StoreUnavailableError
from fastlog.protocol.codec import decode_request, encode_response_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.broker.control_api import ControlApi, Services

# taken from the engine's bounded queue and not answered yet; the rest waits there, where the bound is
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

    def __init__(self, source: ControlSource, services: Services, apis: Sequence[ControlApi]) -> None:
        self._source = source
        self._services = services
        self._apis = {int(api.key): api for api in apis}
        self._log = EventLog("control")
        self._engine_log = EventLog("engine")
        self._changes = Worker("fastlog-changes")
        self._asks = Worker("fastlog-asks")
        # what follows is touched in the loop only
        self._in_hand = 0
        self._draining = True
        self._idle: asyncio.Event
        # not of the policy's making: which loop the program uses is no concern of the broker's
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fastlog-control", daemon=True)

    def start(self) -> None:
        """Begins to drain."""
        self._loop.add_reader(self._source.control_fd(), self._drain)
        self._loop.call_soon(self._drain)
        for thread in (self._changes, self._asks, self._thread):
            thread.start()

    def stop(self) -> None:
        """Answers what was taken and drains no more; what is left in the queue is the engine's to give up. Blocks."""
        if self._thread.ident is not None:
            asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        for worker in (self._changes, self._asks):
            worker.stop()
        self._loop.close()
        self._write_events()

    async def _finish(self) -> None:
        self._draining = False
        self._loop.remove_reader(self._source.control_fd())
        self._idle = asyncio.Event()
        if self._in_hand:
            await self._idle.wait()

    def _drain(self) -> None:
        room = IN_HAND_MAX - self._in_hand
        # this clears the descriptor: log lines are taken after it, or one that comes in between would wait for the next
        requests = self._source.drain_control(room) if self._draining and room > 0 else ()
        self._write_events()
        for request in requests:
            api = self._apis.get(request.api_key)
            if api is None:
                request.close(f"no control API has the key {request.api_key}")
                continue
            self._in_hand += 1
            worker = self._changes if api.changes_metadata else self._asks
            worker.put(self._serve_one, api, request)

    def _serve_one(self, api: ControlApi, asked: ControlRequest) -> None:
        try:
            self._serve(api, asked)
        except Exception:
            self._log.exception("a request was given up without an answer")
        self._loop.call_soon_threadsafe(self._done)

    def _done(self) -> None:
        was_full = self._in_hand >= IN_HAND_MAX
        self._in_hand -= 1
        if not self._draining and not self._in_hand:
            self._idle.set()
        if was_full:
            self._drain()

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
            frame = self._encode(api, asked, response)
        except StoreUnavailableError as error:
            frame = self._encode(api, asked, api.refuse(request, storage_error(error)))
        except Exception:
            self._log.exception(
                "request failed",
                request=api.key.name,
                version=asked.api_version,
                client=asked.client_address,
                client_id=asked.client_id,
            )
            frame = self._encode(api, asked, api.refuse(request, server_error()))
        if frame is None:
            asked.answer_by_engine()
        else:
            asked.answer(frame)

    @staticmethod
    def _encode(api: ControlApi, asked: ControlRequest, response: Any) -> bytes | None:
        if response is None:
            return None
        return encode_response_frame(api.key, asked.api_version, asked.correlation_id, response)


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
