"""What the znodes hold: JSON, checked when it is read, so that garbage is named instead of believed."""

from __future__ import annotations

from typing import Literal, TypeVar
from uuid import UUID

import msgspec

from fastlog.cluster.zookeeper.fields import (
    BrokerEpoch,
    BrokerId,
    Count,
    Epoch,
    Index,
    Leader,
    Port,
    ProducerId,
    Text,
)
from fastlog.ports import CorruptStoreError, PartitionState, StoreError
from fastlog.state.topic_names import why_invalid

#: of the whole tree; in the znode of the cluster's id
FORMAT = 1
# ZooKeeper drops the connection of whoever sends more than jute.maxbuffer, 1 MiB by default; a transaction may hold the
# states of a hundred partitions beside their topic
VALUE_BYTES_MAX = 900_000
#: in `isr`, for a member that was admitted without a cluster around it
NO_BROKER_EPOCH = -1

T = TypeVar("T")


class ClusterZnode(msgspec.Struct, frozen=True, kw_only=True):
    """`/cluster/id`."""

    id: Text
    format: Count


class BrokerZnode(msgspec.Struct, frozen=True, kw_only=True):
    """`/brokers/ids/<id>`; the znode's czxid is the broker epoch."""

    endpoints: dict[Text, tuple[Text, Port]]
    incarnation: UUID
    clean_start: bool
    rack: Text | None = None


class ControllerZnode(msgspec.Struct, frozen=True, kw_only=True):
    """`/controller`."""

    broker: BrokerId
    broker_epoch: BrokerEpoch


class ControllerEpochZnode(msgspec.Struct, frozen=True, kw_only=True):
    """`/controller_epoch`; the znode's version is the fencing token."""

    epoch: Epoch


class TopicZnode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`/brokers/topics/<T>`."""

    topic_id: UUID
    partitions: dict[Index, tuple[BrokerId, ...]]
    adding: dict[Index, tuple[BrokerId, ...]] = {}
    removing: dict[Index, tuple[BrokerId, ...]] = {}
    unfinished: Literal["making", "removing"] | None = None
    """Set while the topic needs more than one transaction; nobody is told of such a topic."""


class TopicIdZnode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`/brokers/topic_ids/<id>`."""

    topic: str
    deleted: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for a name that no topic has."""
        _check_name(self.topic)


class PartitionZnode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`/brokers/topics/<T>/partitions/<p>`; the znode's version is the partition epoch."""

    leader: Leader
    leader_epoch: Epoch
    isr: tuple[tuple[BrokerId, BrokerEpoch], ...]
    elr: tuple[BrokerId, ...]
    last_known_elr: tuple[BrokerId, ...] = ()
    recovering: bool
    controller_epoch: Epoch


class DeletionZnode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`/admin/delete_topics/<id>`."""

    topic: str
    partitions: Count
    replicas: tuple[BrokerId, ...] = ()
    """The brokers that held some, sorted."""

    def __post_init__(self) -> None:
        """Raises ValueError for a name that no topic has: it becomes the name of a directory that is removed."""
        _check_name(self.topic)


class ConfigZnode(msgspec.Struct, frozen=True, kw_only=True):
    """`/config/topics/<T>`, `/config/brokers/<id or default>`."""

    config: dict[str, str]


class ProducerIdsZnode(msgspec.Struct, frozen=True, kw_only=True):
    """`/producer_ids`."""

    next: ProducerId


def _check_name(topic: str) -> None:
    if wrong := why_invalid(topic):
        raise ValueError(wrong)


def encode(znode: msgspec.Struct, path: str) -> bytes:
    """A znode's value; raises StoreError where ZooKeeper would not take it."""
    data = msgspec.json.encode(znode)
    if len(data) > VALUE_BYTES_MAX:
        raise StoreError(
            f"{path} would hold {len(data)} bytes, more than the {VALUE_BYTES_MAX} that ZooKeeper takes: "
            "fewer partitions in one topic, or fewer settings"
        )
    return data


