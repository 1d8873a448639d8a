"""Partitions get other replicas: more, fewer, others, also dead ones; or an administrator thinks better of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.cluster import BROKERS

if TYPE_CHECKING:
    from tests.simulation.faults import Faults

#: the share that is cancelled
CANCELLED = 0.3


class Reassignment:
    """AlterPartitionReassignments, to whoever thinks that it is the controller."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def strike(self) -> None:
        """See Trouble."""
        cluster, rng = self._faults.cluster, self._faults.rng
        key = rng.choice(cluster.keys)
        state = cluster.store.states[key]
        if (state.adding or state.removing) and rng.random() < CANCELLED:
            cluster.reassign(key, None)
            return
        count = rng.randint(min(cluster.bugs.min_isr, len(BROKERS)), len(BROKERS))
        cluster.reassign(key, tuple(rng.sample(BROKERS, count)))
