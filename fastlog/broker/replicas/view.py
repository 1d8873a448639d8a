"""The cluster's metadata at one moment, and how a notice changes it. Nothing here changes in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from fastlog.broker.peers.messages import Delta
from fastlog.ports import ConfigResource, PartitionKey, PartitionState, Registration, StoredConfigs, Topic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastlog.broker.peers.messages import Settings, Snapshot


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What was published up to a position."""

    controller_id: int = -1
    """Who published it, -1 before anything was."""
    controller_epoch: int = -1
    sequence: int = -1
    by_name: Mapping[str, Topic] = {}
    by_id: Mapping[UUID, Topic] = {}
    brokers: Mapping[int, Registration] = {}
    """The live brokers by id."""
    settings: Mapping[ConfigResource, StoredConfigs] = {}
    unreadable: frozenset[str] = frozenset()
    """Topics of which nothing is known since their metadata is garbage; they are not gone."""

    def broker_epochs(self) -> dict[int, int]:
        """The broker epoch of each live broker."""
        return {it.broker_id: it.broker_epoch for it in self.brokers.values()}

    def led_by(self, broker_id: int) -> set[PartitionKey]:
        """The partitions that a broker leads."""
        return {
            PartitionKey(topic.topic_id, index)
            for topic in self.by_id.values()
            for index, state in enumerate(topic.partitions)
            if state.leader == broker_id
        }


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The next view, and how it differs."""

    view: View
    put: tuple[Topic, ...] = ()
    """New and changed topics."""
    gone: tuple[Topic, ...] = ()
    """Topics that are there no more, as they were."""
    states: tuple[tuple[PartitionKey, PartitionState], ...] = ()
    """New and changed partitions."""
    brokers_changed: bool = False
    settings: tuple[ConfigResource, ...] = ()
    """The resources whose settings are others now; not those of topics that are gone."""


def after(view: View, notice: Delta | Snapshot) -> Change:
    """The view with what a controller told."""
    return after_delta(view, notice) if isinstance(notice, Delta) else after_snapshot(view, notice)


def after_delta(view: View, delta: Delta) -> Change:
    """The view with a delta; states that are not newer than the known ones are passed over."""
    by_id = dict(view.by_id)
    gone = [by_id.pop(it) for it in delta.deleted if it in by_id]
    put: dict[UUID, Topic] = {}
    states: list[tuple[PartitionKey, PartitionState]] = []
    for topic in delta.topics:
        if topic.topic_id not in by_id:
            by_id[topic.topic_id] = put[topic.topic_id] = topic
            states.extend(_states_of(topic))
    partitions: dict[UUID, dict[int, PartitionState]] = {}
    for key, state in delta.partitions:
        partitions.setdefault(key.topic_id, {})[key.partition] = state
    for topic_id, changed in partitions.items():
        known = by_id.get(topic_id)
        if known is None:
            continue
        topic, newer = _with_states(known, changed)
        if newer:
            by_id[topic_id] = put[topic_id] = topic
            states.extend(newer)
    settings = _without(view.settings, gone)
    changed_settings = _take(settings, delta.settings)
    brokers = view.brokers if delta.brokers is None else {it.broker_id: it for it in delta.brokers}
    return Change(
        view=_view(delta, by_id, brokers, settings, view.unreadable),
        put=tuple(put.values()),
        gone=tuple(gone),
        states=tuple(states),
        brokers_changed=brokers != view.brokers,
        settings=changed_settings,
    )


def after_snapshot(view: View, snapshot: Snapshot) -> Change:
    """The view that a snapshot shows. A partition keeps a state that is newer than the snapshot's."""
    by_id: dict[UUID, Topic] = {}
    put: list[Topic] = []
    states: list[tuple[PartitionKey, PartitionState]] = []
    for told in snapshot.topics:
        known = view.by_id.get(told.topic_id)
        topic, newer = (told, _states_of(told)) if known is None else _with_states(known, _numbered(told))
        by_id[told.topic_id] = topic
        if known is None or newer:
            put.append(topic)
            states.extend(newer)
    gone = [it for topic_id, it in view.by_id.items() if topic_id not in by_id]
    settings: dict[ConfigResource, StoredConfigs] = {}
    _take(settings, snapshot.settings)
    resources = settings.keys() | _without(view.settings, gone).keys()
    changed = (it for it in resources if settings.get(it) != view.settings.get(it))
    brokers = {it.broker_id: it for it in snapshot.brokers}
    return Change(
        view=_view(snapshot, by_id, brokers, settings, frozenset(snapshot.unreadable)),
        put=tuple(put),
        gone=tuple(gone),
        states=tuple(states),
        brokers_changed=brokers != view.brokers,
        settings=tuple(sorted(changed, key=lambda it: (it.kind, it.name))),
    )


def _view(
    notice: Delta | Snapshot,
    by_id: Mapping[UUID, Topic],
    brokers: Mapping[int, Registration],
    settings: Mapping[ConfigResource, StoredConfigs],
    unreadable: frozenset[str],
) -> View:
    return View(
        controller_id=notice.controller_id,
        controller_epoch=notice.controller_epoch,
        sequence=notice.sequence,
        by_name={it.name: it for it in by_id.values()},
        by_id=by_id,
        brokers=brokers,
        settings=settings,
        unreadable=unreadable,
    )


def _numbered(topic: Topic) -> dict[int, PartitionState]:
    return dict(enumerate(topic.partitions))


def _states_of(topic: Topic) -> list[tuple[PartitionKey, PartitionState]]:
    return [(PartitionKey(topic.topic_id, index), it) for index, it in enumerate(topic.partitions)]


def _with_states(
    topic: Topic, changed: Mapping[int, PartitionState]
) -> tuple[Topic, list[tuple[PartitionKey, PartitionState]]]:
    """The topic with those of `changed` that are newer, or new, and which these are."""
    partitions = list(topic.partitions)
    newer: list[tuple[PartitionKey, PartitionState]] = []
    for index, state in sorted(changed.items()):
        if index == len(partitions):
            partitions.append(state)
        elif index > len(partitions) or state.version <= partitions[index].version:
            continue
        else:
            partitions[index] = state
        newer.append((PartitionKey(topic.topic_id, index), state))
    if not newer:
        return topic, []
    return Topic(name=topic.name, topic_id=topic.topic_id, partitions=tuple(partitions)), newer


def _without(
    settings: Mapping[ConfigResource, StoredConfigs], gone: Iterable[Topic]
) -> dict[ConfigResource, StoredConfigs]:
    dropped = {ConfigResource("topic", it.name) for it in gone}
    return {resource: it for resource, it in settings.items() if resource not in dropped}


def _take(
    settings: dict[ConfigResource, StoredConfigs], told: Iterable[Settings]
) -> tuple[ConfigResource, ...]:
    """Puts what was told into `settings`; which resources that changes."""
    changed: dict[ConfigResource, None] = {}
    for it in told:
        stored = StoredConfigs(dict(it.values), it.version)
        if settings.get(it.resource, StoredConfigs({}, 0)) == stored:
            continue
        if it.version == 0 and not it.values:
            settings.pop(it.resource, None)
        else:
            settings[it.resource] = stored
        changed[it.resource] = None
    return tuple(changed)
