"""Whom this broker cannot reach: whose ports to try when, what to report, and whether the controller is dead.

Only a refusal counts: the host is up, and nobody listens there. Silence proves nothing, and changes nothing that was
found before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.ports import Registration

if TYPE_CHECKING:
    from collections.abc import Iterable

#: a peer that nothing speaks against is tried so often: its death may close no connection that is in use
IDLE_MS = 500
#: and one that is doubted
DOUBTED_MS = 200
#: who have to be refused by the controller, this broker among them; with fewer the session decides
VOTERS_MIN = 2


class Doubted(msgspec.Struct):
    """A peer, and what the last attempts to reach it met."""

    registration: Registration
    next_ms: int
    """When to try next."""
    is_doubted: bool = False
    is_refused: bool = False
    told: bool = False
    """What the controller knows of it."""


class Doubts:
    """One broker's view of its peers; a peer that registers anew is another one."""

    def __init__(self, broker_id: int) -> None:
        self._id = broker_id
        self._peers: dict[int, Doubted] = {}

    def know(self, live: Iterable[Registration], now_ms: int) -> None:
        """Who is registered now."""
        before, self._peers = self._peers, {}
        for each in live:
            if each.broker_id == self._id:
                continue
            known = before.get(each.broker_id)
            if known is None or known.registration.broker_epoch != each.broker_epoch:
                known = Doubted(each, now_ms + IDLE_MS)
            self._peers[each.broker_id] = known

    def peer(self, broker_id: int, broker_epoch: int) -> Registration | None:
        """The registration of a peer, if it is that one."""
        known = self._peers.get(broker_id)
        if known is None or known.registration.broker_epoch != broker_epoch:
            return None
        return known.registration

    def doubt(self, broker_id: int, now_ms: int) -> None:
        """A connection to the peer went, or another broker cannot reach it: it is to be tried now."""
        known = self._peers.get(broker_id)
        if known is not None:
            known.is_doubted = True
            known.next_ms = now_ms

    def due(self, now_ms: int) -> list[Registration]:
        """Whom to try now, the doubted first; the next time comes by itself."""
        found = [it for it in self._peers.values() if it.next_ms <= now_ms]
        for each in found:
            each.next_ms = now_ms + (DOUBTED_MS if each.is_doubted else IDLE_MS)
        return [it.registration for it in sorted(found, key=lambda it: not it.is_doubted)]

    def tried(self, peer: Registration, refused: bool | None) -> None:
        """What an attempt met: None where it met nothing in time."""
        known = self._peers.get(peer.broker_id)
        if refused is None or known is None or known.registration.broker_epoch != peer.broker_epoch:
            return
        known.is_refused = known.is_doubted = refused

    def is_refused(self, broker_id: int) -> bool:
        """Whether the peer refused the last attempt that met anything."""
        known = self._peers.get(broker_id)
        return known is not None and known.is_refused

    # --- the controller ---

    def forget_told(self) -> None:
        """Another controller, which knows nothing yet."""
        for each in self._peers.values():
            each.told = False

    def untold(self) -> list[tuple[Registration, bool]]:
        """What the controller does not know: a peer, and whether it refuses."""
        return [(it.registration, it.is_refused) for it in self._peers.values() if it.is_refused != it.told]

    def told(self, peer: Registration, refused: bool) -> None:
        """The controller knows."""
        known = self._peers.get(peer.broker_id)
        if known is not None and known.registration.broker_epoch == peer.broker_epoch:
            known.told = refused

    def voters(self, controller_id: int) -> frozenset[int] | None:
        """Who else has to be refused by the controller, so that it is dead; None where too few are left to agree.

        Those that refuse this broker too may have died with it, and have no vote.
        """
        others = {it for it, known in self._peers.items() if it != controller_id and not known.is_refused}
        return frozenset(others) if len(others) + 1 >= VOTERS_MIN else None


class Inquest:
    """Whether every live peer is refused by the controller. One that says no, or nothing, ends it."""

    def __init__(self, voters: Iterable[int]) -> None:
        self._waiting = set(voters)
        self._is_alive = False

    @property
    def is_over(self) -> bool:
        """Whether all have been heard, or one that is not refused."""
        return self._is_alive or not self._waiting

    @property
    def is_dead(self) -> bool:
        """Whether all are refused."""
        return not self._is_alive and not self._waiting

    def told(self, by: int, refused: bool) -> None:
        """What one of them says."""
        self._waiting.discard(by)
        self._is_alive = self._is_alive or not refused
