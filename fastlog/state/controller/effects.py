"""What a controller wants done. The effects of a step are carried out in their order; writes may be pipelined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fastlog.ports import PartitionKey, PartitionState, PartitionWrite, Registration, Topic, TopicId


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """The root of the effects."""


class Write(Effect, frozen=True, kw_only=True):
    """Write each state where the stored one still has `state.version`, all under the fence; then WriteEnded."""

    write_id: int
    items: tuple[PartitionWrite, ...]


class Read(Effect, frozen=True, kw_only=True):
    """Read what is stored now, with all that was written before; then ReadBack."""

    read_id: int
    keys: tuple[PartitionKey, ...]


class TopicWrite(Effect, frozen=True, kw_only=True):
    """The root of the writes that are answered with TopicWriteEnded. Each may be made twice."""

    write_id: int


class CreateTopic(TopicWrite, frozen=True, kw_only=True):
    """Add a topic with its settings, under the fence."""

    topic: Topic
    configs: Mapping[str, str]


class AddPartitions(TopicWrite, frozen=True, kw_only=True):
    """Add partitions behind the `expected_count` that are there; the answer has the topic."""

    topic_id: TopicId
    expected_count: int
    partitions: tuple[PartitionState, ...]


class DeleteTopic(TopicWrite, frozen=True, kw_only=True):
    """Take a topic away and note the deletion with the brokers that hold replicas."""

    topic_id: TopicId
    replicas: tuple[int, ...]


class ForgetDeletion(TopicWrite, frozen=True, kw_only=True):
    """Drop the note of a deletion: every replica is gone."""

    topic_id: TopicId


class StopReplicas(Effect, frozen=True, kw_only=True):
    """Tell a broker to put its replicas of a deleted topic away; its word for it is ReplicasStopped."""

    broker_id: int
    broker_epoch: int
    topic_id: TopicId
    name: str
    leader_epochs: Mapping[int, int]
    """By partition; a replica of a higher epoch is not touched (KIP-570). Empty where the epochs are not known any
    more: the topic's id, which is never given twice, is what protects a namesake."""


class AskLogEnds(Effect, frozen=True, kw_only=True):
    """Ask a broker where the logs of partitions without a leader end; then LogEndsTold."""

    broker_id: int
    broker_epoch: int
    keys: tuple[PartitionKey, ...]


class Publish(Effect, frozen=True, kw_only=True):
    """A delta for every broker: all of it is written. The first of a controller epoch asks for a snapshot."""

    controller_epoch: int
    sequence: int
    topics: tuple[Topic, ...] = ()
    """New topics, whole."""
    partitions: tuple[tuple[PartitionKey, PartitionState], ...] = ()
    """Changed and added partitions."""
    deleted: tuple[TopicId, ...] = ()
    brokers: tuple[Registration, ...] | None = None
    """All live brokers, where that has changed."""


class Item(msgspec.Struct, frozen=True):
    """What became of one partition of a request."""

    key: PartitionKey
    code: int = 0
    """Kafka's error code."""
    message: str = ""
    state: PartitionState | None = None
    """The partition as it is now, where there was no error."""


class Reply(Effect, frozen=True, kw_only=True):
    """The answer to a request; `code` is of the request as a whole."""

    token: Any
    code: int = 0
    message: str = ""
    items: tuple[Item, ...] = ()
    topic: Topic | None = None


class Resign(Effect, frozen=True, kw_only=True):
    """Another controller may be at work: drop all, and stand for election again."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot: what a subscriber has that took in every delta up to `sequence`."""

    controller_epoch: int
    sequence: int
    brokers: tuple[Registration, ...]
    topics: tuple[Topic, ...]
