"""All settings of the cluster as the controller knows them, and what follows from them for elections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.peers.messages import Settings
from fastlog.config import Config
from fastlog.ports import ConfigResource, StoredConfigs
from fastlog.state.controller.settings import TopicFacts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from fastlog.broker.controller.ports import Facts
    from fastlog.ports import Topic

ALL_BROKERS = ConfigResource("broker", "")
#: of a topic's settings as they are made with it
FIRST_VERSION = 1
MIN_ISR = "min.insync.replicas"
UNCLEAN = "unclean.leader.election.enable"
_NOTHING = StoredConfigs({}, 0)


def facts_from(static: Mapping[str, str]) -> Facts:
    """Facts with the settings of this broker's start, `static`, below those of the cluster.

    What is stored and cannot be is passed over, as it is by all brokers: they say so in their logs.
    """

    def facts(all_brokers: Mapping[str, str], topic: Mapping[str, str]) -> TopicFacts:
        config = Config(static=static, dynamic_default=all_brokers)
        min_isr, unclean = config.topic_value(MIN_ISR, topic), config.topic_value(UNCLEAN, topic)
        return TopicFacts(min_isr=min_isr if isinstance(min_isr, int) else 1, unclean=unclean is True)

    return facts


class SettingsBook:
    """Settings by resource. Topics are known by name, and only those that are there."""

    def __init__(
        self, facts: Facts, stored: Mapping[ConfigResource, StoredConfigs], topics: Mapping[UUID, str]
    ) -> None:
        self._facts = facts
        self._stored = dict(stored)
        self._names = dict(topics)
        self._making: dict[UUID, Mapping[str, str]] = {}

    def stored(self, resource: ConfigResource) -> StoredConfigs:
        """What is set for a resource; nothing at version 0 where that is nothing."""
        return self._stored.get(resource, _NOTHING)

    def settings(self, resource: ConfigResource) -> Settings:
        """As `stored`, as it is told to others."""
        stored = self.stored(resource)
        return Settings(resource=resource, values=stored.values, version=stored.version)

    def knows(self, resource: ConfigResource) -> bool:
        """Whether there is what the settings would belong to."""
        return resource.kind != "topic" or resource in self._stored

    def all(self) -> tuple[Settings, ...]:
        """Every resource that has settings, or had some."""
        return tuple(self.settings(it) for it in sorted(self._stored, key=lambda it: (it.kind, it.name)))

    def put(self, resource: ConfigResource, values: Mapping[str, str], version: int) -> Settings | None:
        """Takes in what was written; what is to be told of it, None where that is known already."""
        fresh = StoredConfigs(dict(values), version)
        if fresh == self.stored(resource):
            return None
        self._stored[resource] = fresh
        return self.settings(resource)

    # --- topics ---

    def making(self, topic_id: UUID, values: Mapping[str, str]) -> None:
        """A topic is on its way to the store with these settings."""
        self._making[topic_id] = dict(values)

    def created(self, topic: Topic) -> Settings:
        """A topic is there; its settings."""
        self._names[topic.topic_id] = topic.name
        resource = ConfigResource("topic", topic.name)
        self._stored[resource] = StoredConfigs(self._making.pop(topic.topic_id, {}), FIRST_VERSION)
        return self.settings(resource)

    def deleted(self, topic_id: UUID) -> None:
        """A topic is gone, and its settings with it."""
        name = self._names.pop(topic_id, None)
        if name is not None:
            self._stored.pop(ConfigResource("topic", name), None)

    # --- facts ---

    def facts(self, values: Mapping[str, str]) -> TopicFacts:
        """Those of a topic that sets `values`."""
        return self._facts(self.stored(ALL_BROKERS).values, values)

    def facts_of(self, topic_id: UUID) -> TopicFacts:
        """Those of a topic that is there."""
        return self.facts(self.stored(ConfigResource("topic", self._names[topic_id])).values)

    def concerned(self, resource: ConfigResource) -> list[UUID]:
        """The topics whose facts may follow from a resource's settings."""
        if resource == ALL_BROKERS:
            return sorted(self._names)
        if resource.kind != "topic":
            return []
        return [it for it, name in self._names.items() if name == resource.name]
