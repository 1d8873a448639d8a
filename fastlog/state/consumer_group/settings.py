"""What groups of the consumer protocol are held to; the settings of the broker have the same names."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec


class Migration(StrEnum):
    """Between which protocols a group with members may change."""

    DISABLED = "disabled"
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    BIDIRECTIONAL = "bidirectional"


class GroupTimes(msgspec.Struct, frozen=True):
    """How long a member may be silent, and how often it is to send heartbeats, in milliseconds."""

    session_timeout_ms: int
    heartbeat_interval_ms: int


class ConsumerGroupSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds and times of these groups."""

    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 5_000
    own_times: Callable[[str], GroupTimes | None] | None = None
    """The times of a group that has its own; called often."""
    max_size: int = 2**31 - 1
    assignors: tuple[str, ...] = ("uniform", "range")
    """The first is that of members who name none."""
    migration: Migration = Migration.BIDIRECTIONAL

    def times(self, group_id: str) -> GroupTimes:
        """The times of a group's members."""
        own = None if self.own_times is None else self.own_times(group_id)
        return own or GroupTimes(self.session_timeout_ms, self.heartbeat_interval_ms)

    @property
    def may_upgrade(self) -> bool:
        """Whether a classic group with members becomes one of these."""
        return self.migration in (Migration.UPGRADE, Migration.BIDIRECTIONAL)

    @property
    def may_downgrade(self) -> bool:
        """Whether one of these becomes a classic group."""
        return self.migration in (Migration.DOWNGRADE, Migration.BIDIRECTIONAL)
