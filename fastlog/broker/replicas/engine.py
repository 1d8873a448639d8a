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
