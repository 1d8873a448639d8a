"""What the coordinator of groups knows of topics."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class TopicFacts(NamedTuple):
    """A topic that exists."""

    topic_id: bytes
    """16 bytes."""
    partition_count: int


class Topics(Protocol):
    """The topics that exist, by name and by id."""

    def find(self, name: str) -> TopicFacts | None:
        """The topic, if there is one of the name."""
        ...

    def name_of(self, topic_id: bytes) -> str | None:
        """The name of a topic, if there is one of the id."""
        ...

    def names(self) -> Iterable[str]:
        """Every topic's name."""
        ...
