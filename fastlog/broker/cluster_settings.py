"""From a broker's settings to those of the parts that a cluster needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.replicas.settings import ReplicaSettings
from fastlog.state.controller.settings import ControllerSettings

if TYPE_CHECKING:
    from fastlog.config import BrokerSettings


def replica_settings(settings: BrokerSettings) -> ReplicaSettings:
    """How replicas are kept."""
    return ReplicaSettings(
        lag_ms=settings.replica_lag_time_max_ms,
        fetch_wait_ms=settings.replica_fetch_wait_max_ms,
        fetch_min_bytes=settings.replica_fetch_min_bytes,
        fetch_bytes_max=settings.replica_fetch_max_bytes,
        response_bytes_max=settings.replica_fetch_response_max_bytes,
        backoff_ms=settings.replica_fetch_backoff_ms,
    )


def controller_settings(settings: BrokerSettings) -> ControllerSettings:
    """How the controller balances leaders."""
    return ControllerSettings(
        auto_leader_rebalance=settings.auto_leader_rebalance_enable,
        imbalance_check_ms=settings.leader_imbalance_check_interval_seconds * 1_000,
        imbalance_percent=settings.leader_imbalance_per_broker_percentage,
    )
