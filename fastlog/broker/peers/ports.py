"""What the parts of a broker in a cluster ask of the way to other brokers; `fastlog.broker.peers` has the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.broker.peers.messages import Answer
    from fastlog.ports import Registration

#: lanes: commands of one lane to one broker are sent in order over one connection, and do not wait for other lanes
REPLICATION = "replication"
ADMIN = "admin"


class Peers(Protocol):
    """Commands to other brokers, and to this one. Thread-safe; nothing blocks."""

    def know(self, brokers: Sequence[Registration]) -> None:
        """Who is there, and where; connections to those that are not, or are registered anew, end."""
        ...

    def ask(
        self,
        broker_id: int,
        command: object,
        answered: Callable[[Answer], None],
        *,
        timeout_ms: int,
        lane: str,
    ) -> None:
        """Sends a command; `answered` is called once, on a thread of the peers': it may only hand over.

        A broker that is not known is answered with 13 at once. A command to this broker takes the same way, without
        the network.
        """
        ...


class Commands(Protocol):
    """The commands that this broker takes."""

    def on(self, kind: type, handle: Callable[[Any, Callable[[Answer], None]], None]) -> None:
        """Has commands of a kind handed to `handle`, with the way back: to be called once, from any thread.

        `handle` is called on the listener's thread and may only hand over. Said before the listener starts.
        """
        ...


class Notices(Protocol):
    """The way to all brokers; used by one thread."""

    def publish(self, notice: object) -> None:
        """Sends a notice to whoever listens now; it may get lost."""
        ...
