"""The cluster as this broker knows it: read from any thread, replaced by the worker of the replicas."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fastlog.broker.replicas.view import View
from fastlog.config import Config
from fastlog.errors import UnknownTopicIdError, UnknownTopicOrPartitionError
from fastlog.ports import ConfigResource, StoredConfigs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from fastlog.broker.replicas.view import Change
    from fastlog.config import TopicSettings
    from fastlog.ports import PartitionKey, PartitionState, Registration, Topic

    TopicsTold = Callable[[Sequence[Topic], Sequence[str]], None]

_NOTHING = StoredConfigs({}, 0)
_ALL_BROKERS = ConfigResource("broker", "")


class ClusterImage:
    """Topics, their settings and the live brokers. Who wants several facts of one moment takes `view` once."""

    def __init__(self, static: Config, node_id: int) -> None:
        self._static = static
        self._this_broker = ConfigResource("broker", str(node_id))
        self.own_resources = (_ALL_BROKERS, self._this_broker)
        """Whose settings are this broker's."""
        self._view = View()
        self._config = static
        self._topics_told: list[TopicsTold] = []
        self._settings_told: list[Callable[[str | None], None]] = []
        # held while listeners are told: none is told of a change twice, or of none
        self._telling = threading.RLock()
        self._changed = threading.Condition()

    # --- reading ---

    @property
    def view(self) -> View:
        """What is known now; it never changes."""
        return self._view

    @property
    def config(self) -> Config:
        """This broker's settings, by layer, without those of topics."""
        return self._config

    @property
    def brokers(self) -> Mapping[int, Registration]:
        """The live brokers that the controller published, by id."""
        return self._view.brokers

    @property
    def controller_id(self) -> int:
        """Who published what is known, -1 for none."""
        return self._view.controller_id

    @property
    def position(self) -> tuple[int, int]:
        """The controller's epoch, and the number of what it published last in that."""
        return self._view.controller_epoch, self._view.sequence

    def __contains__(self, name: str) -> bool:
        """Whether there is a topic `name`."""
        return name in self._view.by_name

    def named(self, name: str) -> Topic:
        """The topic `name`, or UnknownTopicOrPartitionError."""
        topic = self._view.by_name.get(name)
        if topic is None:
            raise UnknownTopicOrPartitionError(f"topic {name!r} does not exist")
        return topic

    def identified(self, topic_id: UUID) -> Topic:
        """The topic with the id, or UnknownTopicIdError."""
        topic = self._view.by_id.get(topic_id)
        if topic is None:
            raise UnknownTopicIdError(f"no topic has the id {topic_id}")
        return topic

    def state(self, key: PartitionKey) -> PartitionState | None:
        """A partition's state, None where there is none."""
        topic = self._view.by_id.get(key.topic_id)
        if topic is None or not 0 <= key.partition < len(topic.partitions):
            return None
        return topic.partitions[key.partition]

    @property
    def settings(self) -> Mapping[ConfigResource, StoredConfigs]:
        """Everything that is set, by resource."""
        return self._view.settings

    def stored(self, resource: ConfigResource) -> StoredConfigs:
        """What was set for `resource` itself."""
        return stored_in(self._view, resource)

    def topic_settings(self, name: str) -> TopicSettings:
        """The values in force for a topic, also for one that is not there."""
        return self._config.topic(self.stored(ConfigResource("topic", name)).values)

    def wait_until(self, reached: Callable[[View], bool], timeout_ms: int) -> bool:
        """Blocks until the view is as `reached` says, at most so long; whether it is. Not for the replicas' worker."""
        with self._changed:
            return self._changed.wait_for(lambda: reached(self._view), timeout_ms / 1000)

    # --- listening ---

    def subscribe(self, changed: TopicsTold) -> Callable[[], None]:
        """Has `changed` told of topics put and removed: of all that there are now first, on the caller's thread, and
        from then on by the replicas' worker, where it may not block. Returns what ends that.
        """
        with self._telling:
            changed(list(self._view.by_name.values()), ())
            self._topics_told.append(changed)
        return lambda: self._topics_told.remove(changed)

    def subscribe_settings(self, changed: Callable[[str | None], None]) -> Callable[[], None]:
        """Has `changed` called after settings changed: with the topic's name or None for a broker. As `subscribe`."""
        self._settings_told.append(changed)
        return lambda: self._settings_told.remove(changed)

    # --- of the worker ---

    def settings_in(self, view: View) -> tuple[Config, Callable[[str], TopicSettings]]:
        """The settings as a view that is to come has them."""
        config = Config(
            static=self._static.static,
            dynamic_default=stored_in(view, _ALL_BROKERS).values,
            dynamic_broker=stored_in(view, self._this_broker).values,
        )

        def of_topic(name: str) -> TopicSettings:
            return config.topic(stored_in(view, ConfigResource("topic", name)).values)

        return config, of_topic

    def topics_concerned(self, change: Change) -> list[str | None]:
        """Whose settings a change changes: topics by name, None for all by those of this broker."""
        topics: list[str | None] = [it.name for it in change.settings if it.kind == "topic"]
        return [None, *topics] if any(it in self.own_resources for it in change.settings) else topics

    def replace(self, change: Change) -> None:
        """Shows the next view, and tells who listens."""
        config, _ = self.settings_in(change.view)
        with self._telling:
            self._view, self._config = change.view, config
            for put, removed in steps(change):
                for tell in list(self._topics_told):
                    tell(put, removed)
            for topic in self.topics_concerned(change):
                for tell_settings in list(self._settings_told):
                    tell_settings(topic)
        with self._changed:
            self._changed.notify_all()


def stored_in(view: View, resource: ConfigResource) -> StoredConfigs:
    """What a view has set for a resource."""
    return view.settings.get(resource, _NOTHING)


def steps(change: Change) -> list[tuple[Sequence[Topic], Sequence[str]]]:
    """(put, removed) to be told one after the other: a topic made again under its name was gone in between."""
    names = {it.name for it in change.put}
    again = [it.name for it in change.gone if it.name in names]
    removed = [it.name for it in change.gone if it.name not in names]
    told: list[tuple[Sequence[Topic], Sequence[str]]] = []
    if again:
        told.append(((), again))
    if change.put or removed:
        told.append((change.put, removed))
    return told
