"""Logs begin above 0, and some are empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.ports import PartitionKey
from tests.simulation.clients import Producer
from tests.simulation.troubles.trouble import some_leader

if TYPE_CHECKING:
    from tests.simulation.faults import Faults

END = 2**63 - 1


class Deletion:
    """DeleteRecords, of all that is committed at times: who is behind that has to begin anew.

    Not of what its producer has not been told of: it sends that again, and a replica that began behind it does not know
    that it was there (nor would Kafka's).
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def strike(self) -> None:
        """See Trouble."""
        cluster, rng = self._faults.cluster, self._faults.rng
        key, share = rng.choice(cluster.keys), rng.choice((0.3, 0.8, 1.0, 1.0))
        leader = some_leader(self._faults, key)
        if leader is not None:
            cluster.note(f"{leader.id} deletes {share} of {key.partition}")
            leader.now(lambda: leader.delete_records(key, share, self._told(key)))

    def _told(self, key: PartitionKey) -> int:
        """The offset before which producers that number their records have been told of all."""
        producers = [it for it in self._faults.cluster.clients if isinstance(it, Producer) and it.key == key]
        return min((it.acknowledged for it in producers if it.is_idempotent), default=END)
