"""From a request's bytes to its answer's: what all threads that handle requests do with each of them.

Each gets an answer: what a handler did not foresee is answered with UNKNOWN_SERVER_ERROR and logged with its traceback.
An answer that comes later (`Later`) holds up nobody but its own connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastlog.broker.context import RequestContext
from fastlog.broker.control_api import Lane, server_error, storage_error
from fastlog.broker.later import Later
from fastlog.errors import MalformedMessageError
from fastlog.events import EventLog
from fastlog.ports import StoreUnavailableError
from fastlog.protocol.codec import decode_request, encode_response_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.broker.control_api import ControlApi, Services

    Handle = Callable[[Services, RequestContext, Any], Any]


class ControlRequest(RequestContext, Protocol):
    """A request that waits for its answer; giving it up without one closes its connection."""

    @property
    def api_key(self) -> int:
        """The API's key."""
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


class Serving:
    """Serves requests with the handlers of their APIs, on the thread that asks it to."""

    def __init__(self, services: Services, apis: Sequence[ControlApi]) -> None:
        self._services = services
        self._apis = {int(api.key): api for api in apis}
        self._log = EventLog("control")

    def api_of(self, asked: ControlRequest) -> ControlApi | None:
        """The API that a request is for; one that there is not closes its connection."""
        api = self._apis.get(asked.api_key)
        if api is None:
            asked.close(f"no control API has the key {asked.api_key}")
        return api

    def serve(self, api: ControlApi, asked: ControlRequest) -> bool:
        """Answers a request, or has it answered later; raises nothing.

        False where it is to be given to `change`, on the lane of changes.
        """
        return self._guarded(api, asked, api.handle)

    def serve_together(self, api: ControlApi, asked: Sequence[ControlRequest]) -> None:
        """Answers requests that came together, of an API that takes such; raises nothing."""
        assert api.together is not None  # noqa: S101  # the caller looked
        requests = [(it, request) for it in asked if (request := self._decoded(api, it)) is not None]
        try:
            responses = api.together(self._services, requests)
        except StoreUnavailableError as error:
            refusal = storage_error(error)
            responses = [api.refuse(request, refusal) for _, request in requests]
        except Exception:
            responses = [self._failed(api, it, request) for it, request in requests]
        for (it, request), response in zip(requests, responses, strict=True):
            try:
                self._answer(api, it, request, response)
            except Exception:
                self._log.exception("a request was given up without an answer")

    def _decoded(self, api: ControlApi, asked: ControlRequest) -> Any:
        """The request, or None: its connection is closed then."""
        try:
            return decode_request(api.key, asked.api_version, asked.request, asked.body_offset)
        except MalformedMessageError as error:
            asked.close(f"a {api.key.name} version {asked.api_version} request does not parse: {error}")
            return None

    def change(self, api: ControlApi, asked: ControlRequest) -> None:
        """Answers a request for which something has to be changed first; raises nothing."""
        if api.change is not None:
            self._guarded(api, asked, api.change)

    def _guarded(self, api: ControlApi, asked: ControlRequest, handle: Handle) -> bool:
        try:
            return self._serve(api, asked, handle)
        except Exception:
            self._log.exception("a request was given up without an answer")
        return True

    def _serve(self, api: ControlApi, asked: ControlRequest, handle: Handle) -> bool:
        request = self._decoded(api, asked)
        if request is None:
            return True
        try:
            response = handle(self._services, asked, request)
        except StoreUnavailableError as error:
            response = api.refuse(request, storage_error(error))
        except Exception:
            response = self._failed(api, asked, request)
        if response is Lane.CHANGES:
            return False
        if isinstance(response, Later):
            response.then(lambda it: self._answer(api, asked, request, it))
        else:
            self._answer(api, asked, request, response)
        return True

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
