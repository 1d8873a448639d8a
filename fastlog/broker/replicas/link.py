"""A connection to a leader's listener for brokers: one request, then its answer."""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING

from fastlog.transport.channel import ConnectionLostError, wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.transport.channel import Channel

CORRELATION_ID = struct.Struct(">i")
CORRELATION_ID_MAX = 2**31 - 1
#: who was rung while an answer is waited for is asked so often whether to go on
RUNG_MS = 50.0


class InterruptedLinkError(Exception):
    """The answer is not waited for any more; the connection is over."""


class Bell:
    """Wakes the one thread that waits for it; rung from any."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        """Wakes the thread, now or as soon as it waits."""
        os.eventfd_write(self.descriptor, 1)

    def hush(self) -> bool:
        """Whether it was rung since the last time."""
        try:
            return os.eventfd_read(self.descriptor) > 0
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Frees the descriptor; nobody may ring any more."""
        os.close(self.descriptor)


class Link:
    """Connects when it is first asked, and anew after it was lost. Of one thread."""

    def __init__(self, open_channel: Callable[[str, int], Channel], bell: Bell) -> None:
        self._open = open_channel
        self._bell = bell
        self._channel: Channel | None = None
        self._at: tuple[str, int] | None = None
        self._correlation_id = 0

    def connect(self, at: tuple[str, int] | None) -> bool:
        """Makes it a connection to that address, None for none; whether it is another one than before."""
        if self._channel is not None and self._at == at:
            return False
        self.close()
        if at is not None:
            self._channel, self._at = self._open(*at), at
        return True

    def next_correlation_id(self) -> int:
        """The correlation id of the next request."""
        self._correlation_id = self._correlation_id % CORRELATION_ID_MAX + 1
        return self._correlation_id

    def ask(self, request: bytes, timeout_ms: int, is_interrupted: Callable[[float], bool]) -> bytes:
        """Sends the request with the last correlation id and blocks until its answer is there.

        Raises ConnectionLostError, also where no answer comes in time, and InterruptedLinkError where `is_interrupted`,
        asked with the milliseconds since it was sent, says so. It is asked from when the bell was rung.
        """
        channel = self._channel
        if channel is None:
            raise ConnectionLostError("there is no connection")
        channel.send(request)
        sent, is_rung = time.monotonic(), False
        while True:
            channel.advance()
            for message in channel.receive():
                if CORRELATION_ID.unpack_from(message)[0] == self._correlation_id:
                    return bytes(message)
            passed_ms = (time.monotonic() - sent) * 1000
            if is_rung and is_interrupted(passed_ms):
                raise InterruptedLinkError
            left_ms = timeout_ms - passed_ms
            if left_ms <= 0:
                raise ConnectionLostError(f"{channel.address} has not answered within {timeout_ms} ms")
            wait([channel], min(left_ms, RUNG_MS) if is_rung else left_ms, self._bell.descriptor)
            is_rung |= self._bell.hush()

    def close(self) -> None:
        """Ends the connection."""
        if self._channel is not None:
            self._channel.close()
        self._channel = self._at = None


def wait_for(bell: Bell, timeout_ms: float | None) -> None:
    """Blocks until the bell is rung, at most so long."""
    wait((), float("inf") if timeout_ms is None else timeout_ms, bell.descriptor)
    bell.hush()
