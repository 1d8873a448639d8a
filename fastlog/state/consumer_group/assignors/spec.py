"""What an assignor is given, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fastlog.state.records import Partition

Counts = Mapping[bytes, int]
"""The number of partitions of each topic that exists, by its id."""
Targets = dict[str, frozenset[Partition]]
"""The partitions of each member."""


class MemberSpec(msgspec.Struct, frozen=True):
    """A member as an assignor sees it."""

    topic_ids: frozenset[bytes]
    """The topics that it wants and that exist."""
    assigned: frozenset[Partition]
    """Its target until now."""
    instance_id: str | None = None


Members = Mapping[str, MemberSpec]
"""By id, in the order in which they joined."""
