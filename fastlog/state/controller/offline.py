"""Replicas whose disk failed, on brokers that live: for their partitions such a broker is as good as leaving.

Others lead what can be led elsewhere, and where others are in sync it is not; a partition that has nobody else stays
with it. A broker tells all of them, whenever that changes and to each controller anew; what it told ends with its
registration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastlog.ports import PartitionKey
    from fastlog.state.controller.brokers import Brokers
    from fastlog.state.controller.decide.election import Candidates


class OfflineReplicas:
    """Who has told what."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._of_broker: dict[int, frozenset[PartitionKey]] = {}

    def tell(self, broker: int, keys: Iterable[PartitionKey]) -> frozenset[PartitionKey]:
        """Replaces what a broker told, and answers for which partitions that has changed."""
        before, after = self._of_broker.pop(broker, frozenset()), frozenset(keys)
        if after:
            self._of_broker[broker] = after
        return before ^ after

    def forget(self, brokers: Iterable[int]) -> None:
        """These brokers went, or are other processes now."""
        for broker in brokers:
            self._of_broker.pop(broker, None)

    def view_of(self, key: PartitionKey) -> Candidates:
        """The brokers as the decisions about a partition are to see them."""
        if not self._of_broker:
            return self._brokers
        offline = frozenset(it for it, keys in self._of_broker.items() if key in keys)
        return SeenFromPartition(self._brokers, offline) if offline else self._brokers


class SeenFromPartition:
    """Candidates, without those whose replica is offline."""

    def __init__(self, brokers: Brokers, offline: frozenset[int]) -> None:
        self._brokers = brokers
        self._offline = offline

    def is_registered(self, broker: int, epoch: int) -> bool:
        """See View."""
        return self._brokers.is_registered(broker, epoch)

    def is_leaving(self, broker: int) -> bool:
        """See View: one whose replica is offline leads nothing that another can."""
        return broker in self._offline or self._brokers.is_leaving(broker)

    def may_lead(self, broker: int) -> bool:
        """See View."""
        return broker not in self._offline and self._brokers.may_lead(broker)

    def may_join(self, broker: int, epoch: int) -> bool:
        """See Candidates."""
        return broker not in self._offline and self._brokers.may_join(broker, epoch)

    def has_lost(self, broker: int, epoch: int | None) -> bool:
        """See View."""
        return self._brokers.has_lost(broker, epoch)

    def epoch_of(self, broker: int) -> int:
        """See View."""
        return self._brokers.epoch_of(broker)

    def ids(self) -> list[int]:
        """See Candidates."""
        return self._brokers.ids()
