"""What a consumer says when it joins: the one place where the coordinator looks into a member's metadata.

Every version of the consumer protocol begins as version 0 does: int16 version, array of topic names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import MalformedMessageError
from fastlog.state.records.primitives import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable


def subscribed_topics(metadata: Iterable[bytes]) -> frozenset[str] | None:
    """The topics of all subscriptions; None where one cannot be read."""
    topics: set[str] = set()
    # members of one application say the same
    for raw in set(metadata):
        reader = Reader(raw)
        try:
            reader.int16()
            topics.update(reader.text() for _ in range(reader.count()))
        except MalformedMessageError:
            return None
    return frozenset(topics)
