"""A broker is shut down on purpose, and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.faults import Faults


class Leaving:
    """SIGTERM: the controller moves what is led there, the process ends cleanly, its session is closed."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def strike(self) -> None:
        """See Trouble."""
        cluster, broker = self._faults.cluster, self._faults.victim()
        process = cluster.brokers.get(broker)
        if process is None:
            return
        cluster.note(f"{broker} is to end")

        def gone() -> None:
            # it may have died, and another have come
            if cluster.brokers.get(broker) is not process:
                return
            cluster.stop(broker)
            if self._faults.is_over:
                self._faults.up(broker)
            else:
                self._faults.later(lambda: self._faults.up(broker))

        process.now(lambda: process.leave(gone))
