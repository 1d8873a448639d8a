"""A ZeroMQ PUB socket: what is said goes to all who are connected and keep up, and to nobody else.

Nothing waits for a subscriber: one whose queue is full loses messages, without a word. What is said must therefore let
a subscriber see that it missed something.
"""

from __future__ import annotations

import zmq

from fastlog.transport.binding import BindError, bind
from fastlog.transport.dealer import NO_WAIT

#: messages that wait for one subscriber; a host that is gone, or a stopped process, costs no more memory than these
QUEUE_MESSAGES = 256
# a subscriber sends subscriptions and heartbeats only
INBOUND_BYTES_MAX = 1024
HANDSHAKE_MS = 5_000
# a subscriber whose host is gone is noticed after 10 + 3 * 5 seconds
KEEPALIVE_IDLE_SECONDS = 10
KEEPALIVE_INTERVAL_SECONDS = 5
KEEPALIVE_COUNT = 3


class Publisher:
    """Speaks from `bind` to `close`. Not thread-safe: one thread at a time uses it."""

    def __init__(self, name: str = "METADATA") -> None:
        """Makes the listener `name`, which is what its errors call it."""
        self._name = name
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        for option, value in (
            (zmq.SNDHWM, QUEUE_MESSAGES),
            (zmq.MAXMSGSIZE, INBOUND_BYTES_MAX),
            (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
            (zmq.LINGER, 0),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_SECONDS),
            (zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_SECONDS),
            (zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT),
        ):
            self._socket.set(option, value)

    def bind(self, host: str, port: int) -> int:
        """Takes the address and answers the port; an empty host is every interface. Raises BindError."""
        try:
            _, bound = bind(self._socket, self._name, host, port)
        except BindError:
            self.close()
            raise
        return bound

    def send(self, message: bytes) -> None:
        """Gives a message to all who are connected now; never blocks."""
        self._socket.send(message, NO_WAIT)

    def close(self) -> None:
        """Ends the connections and lets go of the address; what was not sent is dropped. Again is harmless."""
        self._socket.close(linger=0)
        self._context.term()
