"""What committed offsets are held to; the settings of the broker have the same names."""

from __future__ import annotations

import msgspec


class OffsetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and times of offsets."""

    metadata_bytes_max: int = 4_096
    retention_ms: int = 7 * 24 * 3_600_000
    """How long the offsets of a group are kept after it became empty, or after the commit: see `expiry`."""
