"""What the broker is told of ZooKeeper, by one callback: facts to act on elsewhere, never work to do there."""

from __future__ import annotations

from typing import Literal

import msgspec

#: what is read with a watch
Watched = Literal["brokers", "controller"]


class Connected(msgspec.Struct, frozen=True):
    """The session can be used. Watches of before are gone: read again what you watch."""

    session: int
    """The session's id; another one than before is a new session, in which nothing is registered."""
    session_ms: int
    """The time-out that the server granted."""


class Suspended(msgspec.Struct, frozen=True):
    """No server answers. The session may still be alive, or not."""


class SessionEnded(msgspec.Struct, frozen=True):
    """The session is over, and with it the registration and the control. A new one follows by itself."""

    session: int


class Changed(msgspec.Struct, frozen=True):
    """Something that was read with a watch is not as it was: read it again, with a watch."""

    what: Watched


class Unregistered(msgspec.Struct, frozen=True):
    """The znode of this broker's registration is gone or another's: it is no member with this epoch any more."""

    broker_epoch: int
    reason: str


ClusterEvent = Connected | Suspended | SessionEnded | Changed | Unregistered
