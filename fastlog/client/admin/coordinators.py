"""Requests that only a group's coordinator answers: sent there, and again where it has moved or is loading."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from fastlog.client.backoff import Backoff
from fastlog.client.connection import Connection, monotonic_ms
from fastlog.errors import KafkaError, NotReachableError, error_for
from fastlog.protocol.messages.find_coordinator import FindCoordinatorRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastlog.client.metadata import Metadata

Address = tuple[str, int]


class CoordinatorRequests:
    """Keeps a connection per broker. Blocking, not thread-safe."""

    def __init__(self, metadata: Metadata, *, client_id: str, request_timeout_ms: float) -> None:
        self._metadata = metadata
        self._client_id = client_id
        self._request_timeout_ms = request_timeout_ms
        self._coordinators: dict[str, Address] = {}
        self._connections: dict[Address, Connection] = {}
        self._backoff = Backoff(50, 1_000, random.random)

    def ask(
        self,
        group_id: str,
        request: Any,
        code_of: Callable[[Any], int],
        timeout_ms: float,
        *,
        what: str,
        hints: Mapping[int, str],
    ) -> Any:
        """The answer of the coordinator of `group_id`; `what` is asked for, in the words of an error.

        `hints` says for some errors what to do about them.

        `code_of` reads an error code out of an answer. Errors that may pass are tried again until `timeout_ms` has
        passed; raises the others, and then the last.
        """

        def once(deadline_ms: float) -> Any:
            try:
                address = self._coordinator(group_id, left_ms(deadline_ms), what)
                response = self.request(address, request, timeout_ms=left_ms(deadline_ms))
                code = code_of(response)
                if code:
                    hint = f": {hints[code]}" if code in hints else ""
                    raise error_for(code, f"{what}, asked of {address[0]}:{address[1]}{hint}")
            except (KafkaError, NotReachableError):
                self._coordinators.pop(group_id, None)
                raise
            return response

        return self._retried(once, timeout_ms)

    def ask_broker(
        self, address: Address, request: Any, code_of: Callable[[Any], int], timeout_ms: float, *, what: str
    ) -> Any:
        """The answer of one broker about all groups that it coordinates; otherwise as `ask`."""

        def once(deadline_ms: float) -> Any:
            response = self.request(address, request, timeout_ms=left_ms(deadline_ms))
            code = code_of(response)
            if code:
                raise error_for(code, f"{what}, asked of {address[0]}:{address[1]}")
            return response

        return self._retried(once, timeout_ms)

    def _retried(self, once: Callable[[float], Any], timeout_ms: float) -> Any:
        """Does something until it succeeds, fails for good, or `timeout_ms` has passed; `once` is told till when."""
        deadline_ms = monotonic_ms() + timeout_ms
        attempt = 0
        while True:
            attempt += 1
            try:
                return once(deadline_ms)
            except (KafkaError, NotReachableError) as error:
                if isinstance(error, KafkaError) and not error.retriable:
                    raise
                delay_ms = self._backoff.delay_ms(attempt)
                if monotonic_ms() + delay_ms >= deadline_ms:
                    raise
            time.sleep(delay_ms / 1000)

    def request(self, address: Address, request: Any, *, timeout_ms: float) -> Any:
        """Sends `request` to one broker; a connection that idled until the broker ended it is made anew.

        Raises NotReachableError.
        """
        connection = self._connections.pop(address, None)
        if connection is not None:
            try:
                return self._keep(address, connection, request, timeout_ms)
            except NotReachableError:
                connection.close()
        connection = Connection(
            *address, client_id=self._client_id, request_timeout_ms=self._request_timeout_ms
        )
        return self._keep(address, connection, request, timeout_ms)

    def close(self) -> None:
        """Ends the connections."""
        while self._connections:
            self._connections.popitem()[1].close()

    def _keep(self, address: Address, connection: Connection, request: Any, timeout_ms: float) -> Any:
        response = connection.request(request, timeout_ms=timeout_ms)
        self._connections[address] = connection
        return response

    def _coordinator(self, group_id: str, timeout_ms: float, what: str) -> Address:
        known = self._coordinators.get(group_id)
        if known is not None:
            return known
        request = FindCoordinatorRequest(key=group_id, coordinator_keys=[group_id])
        response = self._metadata.request(request, timeout_ms=timeout_ms)
        found = response.coordinators[0] if response.coordinators else response
        if found.error_code:
            error = error_for(found.error_code, f"{what}: finding the coordinator of group {group_id!r}")
            if not error.retriable:
                raise error
            raise NotReachableError(str(error))
        self._coordinators[group_id] = (found.host, found.port)
        return found.host, found.port


def left_ms(deadline_ms: float) -> float:
    """How long it is until then, and 1 where it is over."""
    return max(1.0, deadline_ms - monotonic_ms())
