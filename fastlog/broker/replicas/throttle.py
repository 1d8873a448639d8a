"""Replication that is throttled (KIP-73): the rates of this broker, and whom a follower does not ask for now.

The engine counts what passes, and a leader holds back by itself; see rust/broker/src/throttle.rs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.broker.configs import Configs
    from fastlog.broker.data_plane import ReplicationPlane
    from fastlog.ports import PartitionKey

#: how long a follower that asks its leader for nothing else waits until it looks again
PAUSE_MS = 50


class Throttle:
    """The partitions that a follower does not ask for now. Of one thread."""

    def __init__(self, engine: ReplicationPlane, now_ms: Callable[[], int]) -> None:
        """`now_ms` is a monotonic clock."""
        self._engine = engine
        self._now_ms = now_ms
        self._held_back: frozenset[tuple[bytes, int]] = frozenset()

    def look(self) -> None:
        """Asks the engine once for the next fetch."""
        self._held_back = frozenset(self._engine.held_back())

    def holds_back(self, key: PartitionKey) -> bool:
        """Whether a partition is left out of the next fetch."""
        # nearly always there is none
        return bool(self._held_back) and (key.topic_id.bytes, key.partition) in self._held_back

    def next_ms(self, other_ms: int | None) -> int | None:
        """When to look again, at `other_ms` the latest; None where there is no reason to."""
        if not self._held_back:
            return other_ms
        soon = self._now_ms() + PAUSE_MS
        return soon if other_ms is None else min(other_ms, soon)


class ReplicationRates:
    """Gives the engine the broker's rates, and again after each change."""

    def __init__(self, engine: ReplicationPlane, configs: Configs) -> None:
        self._engine = engine
        self._configs = configs

    def apply(self, topic: str | None = None) -> None:
        """To be called with the topic whose settings changed, None for the broker's."""
        if topic is None:
            settings = self._configs.config.broker()
            self._engine.set_replication_rates(
                settings.leader_replication_throttled_rate, settings.follower_replication_throttled_rate
            )
