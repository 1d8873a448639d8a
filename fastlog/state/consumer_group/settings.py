"""What groups of the consumer protocol are held to; the settings of the broker have the same names."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Migration(StrEnum):
    """Between which protocols a group with members may change."""

    DISABLED = "disabled"
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    BIDIRECTIONAL = "bidirectional"


class ConsumerGroupSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds and times of these groups."""

    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 5_000
    max_size: int = 2**31 - 1
    assignors: tuple[str, ...] = ("uniform", "range")
    """The first is that of members who name none."""
    migration: Migration = Migration.BIDIRECTIONAL

    @property
    def may_upgrade(self) -> bool:
        """Whether a classic group with members becomes one of these."""
        return self.migration in (Migration.UPGRADE, Migration.BIDIRECTIONAL)

    @property
    def may_downgrade(self) -> bool:
        """Whether one of these becomes a classic group."""
        return self.migration in (Migration.DOWNGRADE, Migration.BIDIRECTIONAL)
