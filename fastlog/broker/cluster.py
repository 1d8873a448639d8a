"""A broker of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import ConfigError

if TYPE_CHECKING:
    from fastlog.broker.node import Foundation, Node


def ClusterNode(foundation: Foundation) -> Node:  # noqa: N802  # the class comes with the rest
    """Refuses, until the parts are there."""
    raise ConfigError(
        f"zookeeper.connect={foundation.settings.zookeeper_connect}: clusters are not there yet"
    )
