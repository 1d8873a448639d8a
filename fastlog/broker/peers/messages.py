"""The messages between brokers, as MessagePack: `[kind, fields]`.

A *command* is asked of one broker over its listener for brokers and answered once. A *notice* is published by the
controller to all. What the controller is told (`state/controller/events.py`) and what it has others do
(`state/controller/effects.py`) travel as they are, without a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from fastlog.errors import MalformedMessageError
from fastlog.ports import ConfigResource, PartitionKey, PartitionState, Registration, Topic
from fastlog.state.controller import effects, events


class SetConfigs(msgspec.Struct, frozen=True, kw_only=True):
    """Command to the controller: a resource's settings become `values`, where their version is `expected_version`."""

    resource: ConfigResource
    values: Mapping[str, str]
    expected_version: int


class AskSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Command to the controller: everything, please. Answered with a Snapshot."""


class AskRefused(msgspec.Struct, frozen=True, kw_only=True):
    """Command to any broker: do that broker's ports refuse you? Answered with Refused."""

    broker_id: int
    broker_epoch: int


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the last attempt to reach a broker, not long ago, was refused: nobody listens where it listened."""

    refused: bool


class AskVerified(msgspec.Struct, frozen=True, kw_only=True):
    """Command to a leader: what you sent of an offset has a wrong checksum; look at your disk. Answered at once."""

    topic_id: UUID
    partition: int
    offset: int


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a resource, as they are now; empty and version 0 for none."""

    resource: ConfigResource
    values: Mapping[str, str]
    version: int


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """Notice: what has changed. Sequences grow by one from notice to notice of a controller epoch, from 1."""

    controller_id: int
    controller_epoch: int
    sequence: int
    topics: tuple[Topic, ...] = ()
    """New topics, whole; their settings are in `settings`."""
    partitions: tuple[tuple[PartitionKey, PartitionState], ...] = ()
    """Changed and added partitions."""
    deleted: tuple[UUID, ...] = ()
    brokers: tuple[Registration, ...] | None = None
    """All live brokers, where that has changed."""
    settings: tuple[Settings, ...] = ()
    """Changed settings; those of a deleted topic go with it."""


class Beacon(msgspec.Struct, frozen=True, kw_only=True):
    """Notice, every 250 ms: how far this controller's deltas go."""

    controller_id: int
    controller_epoch: int
    sequence: int


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscriber has that took in every delta up to `sequence`."""

    controller_id: int
    controller_epoch: int
    sequence: int
    brokers: tuple[Registration, ...]
    topics: tuple[Topic, ...]
    settings: tuple[Settings, ...]
    unreadable: tuple[str, ...] = ()
    """Topics that are in no other field since their metadata is garbage: they are not served, and not deleted."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command."""

    code: int = 0
    """Kafka's error code of the whole; 13 (NETWORK_EXCEPTION) where the connection went, 7 where no answer came in
    time: its fate is unknown then."""
    message: str = ""
    body: Any = None
    """A message of this table, or None."""


KINDS: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        # commands to the controller
        AskSnapshot,
        SetConfigs,
        events.IsrAsked,
        events.ReplicasOffline,
        events.ShutdownAsked,
        events.Suspected,
        events.CreateAsked,
        events.GrowAsked,
        events.DeleteAsked,
        events.ReassignAsked,
        events.ElectAsked,
        # commands of the controller, and their answers
        effects.StopReplicas,
        effects.AskLogEnds,
        events.ReplicasStopped,
        events.LogEndsTold,
        # commands to any broker
        AskRefused,
        AskVerified,
        # other answers
        effects.Reply,
        Refused,
        Settings,
        Snapshot,
        # notices
        Delta,
        Beacon,
    )
}

_encoder = msgspec.msgpack.Encoder()
_envelope = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])
_decoders: Mapping[str, msgspec.msgpack.Decoder[Any]] = {
    name: msgspec.msgpack.Decoder(kind) for name, kind in KINDS.items()
}


def encode(message: object) -> bytes:
    """The bytes of a message of the table."""
    return _encoder.encode((type(message).__name__, message))


def decode(data: bytes | memoryview) -> Any:
    """The message; MalformedMessageError for what is none."""
    try:
        kind, fields = _envelope.decode(data)
        return _decoders[kind].decode(fields)
    except KeyError as error:
        raise MalformedMessageError(f"no message between brokers is called {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedMessageError(f"a message between brokers does not parse: {error}") from error
