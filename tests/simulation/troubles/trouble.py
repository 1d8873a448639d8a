"""What troubles have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fastlog.ports import PartitionKey
    from tests.simulation.broker import Broker
    from tests.simulation.faults import Faults


class Trouble(Protocol):
    """One kind of trouble."""

    def strike(self) -> None:
        """It befalls the cluster now, where it can."""
        ...


def some_leader(faults: Faults, key: PartitionKey) -> Broker | None:
    """A process that thinks that it leads the partition."""
    leaders = [it for it in faults.cluster.alive() if key in it.led() and not it.is_stopped]
    return faults.rng.choice(leaders) if leaders else None
