"""Logs begin above 0, and some are empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.troubles.trouble import some_leader

if TYPE_CHECKING:
    from tests.simulation.faults import Faults


class Deletion:
    """DeleteRecords, of all that is committed at times: who is behind that has to begin anew."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def strike(self) -> None:
        """See Trouble."""
        cluster, rng = self._faults.cluster, self._faults.rng
        key, share = rng.choice(cluster.keys), rng.choice((0.3, 0.8, 1.0, 1.0))
        leader = some_leader(self._faults, key)
        if leader is not None:
            cluster.note(f"{leader.id} deletes {share} of {key.partition}")
            leader.now(lambda: leader.delete_records(key, share))
