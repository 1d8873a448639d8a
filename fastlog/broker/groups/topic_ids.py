"""Topics of requests about offsets that are named by their ids (OffsetCommit and OffsetFetch 10, KIP-848)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID

import msgspec

from fastlog.errors import UnknownTopicIdError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.broker.ports import Topics

IDS_FROM = 10


class ByNameOrId(Protocol):
    """A topic in a request or an answer."""

    name: str
    topic_id: bytes


Named = TypeVar("Named", bound=ByNameOrId)


def with_names(topics: Topics, asked: Sequence[Named]) -> tuple[list[Named], list[Named], dict[str, bytes]]:
    """The topics with their names filled in, those whose id is not known, and the ids of the former by name."""
    known: list[Named] = []
    unknown: list[Named] = []
    ids: dict[str, bytes] = {}
    for topic in asked:
        try:
            name = topics.identified(UUID(bytes=bytes(topic.topic_id))).name
        except UnknownTopicIdError:
            unknown.append(topic)
            continue
        ids[name] = topic.topic_id
        known.append(msgspec.structs.replace(topic, name=name))  # type: ignore[type-var]
    return known, unknown, ids