def decode(data: bytes, kind: type[T], path: str) -> T:
    """The reverse; raises CorruptStoreError naming the path."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # the last for arrays in arrays in arrays
        raise CorruptStoreError(
            f"the znode {path} holds garbage ({error}): restore it, or remove what it describes by hand"
        ) from error


def decode_topic(data: bytes, path: str) -> TopicZnode:
    """A topic's znode, its partitions numbered from 0 without a gap."""
    if wrong := why_invalid(path.rpartition("/")[2]):
        raise CorruptStoreError(f"the znode {path} is no topic's ({wrong}): remove it by hand")
    znode = decode(data, TopicZnode, path)
    if not znode.topic_id.int:
        raise CorruptStoreError(f"the znode {path} has the topic id of no topic, {znode.topic_id}")
    count = len(znode.partitions)
    if set(znode.partitions) != set(range(count)) or not set(znode.adding) | set(znode.removing) <= set(
        range(count)
    ):
        raise CorruptStoreError(f"the znode {path} does not number its partitions from 0 without a gap")
    if any(not replicas or len(set(replicas)) < len(replicas) for replicas in znode.partitions.values()):
        raise CorruptStoreError(f"the znode {path} has a partition without replicas, or with one twice")
    return znode


def from_state(state: PartitionState, controller_epoch: int, path: str) -> bytes:
    """The value of a partition's znode."""
    epochs = state.isr_epochs or (NO_BROKER_EPOCH,) * len(state.isr)
    wrong = what_is_wrong(state)
    if wrong or len(epochs) != len(state.isr):
        raise StoreError(f"{path} is not written: {wrong or 'isr and isr_epochs differ in length'}")
    return encode(
        PartitionZnode(
            leader=state.leader,
            leader_epoch=state.leader_epoch,
            isr=tuple(zip(state.isr, epochs, strict=True)),
            elr=state.elr,
            last_known_elr=state.last_known_elr,
            recovering=state.recovering,
            controller_epoch=controller_epoch,
        ),
        path,
    )


def to_state(data: bytes, version: int, topic: TopicZnode, partition: int, path: str) -> PartitionState:
    """A partition's state from its own znode and its topic's; raises CorruptStoreError."""
    znode = decode(data, PartitionZnode, path)
    epochs = tuple(epoch for _, epoch in znode.isr)
    state = PartitionState(
        replicas=topic.partitions[partition],
        leader=znode.leader,
        leader_epoch=znode.leader_epoch,
        isr=tuple(member for member, _ in znode.isr),
        isr_epochs=() if all(epoch == NO_BROKER_EPOCH for epoch in epochs) else epochs,
        elr=znode.elr,
        last_known_elr=znode.last_known_elr,
        recovering=znode.recovering,
        adding=topic.adding.get(partition, ()),
        removing=topic.removing.get(partition, ()),
        version=version,
    )
    wrong = what_is_wrong(state)
    if wrong:
        raise CorruptStoreError(f"the znode {path} cannot be: {wrong}")
    return state


def what_is_wrong(state: PartitionState) -> str:
    """What no partition can be, or nothing."""
    replicas, isr, elr = set(state.replicas), set(state.isr), set(state.elr)
    lists = (state.replicas, state.isr, state.elr, state.last_known_elr, state.adding, state.removing)
    if any(len(set(each)) < len(each) for each in lists):
        return "a replica is named twice"
    others = {*state.last_known_elr, *state.adding, *state.removing}
    if not (isr | elr | others) <= replicas:
        return (
            f"isr {state.isr}, elr {state.elr} or what else it names are not of the replicas {state.replicas}"
        )
    if state.leader != -1 and state.leader not in isr:
        return f"its leader {state.leader} is not in its isr {state.isr}"
    if state.leader_epoch < 0:
        return f"its leader epoch is {state.leader_epoch}"
    return ""


def with_assignment(topic: TopicZnode, states: dict[int, PartitionState]) -> TopicZnode:
    """The topic with the replicas of `states` in the place of its own."""

    def merged(
        old: dict[int, tuple[int, ...]], new: dict[int, tuple[int, ...]]
    ) -> dict[int, tuple[int, ...]]:
        return {index: ids for index, ids in sorted((old | new).items()) if ids}

    return msgspec.structs.replace(
        topic,
        partitions=merged(topic.partitions, {index: state.replicas for index, state in states.items()}),
        adding=merged(topic.adding, {index: state.adding for index, state in states.items()}),
        removing=merged(topic.removing, {index: state.removing for index, state in states.items()}),
    )
