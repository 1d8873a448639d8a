"""The requests of a member, and of whoever commits and asks for offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.client.committed_offset import CommittedOffset
from fastlog.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest, TopicPartitions
from fastlog.protocol.messages.find_coordinator import FindCoordinatorRequest
from fastlog.protocol.messages.heartbeat import HeartbeatRequest
from fastlog.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from fastlog.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from fastlog.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from fastlog.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from fastlog.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from fastlog.state.assignors import PROTOCOL_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from fastlog.client.group.effects import Identity
    from fastlog.state.assignors import Partition

#: what Kafka cuts a reason to
REASON_LENGTH_MAX = 255
GROUP_KEY = 0


def find_coordinator(group_id: str) -> FindCoordinatorRequest:
    """Who coordinates a group; old versions ask for one key, new ones for several."""
    return FindCoordinatorRequest(key=group_id, key_type=GROUP_KEY, coordinator_keys=[group_id])


def join_group(
    group_id: str,
    identity: Identity,
    *,
    session_timeout_ms: int,
    rebalance_timeout_ms: int,
    protocols: Mapping[str, bytes],
    reason: str,
) -> JoinGroupRequest:
    """A member's wish to be in the next generation."""
    return JoinGroupRequest(
        group_id=group_id,
        session_timeout_ms=session_timeout_ms,
        rebalance_timeout_ms=rebalance_timeout_ms,
        member_id=identity.member_id,
        group_instance_id=identity.instance_id,
        protocol_type=PROTOCOL_TYPE,
        protocols=[
            JoinGroupRequestProtocol(name=name, metadata=metadata) for name, metadata in protocols.items()
        ],
        reason=reason[:REASON_LENGTH_MAX],
    )


def sync_group(
    group_id: str, identity: Identity, protocol: str, assignments: Mapping[str, bytes]
) -> SyncGroupRequest:
    """A follower asks for its assignment; the leader brings all."""
    return SyncGroupRequest(
        group_id=group_id,
        generation_id=identity.generation,
        member_id=identity.member_id,
        group_instance_id=identity.instance_id,
        protocol_type=PROTOCOL_TYPE,
        protocol_name=protocol,
        assignments=[
            SyncGroupRequestAssignment(member_id=member, assignment=assignment)
            for member, assignment in assignments.items()
        ],
    )


def heartbeat(group_id: str, identity: Identity) -> HeartbeatRequest:
    """A sign of life."""
    return HeartbeatRequest(
        group_id=group_id,
        generation_id=identity.generation,
        member_id=identity.member_id,
        group_instance_id=identity.instance_id,
    )


def leave_group(group_id: str, identity: Identity, reason: str) -> LeaveGroupRequest:
    """A farewell."""
    member = MemberIdentity(
        member_id=identity.member_id,
        group_instance_id=identity.instance_id,
        reason=reason[:REASON_LENGTH_MAX],
    )
    return LeaveGroupRequest(group_id=group_id, member_id=identity.member_id, members=[member])


def consumer_group_heartbeat(
    group_id: str,
    identity: Identity,
    *,
    topics: Iterable[str] | None = None,
    regex: str | None = None,
    owned: Mapping[bytes, list[int]] | None = None,
    rebalance_timeout_ms: int | None = None,
    rack: str = "",
    assignor: str | None = None,
) -> ConsumerGroupHeartbeatRequest:
    """A sign of life of the consumer protocol, a join in epoch 0, a farewell in a negative one (KIP-848).

    What is None has not changed since the last one; `owned` are partitions by topic id. An empty `regex` takes back the
    one before.
    """
    return ConsumerGroupHeartbeatRequest(
        group_id=group_id,
        member_id=identity.member_id,
        member_epoch=identity.generation,
        instance_id=identity.instance_id,
        rack_id=rack or None,
        rebalance_timeout_ms=-1 if rebalance_timeout_ms is None else rebalance_timeout_ms,
        subscribed_topic_names=None if topics is None else sorted(topics),
        subscribed_topic_regex=regex,
        server_assignor=assignor,
        topic_partitions=None
        if owned is None
        else [TopicPartitions(topic_id=topic_id, partitions=numbers) for topic_id, numbers in owned.items()],
    )


def offset_commit(
    group_id: str, identity: Identity, offsets: Mapping[Partition, CommittedOffset]
) -> OffsetCommitRequest:
    """Positions to be kept; generation -1 is no member's, which the coordinator takes while the group is empty."""
    topics: dict[str, list[OffsetCommitRequestPartition]] = {}
    for (topic, number), committed in offsets.items():
        partition = OffsetCommitRequestPartition(
            partition_index=number,
            committed_offset=committed.offset,
            committed_leader_epoch=committed.leader_epoch,
            committed_metadata=committed.metadata,
        )
        topics.setdefault(topic, []).append(partition)
    return OffsetCommitRequest(
        group_id=group_id,
        generation_id_or_member_epoch=identity.generation,
        member_id=identity.member_id,
        group_instance_id=identity.instance_id,
        topics=[OffsetCommitRequestTopic(name=name, partitions=found) for name, found in topics.items()],
    )


def offset_fetch(group_id: str, partitions: Iterable[Partition] | None) -> OffsetFetchRequest:
    """Asks for committed positions, of all partitions where None. An open transaction is waited for, not read past."""
    topics: dict[str, list[int]] | None = None if partitions is None else {}
    for topic, number in partitions or ():
        if topics is not None:
            topics.setdefault(topic, []).append(number)
    old = new = None
    if topics is not None:
        old = [OffsetFetchRequestTopic(name=name, partition_indexes=found) for name, found in topics.items()]
        new = [OffsetFetchRequestTopics(name=name, partition_indexes=found) for name, found in topics.items()]
    return OffsetFetchRequest(
        group_id=group_id,
        topics=old,
        groups=[OffsetFetchRequestGroup(group_id=group_id, topics=new)],
        require_stable=True,
    )


def committed_offsets(response: Any) -> Iterator[tuple[Partition, int, CommittedOffset]]:
    """The entries of an OffsetFetch response of any version, with their error codes; offset -1 is none."""
    topics = response.groups[0].topics if response.groups else response.topics
    for topic in topics:
        for found in topic.partitions:
            committed = CommittedOffset(
                found.committed_offset, found.metadata or "", found.committed_leader_epoch
            )
            yield (topic.name, found.partition_index), found.error_code, committed


def group_error(response: Any) -> int:
    """The error code of a whole OffsetFetch or FindCoordinator response of any version."""
    entries = getattr(response, "groups", None) or getattr(response, "coordinators", None)
    return int((entries[0] if entries else response).error_code)
