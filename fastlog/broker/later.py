"""An answer that is not there yet."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Later:
    """What a handler returns whose answer comes later, from any thread; who waits for it is told once."""

    __slots__ = ("_lock", "_response", "_send")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._response: Any = None
        self._send: Callable[[Any], None] | None = None

    def answer(self, response: Any) -> None:
        """Gives the answer, which is not None; a second one is dropped."""
        with self._lock:
            if self._response is not None:
                return
            self._response = response
            send = self._send
        if send is not None:
            send(response)

    def then(self, send: Callable[[Any], None]) -> None:
        """Has the answer sent by `send`, now if it is there already; called once."""
        with self._lock:
            self._send = send
            response = self._response
        if response is not None:
            send(response)
