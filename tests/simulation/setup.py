"""What differs between the clusters of different seeds."""

from __future__ import annotations

import random
from dataclasses import dataclass

#: the share of clusters that sync what they acknowledge
FSYNC = 0.25
#: whose producers are content with the leader's word (acks=1)
ONE_ACK = 0.12
#: whose topic prefers any log to none (`unclean.leader.election.enable`)
UNCLEAN = 0.12
#: where dead processes are suspected, and at times live ones
SUSPICIOUS = 0.25


@dataclass(frozen=True)
class Setup:
    """One cluster."""

    partitions: int
    syncs: bool
    acks: int
    unclean: bool
    suspects: bool

    @property
    def is_loose(self) -> bool:
        """Whether records may be lost by the rules: then producers go on without what was lost."""
        return self.acks == 1 or self.unclean

    def __str__(self) -> str:
        """For the trace."""
        words = (
            f"acks={self.acks}",
            "fsync" * self.syncs,
            "unclean" * self.unclean,
            "suspicious" * self.suspects,
        )
        return f"{self.partitions} partitions " + " ".join(it for it in words if it)


def draw(rng: random.Random) -> Setup:
    """A cluster by lot."""
    partitions = rng.randint(1, 2)
    syncs, one, unclean, suspects = (rng.random() < share for share in (FSYNC, ONE_ACK, UNCLEAN, SUSPICIOUS))
    return Setup(partitions, syncs, 1 if one else -1, unclean, suspects)
