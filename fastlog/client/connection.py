"""A blocking TCP connection to one broker, for the requests that are rare: metadata, admin, producer ids."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from fastlog.client.link import Link
from fastlog.errors import NotReachableError
from fastlog.transport.channel import ConnectionLostError, wait
from fastlog.transport.tcp import TcpChannel

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

DEFAULT_CONNECT_TIMEOUT_MS = 10_000
DEFAULT_REQUEST_TIMEOUT_MS = 30_000


def monotonic_ms() -> float:
    """The clock that the client's deadlines are on."""
    return time.monotonic() * 1000


class Connection:
    """One TCP connection to a broker's Kafka listener; one request at a time. Not thread-safe."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        client_id: str = "fastlog",
        connect_timeout_ms: float = DEFAULT_CONNECT_TIMEOUT_MS,
        request_timeout_ms: float = DEFAULT_REQUEST_TIMEOUT_MS,
        clock_ms: Callable[[], float] = monotonic_ms,
    ) -> None:
        """Connects and negotiates versions; blocks up to `connect_timeout_ms`. Raises NotReachableError."""
        self.address = f"{host}:{port}"
        self._clock_ms = clock_ms
        self._request_timeout_ms = request_timeout_ms
        try:
            self._link = Link(
                TcpChannel(host, port),
                client_id=client_id,
                now_ms=clock_ms(),
                connect_timeout_ms=connect_timeout_ms,
                request_timeout_ms=request_timeout_ms,
            )
        except ConnectionLostError as error:
            raise NotReachableError(str(error)) from error
        while not self._link.ready:
            self._step()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def version(self, api_key: int) -> int:
        """The version of `api_key` that both sides speak; raises UnsupportedVersionError."""
        return self._link.version(api_key)

    def request(self, request: Any, *, version: int | None = None, timeout_ms: float | None = None) -> Any:
        """Sends `request` and returns the response; error codes in it are the caller's business.

        Raises NotReachableError where the connection ends or the answer does not come in time; the connection is closed
        then, and whether the broker has done what was asked is unknown.
        """
        if version is None:
            version = self.version(request.API_KEY)
        timeout_ms = self._request_timeout_ms if timeout_ms is None else timeout_ms
        try:
            self._link.send(request, version, None, self._clock_ms(), timeout_ms=timeout_ms)
        except ConnectionLostError as error:
            self.close()
            raise NotReachableError(str(error)) from error
        while True:
            for answer in self._step():
                return answer.message

    def close(self) -> None:
        """Ends the connection."""
        self._link.close()

    def _step(self) -> list[Any]:
        try:
            wait([self._link.channel], self._link.next_deadline_ms() - self._clock_ms())
            return self._link.process(self._clock_ms())
        except ConnectionLostError as error:
            self.close()
            raise NotReachableError(str(error)) from error
