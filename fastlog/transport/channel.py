"""What the client needs of a connection to a broker, whichever transport it uses."""

from __future__ import annotations

import math
import select
from typing import TYPE_CHECKING, Protocol

from fastlog.errors import FastlogError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Bytes = bytes | bytearray | memoryview


class ConnectionLostError(FastlogError):
    """A connection could not be made or has ended; what was unanswered on it has an unknown fate."""


class Channel(Protocol):
    """One connection to one broker: it is made once, lost once, and never comes back by itself.

    Not thread-safe. Nothing in it blocks. One message is one Kafka request or response without a length prefix.
    """

    @property
    def address(self) -> str:
        """Scheme, host and port, for messages."""

    @property
    def connected(self) -> bool:
        """Whether messages can be sent; becomes true in `advance`."""

    def descriptors(self) -> Sequence[tuple[int, int]]:
        """File descriptors and the poll(2) events that `advance` waits for on them."""

    def noticed(self, ready: Sequence[int]) -> None:
        """Is told which descriptors poll(2) found ready, of this channel and of others."""

    def advance(self) -> None:
        """Goes on with connecting and with what is half sent. Raises ConnectionLostError where the connection ended."""

    def send(self, *parts: Bytes) -> None:
        """Sends one message, given in one or more parts; the channel holds on to their memory until it has left.

        Raises ConnectionLostError.
        """

    def receive(self) -> list[Bytes]:
        """All messages that have come in whole. Raises ConnectionLostError where the connection ended."""

    def pending(self) -> bool:
        """Whether `receive` may have messages although poll(2) would not say so."""

    def backlog(self) -> int:
        """How many messages (or parts of them) have not left yet: wait with more where answers do not hold you back."""

    def close(self) -> None:
        """Ends the connection and drops what was not sent."""


def wait(channels: Iterable[Channel], timeout_ms: float, wake_descriptor: int = -1) -> None:
    """Blocks until a channel has something to do, `wake_descriptor` can be read, or `timeout_ms` has passed.

    An infinite time-out is allowed. Releases the GIL while it blocks.
    """
    poller = select.poll()
    if wake_descriptor >= 0:
        poller.register(wake_descriptor, select.POLLIN)
    channels = list(channels)
    for channel in channels:
        if channel.pending():
            return
        for descriptor, events in channel.descriptors():
            poller.register(descriptor, events)
    ready = [
        descriptor for descriptor, _ in poller.poll(None if timeout_ms == math.inf else max(0.0, timeout_ms))
    ]
    if ready != [wake_descriptor]:
        for channel in channels:
            channel.noticed(ready)
