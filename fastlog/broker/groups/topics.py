"""The topics that exist, as the coordinator of groups was told on its own thread."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from fastlog.state.topic_names import OFFSETS_TOPIC
from fastlog.state.topics import TopicFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastlog.ports import Topic


class KnownTopics:
    """See `fastlog.state.topics.Topics`; internal topics match no pattern, so they are not among the names."""

    def __init__(self) -> None:
        # what the topics' directory has, and nothing more: there may be very many
        self._topics: dict[str, Topic] = {}
        self._names: dict[UUID, str] = {}

    def tell(self, put: Sequence[Topic], removed: Sequence[str]) -> set[str]:
        """Takes in what has changed; the names of topics that came, went, were made anew or got partitions."""
        changed = set()
        for name in removed:
            topic = self._topics.pop(name, None)
            if topic is not None:
                self._names.pop(topic.topic_id, None)
                changed.add(name)
        for topic in put:
            before = self._topics.get(topic.name)
            self._topics[topic.name] = topic
            if before is not None and _facts(before) == _facts(topic):
                continue
            if before is not None:
                self._names.pop(before.topic_id, None)
            self._names[topic.topic_id] = topic.name
            changed.add(topic.name)
        return changed

    def find(self, name: str) -> TopicFacts | None:
        """The topic, if there is one of the name."""
        topic = self._topics.get(name)
        return None if topic is None else _facts(topic)

    def name_of(self, topic_id: bytes) -> str | None:
        """The name of a topic, if there is one of the id."""
        return self._names.get(UUID(bytes=topic_id))

    def names(self) -> Iterable[str]:
        """Every topic's name but those of internal ones."""
        return (name for name in self._topics if name != OFFSETS_TOPIC)


def _facts(topic: Topic) -> TopicFacts:
    return TopicFacts(topic.topic_id.bytes, len(topic.partitions))
