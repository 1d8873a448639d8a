"""The topics that exist, as the coordinator of groups was told on its own thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state.topic_names import OFFSETS_TOPIC
from fastlog.state.topics import TopicFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastlog.ports import Topic


class KnownTopics:
    """See `fastlog.state.topics.Topics`; internal topics match no pattern, so they are not among the names."""

    def __init__(self) -> None:
        self._facts: dict[str, TopicFacts] = {}
        self._names: dict[bytes, str] = {}

    def tell(self, put: Sequence[Topic], removed: Sequence[str]) -> set[str]:
        """Takes in what has changed; the names of topics that came, went, were made anew or got partitions."""
        changed = set()
        for name in removed:
            facts = self._facts.pop(name, None)
            if facts is not None:
                self._names.pop(facts.topic_id, None)
                changed.add(name)
        for topic in put:
            facts, before = TopicFacts(topic.topic_id.bytes, len(topic.partitions)), self.find(topic.name)
            if facts == before:
                continue
            if before is not None:
                self._names.pop(before.topic_id, None)
            self._facts[topic.name] = facts
            self._names[facts.topic_id] = topic.name
            changed.add(topic.name)
        return changed

    def find(self, name: str) -> TopicFacts | None:
        """The topic, if there is one of the name."""
        return self._facts.get(name)

    def name_of(self, topic_id: bytes) -> str | None:
        """The name of a topic, if there is one of the id."""
        return self._names.get(topic_id)

    def names(self) -> Iterable[str]:
        """Every topic's name but those of internal ones."""
        return (name for name in self._facts if name != OFFSETS_TOPIC)
