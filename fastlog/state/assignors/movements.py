"""Which partitions a rebalance has moved so far, so that two of a topic do not change places."""

from __future__ import annotations

from fastlog.state.assignors.order import Partition, hash_order, partition_hash

#: from one member to another
Pair = tuple[str, str]


class Movements:
    """Kafka's PartitionMovements: moves by topic and pair of members, from the first owner to the present one."""

    def __init__(self) -> None:
        """Nothing has moved."""
        self._pairs: dict[Partition, Pair] = {}
        self._moved: dict[tuple[str, Pair], list[Partition]] = {}

    def note(self, partition: Partition, source: str, target: str) -> None:
        """Notes that `partition` goes from `source` to `target`."""
        known = self._pairs.pop(partition, None)
        if known is not None:
            self._moved[partition[0], known].remove(partition)
            source = known[0]
        if source != target:
            self._pairs[partition] = (source, target)
            self._moved.setdefault((partition[0], (source, target)), []).append(partition)

    def better(self, partition: Partition, source: str, target: str) -> Partition:
        """What to move in place of `partition`: one of its topic that came the other way goes back first."""
        known = self._pairs.get(partition)
        if known is not None:
            source = known[0]
        back = self._moved.get((partition[0], (target, source)))
        return hash_order(back, partition_hash)[0] if back else partition
