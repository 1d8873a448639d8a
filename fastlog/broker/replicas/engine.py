"""What the replicas ask of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fastlog.broker.data_plane import DataPlane, ReplicationPlane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.ports import Topic


class ReplicaEngine(DataPlane, ReplicationPlane, Protocol):
    """Logs and roles, and the image that clients are answered from."""

    def publish_topics(self, put: Sequence[Topic], removed: Sequence[str]) -> None:
        """Replaces topics by name and takes others away, all at once."""
        ...

    def resign(self) -> int:
        """Leads nothing any more: every partition led here is followed, without a leader, in its epoch; how many."""
        ...

    def set_isr(
        self,
        topic: str,
        index: int,
        leader_epoch: int,
        committed: Sequence[int],
        maximal: Sequence[int],
        partition_epoch: int,
        held: bool = False,
    ) -> None:
        """As of ReplicationPlane; `held` has the high watermark stand still though the set is large enough."""
        ...

    def delete_partitions(self, topic: str, topic_id: bytes, partitions: Sequence[tuple[int, int]]) -> int:
        """Closes replicas, (partition, leader epoch) each, and renames their directories for a later purge.

        One of a higher epoch is left alone (KIP-570). Answers how many directories there were.
        """
        ...
