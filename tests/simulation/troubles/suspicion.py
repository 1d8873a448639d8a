"""Peers say that a broker's listener refuses them: of dead ones before their sessions end, at times of live ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastlog.ports import Registration
    from tests.simulation.faults import Faults

#: when peers notice
NOTICED_MS = (10, 300)
#: when it is taken back
AGAIN_MS = (0, 9_000, 18_000)


class Suspicion:
    """In some clusters only, so that in the others sessions have to end."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def died(self, broker: int, registration: Registration | None) -> None:
        """A process was killed."""
        if self._faults.cluster.setup.suspects and registration is not None:
            self._tell(registration, refused=True)

    def strike(self) -> None:
        """See Trouble: everybody is refused by one that lives, for a while."""
        broker = self._faults.cluster.brokers.get(self._faults.victim())
        if not self._faults.cluster.setup.suspects or broker is None or broker.registration is None:
            return
        own = broker.registration
        self._faults.cluster.note(f"{broker.id} is slandered")
        self._tell(own, refused=True)
        # again, since the first word of it may be so late that it comes behind the second
        for late_ms in AGAIN_MS:
            self._faults.cluster.agenda.after(
                self._faults.lasts() + late_ms, lambda: self._tell(own, refused=False)
            )

    def _tell(self, registration: Registration, *, refused: bool) -> None:
        for peer in self._faults.cluster.alive():
            if peer.id != registration.broker_id:
                peer.later(
                    self._faults.rng.randint(*NOTICED_MS),
                    lambda peer=peer: peer.suspect(registration, refused=refused),  # type: ignore[misc]
                )
