"""What `fastlog.Admin` returns."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fastlog.errors import ConfigError

if TYPE_CHECKING:
    from fastlog.client.metadata import BrokerAddress
    from fastlog.errors import KafkaError

TOPIC_ID_BYTES = 16

#: where to look for an offset: by name, or the first record at or after a timestamp in milliseconds
OffsetSpec = Literal["earliest", "latest", "max-timestamp"] | int

#: Kafka's ConfigSource
CONFIG_SOURCES = {
    1: "topic",
    2: "broker",
    3: "cluster",
    4: "static",
    5: "default",
    6: "broker-logger",
    7: "client-metrics",
    8: "group",
}


@dataclass(frozen=True, slots=True)
class TopicListing:
    """One line of a list of topics."""

    name: str
    topic_id: str
    partition_count: int
    is_internal: bool


@dataclass(frozen=True, slots=True)
class PartitionDescription:
    """One partition; `leader` is -1 where there is none."""

    partition: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    offline_replicas: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """One topic with its partitions, in order.

    `durability` is the topic's `fastlog.durability`, which says what an acknowledgement promises: "os" or "fsync".
    None where the broker does not tell: Kafka has no such setting.
    """

    name: str
    topic_id: str
    is_internal: bool
    partitions: tuple[PartitionDescription, ...]
    durability: str | None


@dataclass(frozen=True, slots=True)
class CreatedTopic:
    """What a broker has made of a request for a topic; counts are -1 where an old broker does not tell."""

    name: str
    topic_id: str
    partition_count: int
    replication_factor: int


@dataclass(frozen=True, slots=True)
class Reassignment:
    """A partition that moves: `adding` get its records, `removing` put them away when the others have them."""

    replicas: tuple[int, ...]
    adding: tuple[int, ...]
    removing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """One setting in force; `value` is None where it is secret or unset, `source` says who has set it."""

    name: str
    value: str | None
    source: str
    is_read_only: bool
    is_sensitive: bool


@dataclass(frozen=True, slots=True)
class OffsetResult:
    """An offset that was asked for; -1 where no record matches. `timestamp_ms` is -1 where it does not apply."""

    offset: int
    timestamp_ms: int
    leader_epoch: int


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    """The cluster's brokers, by id."""

    cluster_id: str
    controller_id: int
    brokers: tuple[BrokerAddress, ...]


@dataclass(frozen=True, slots=True)
class GroupListing:
    """One line of a list of groups. State and type are empty where an old broker does not tell."""

    group_id: str
    protocol_type: str
    state: str
    group_type: str


@dataclass(frozen=True, slots=True)
class MemberDescription:
    """One member of a group; `assignment` is empty for groups that are not of consumers."""

    member_id: str
    group_instance_id: str | None
    client_id: str
    host: str
    assignment: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class GroupOffset:
    """Where a group stands in a partition: the next offset to be read, and how far that is from the end.

    None stands for what is not known: no position, a topic that is gone, no member.
    """

    topic: str
    partition: int
    committed: int | None
    log_end_offset: int | None
    lag: int | None
    member_id: str | None


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """One group: its members, and every partition that it reads or has a position for."""

    group_id: str
    state: str
    protocol_type: str
    protocol: str
    members: tuple[MemberDescription, ...]
    offsets: tuple[GroupOffset, ...]

    @property
    def lag(self) -> int:
        """Over all partitions whose lag is known."""
        return sum(one.lag or 0 for one in self.offsets)


@dataclass(frozen=True, slots=True)
class OffsetReset:
    """A position before and after; None before where there was none."""

    topic: str
    partition: int
    before: int | None
    after: int


def topic_id_text(topic_id: bytes) -> str:
    """A topic id as Kafka's tools print it; empty where there is none."""
    return base64.urlsafe_b64encode(topic_id).decode().rstrip("=") if any(topic_id) else ""


def topic_id_bytes(text: str) -> bytes:
    """The topic id that `topic_id_text` shows so; raises ConfigError where `text` is none."""
    try:
        topic_id = base64.b64decode(f"{text}==", altchars=b"-_", validate=True)
    except ValueError:
        topic_id = b""
    if len(topic_id) != TOPIC_ID_BYTES or not any(topic_id):
        raise ConfigError(
            f"{text!r} is not a topic id: that is 22 letters, digits, - and _, as a topic's description shows it"
        )
    return topic_id


@dataclass(frozen=True, slots=True)
class DirectoryReplica:
    """A replica in a data directory."""

    topic: str
    partition: int
    size_bytes: int
    #: how many offsets a copy lacks; of others how many are not below the high watermark, where the broker tells
    offset_lag: int
    #: it is a copy that is to take the replica's place
    is_future: bool


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """A data directory of a broker, as that calls it."""

    path: str
    #: why it cannot be used
    error: KafkaError | None
    #: of its file system; -1 where the broker is too old to tell
    total_bytes: int
    usable_bytes: int
    replicas: tuple[DirectoryReplica, ...]
