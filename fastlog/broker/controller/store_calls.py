"""The controller's effects on the store, as calls that block, and what came of them, as events.

No call raises anything but FencedError. What got no answer is unknown, also where garbage was met on the way: the
controller reads again and compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.errors import (
    InvalidUpdateVersionError,
    KafkaError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from fastlog.events import EventLog
from fastlog.ports import (
    AlreadyExistsError,
    FencedError,
    NotFoundError,
    StoreError,
    Unknown,
    VersionConflictError,
)
from fastlog.state.controller import events as ev
from fastlog.state.controller.effects import (
    AddPartitions,
    CreateTopic,
    DeleteTopic,
    ForgetDeletion,
    Read,
    TopicWrite,
    Write,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlog.broker.peers.messages import SetConfigs
    from fastlog.ports import ConfigResource, MetadataStore, StoredConfigs, Topic

_log = EventLog("controller")


def write(store: MetadataStore, effects: Sequence[Write]) -> list[ev.Event]:
    """Several writes at once, pipelined by the store; no partition is in two of them."""
    try:
        results = store.update_partitions([item for effect in effects for item in effect.items])
    except FencedError:
        raise
    except StoreError as error:
        _log.warning("partition states not written", reason=str(error))
        results = [Unknown(str(error))] * sum(len(effect.items) for effect in effects)
    ended: list[ev.Event] = []
    for effect in effects:
        own, results = results[: len(effect.items)], results[len(effect.items) :]
        ended.append(ev.WriteEnded(write_id=effect.write_id, results=tuple(own)))
    return ended


def read(store: MetadataStore, effect: Read) -> ev.Event:
    """What is stored now."""
    try:
        states = store.read_partitions(effect.keys)
    except FencedError:
        raise
    except StoreError as error:
        _log.warning("partition states not read", reason=str(error))
        return ev.ReadBack(read_id=effect.read_id, states=None)
    garbage = [it.reason for it in states if isinstance(it, Unknown)]
    if garbage:
        _log.error(
            "partition states cannot be read, it is tried again", count=len(garbage), reason=garbage[0]
        )
    return ev.ReadBack(read_id=effect.read_id, states=tuple(states))


def write_topic(store: MetadataStore, effect: TopicWrite) -> ev.TopicWriteEnded:
    """What became of a topic's creation, growth or end."""
    try:
        return ev.TopicWriteEnded(write_id=effect.write_id, outcome="done", topic=_write(store, effect))
    except FencedError:
        raise
    except (AlreadyExistsError, NotFoundError, VersionConflictError):
        return _refused(store, effect)
    except StoreError as error:
        return _unknown(effect, error)


def _refused(store: MetadataStore, effect: TopicWrite) -> ev.TopicWriteEnded:
    if not isinstance(effect, AddPartitions):
        return ev.TopicWriteEnded(write_id=effect.write_id, outcome="refused")
    # perhaps an earlier try took effect: the controller compares
    try:
        topic = next((it for it in store.snapshot().topics if it.topic_id == effect.topic_id), None)
    except StoreError as error:
        return _unknown(effect, error)
    return ev.TopicWriteEnded(write_id=effect.write_id, outcome="refused", topic=topic)


def _unknown(effect: TopicWrite, error: StoreError) -> ev.TopicWriteEnded:
    _log.warning("topic not written", change=type(effect).__name__, reason=str(error))
    return ev.TopicWriteEnded(write_id=effect.write_id, outcome="unknown")


def _write(store: MetadataStore, effect: TopicWrite) -> Topic | None:
    if isinstance(effect, AddPartitions):
        return store.add_partitions(effect.topic_id, effect.expected_count, effect.partitions)
    if isinstance(effect, CreateTopic):
        store.create_topic(effect.topic, effect.configs)
    elif isinstance(effect, DeleteTopic):
        store.delete_topic(effect.topic_id)
    elif isinstance(effect, ForgetDeletion):
        store.forget_deletion(effect.topic_id)
    else:
        raise NotImplementedError(type(effect).__name__)
    return None


class ConfigsWritten(msgspec.Struct, frozen=True):
    """What became of a SetConfigs: the new version, or the answer that it got."""

    version: int = 0
    error: KafkaError | None = None
    is_uncertain: bool = False
    """Whether it may have taken effect nevertheless."""


def write_configs(store: MetadataStore, command: SetConfigs) -> ConfigsWritten:
    """Replaces the settings of a resource."""
    try:
        return ConfigsWritten(
            version=store.put_configs(command.resource, command.values, command.expected_version)
        )
    except FencedError:
        raise
    except VersionConflictError as error:
        return ConfigsWritten(error=InvalidUpdateVersionError(str(error)))
    except NotFoundError as error:
        return ConfigsWritten(error=UnknownTopicOrPartitionError(str(error)))
    except StoreError as error:
        _log.warning("settings not written", resource=command.resource.name, reason=str(error))
        return ConfigsWritten(error=RequestTimedOutError(str(error)), is_uncertain=True)


def read_configs(store: MetadataStore) -> Mapping[ConfigResource, StoredConfigs] | None:
    """All settings as they are stored now; None where they cannot be read."""
    try:
        return store.snapshot().configs
    except FencedError:
        raise
    except StoreError:
        return None
