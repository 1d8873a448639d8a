"""What groups are held to; the settings of the broker have the same names."""

from __future__ import annotations

import msgspec


class GroupSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds and times of groups."""

    min_session_timeout_ms: int = 6_000
    max_session_timeout_ms: int = 1_800_000
    initial_rebalance_delay_ms: int = 3_000
    """How long the first rebalance of an empty group waits for more members; it begins anew with each that comes."""
    max_size: int = 2**31 - 1
    """Members of one group, and member ids given out that have not joined yet."""
    memory_bytes_max: int = 2**62
    """What all groups and offsets of a broker may hold in memory, about: see `fastlog.state.memory`."""
    new_member_join_timeout_ms: int = 300_000
    """Kafka's constant: a member that has just joined cannot heartbeat while it waits, and is taken for lost then."""
