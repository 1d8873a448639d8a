"""What a controller is told. `token` is the way back to who asked: it comes back in `Reply`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from fastlog.ports import (
    Deletion,
    PartitionKey,
    PartitionState,
    Registration,
    Topic,
    TopicId,
    Unknown,
    WriteResult,
)
from fastlog.state.controller.settings import TopicFacts


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The root of the events."""


class Elected(Event, frozen=True, kw_only=True):
    """This broker is the controller, and all was loaded after it won."""

    controller_epoch: int
    topics: tuple[Topic, ...]
    registrations: tuple[Registration, ...]
    facts: Mapping[TopicId, TopicFacts] = {}
    """By topic id; a topic without has the defaults."""
    deletions: tuple[Deletion, ...] = ()
    taken_names: tuple[str, ...] = ()
    """Names of topics whose metadata is garbage: not served, and not given to another topic."""


class Fenced(Event, frozen=True, kw_only=True):
    """A write met another controller's epoch, or the session is over: nothing of ours takes effect any more."""


class BrokersChanged(Event, frozen=True, kw_only=True):
    """Who is registered now. A broker that went and came back in between has another broker epoch."""

    registrations: tuple[Registration, ...]


class FactsChanged(Event, frozen=True, kw_only=True):
    """A topic's settings were changed."""

    topic_id: TopicId
    facts: TopicFacts


class Tick(Event, frozen=True, kw_only=True):
    """Time has passed; wanted at least every half second."""


class Proposed(msgspec.Struct, frozen=True):
    """The in-sync replicas that a leader proposes for one partition."""

    key: PartitionKey
    leader_epoch: int
    partition_epoch: int
    isr: tuple[int, ...]
    isr_epochs: tuple[int, ...]
    """The broker epoch of each member as the leader knows it."""


class IsrAsked(Event, frozen=True, kw_only=True):
    """AlterPartition, from a leader. Answered with an Item each, in order."""

    token: Any
    broker_id: int
    broker_epoch: int
    proposals: tuple[Proposed, ...]


class ReplicasOffline(Event, frozen=True, kw_only=True):
    """The replicas of a broker whose disks failed, all of them; none where all are well again. Answered at once."""

    token: Any
    broker_id: int
    broker_epoch: int
    keys: tuple[PartitionKey, ...]


class ShutdownAsked(Event, frozen=True, kw_only=True):
    """ControlledShutdown: answered with an Item for each partition that the broker still leads, once nothing moves."""

    token: Any
    broker_id: int
    broker_epoch: int


class Suspected(Event, frozen=True, kw_only=True):
    """What a live broker met when it connected to another: `refused`, or no longer."""

    by: int
    by_epoch: int
    of: int
    of_epoch: int
    refused: bool


class LogEnd(msgspec.Struct, frozen=True):
    """Where a replica's log ends."""

    key: PartitionKey
    last_epoch: int
    """The leader epoch of its last record, -1 for none."""
    log_end_offset: int
    log_start_offset: int = 0
    """What is below was deleted, and committed before."""


class LogEndsTold(Event, frozen=True, kw_only=True):
    """The answer to AskLogEnds."""

    broker_id: int
    broker_epoch: int
    ends: tuple[LogEnd, ...]


class CreateAsked(Event, frozen=True, kw_only=True):
    """Create a topic whose name and settings were found valid, defaults put in. Answered with the Topic."""

    token: Any
    name: str
    topic_id: TopicId
    """Freshly drawn."""
    partition_count: int = -1
    replication_factor: int = -1
    """Both are -1 where replicas are assigned, and only there."""
    assignments: Mapping[int, tuple[int, ...]] = {}
    """Replicas by partition."""
    configs: Mapping[str, str] = {}
    facts: TopicFacts = TopicFacts()
    validate_only: bool = False


class GrowAsked(Event, frozen=True, kw_only=True):
    """Give a topic `count` partitions in all. Answered with the Topic as it then is."""

    token: Any
    topic_id: TopicId
    count: int
    assignments: tuple[tuple[int, ...], ...] | None = None
    validate_only: bool = False


class DeleteAsked(Event, frozen=True, kw_only=True):
    """Delete a topic. Answered when it is marked; the replicas go afterwards."""

    token: Any
    topic_id: TopicId


class ReplicasStopped(Event, frozen=True, kw_only=True):
    """A broker has put away all its replicas of a deleted topic."""

    broker_id: int
    broker_epoch: int
    topic_id: TopicId


class ReassignAsked(Event, frozen=True, kw_only=True):
    """New replicas for partitions, or None to cancel what is going on. Answered with an Item each, in order."""

    token: Any
    targets: tuple[tuple[PartitionKey, tuple[int, ...] | None], ...]


class ElectAsked(Event, frozen=True, kw_only=True):
    """ElectLeaders; None is every partition, and then those that need none are left out of the answer."""

    token: Any
    kind: Literal["preferred", "unclean"]
    keys: tuple[PartitionKey, ...] | None


class WriteEnded(Event, frozen=True, kw_only=True):
    """What became of a Write, in the order of its items."""

    write_id: int
    results: tuple[WriteResult, ...]


class ReadBack(Event, frozen=True, kw_only=True):
    """What is stored now, in the order in which it was asked; None for a partition that is not there, Unknown for one
    of which garbage is stored."""

    read_id: int
    states: tuple[PartitionState | Unknown | None, ...] | None
    """None where the store could not be read."""


class TopicWriteEnded(Event, frozen=True, kw_only=True):
    """What became of a CreateTopic, AddPartitions, DeleteTopic or ForgetDeletion."""

    write_id: int
    outcome: Literal["done", "refused", "unknown"]
    """`refused`: another topic has the name or id, the count is another, or the topic is not there."""
    topic: Topic | None = None
    """AddPartitions: the topic as it is stored now, whatever the outcome; None where it is not there or not known."""
