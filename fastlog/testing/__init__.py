"""What tests and trials start: pytest's fixtures (`plugin`), a real ZooKeeper (`zookeeper`), a cluster (`Cluster`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastlog.testing.cluster import Cluster as Cluster

__all__ = ["Cluster"]


def __getattr__(name: str) -> Any:
    # the plugin is loaded in every session of pytest, where a cluster is rarely wanted
    if name != "Cluster":
        raise AttributeError(f"module 'fastlog.testing' has no attribute {name!r}")
    from fastlog.testing.cluster import Cluster

    return Cluster
