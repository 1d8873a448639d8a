"""What a ConsumerGroupHeartbeat request has to be like, and in which epoch it may come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import FencedMemberEpochError, InvalidRequestError, UnsupportedAssignorError
from fastlog.state.consumer_group.member import JOIN_EPOCH, LEAVE_EPOCH, STATIC_LEAVE_EPOCH
from fastlog.state.consumer_group.subscription import compiled

if TYPE_CHECKING:
    from collections.abc import Collection

    from fastlog.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
    from fastlog.state.consumer_group.member import ConsumerMember
    from fastlog.state.records import Partition

# from this version on clients bring their own member ids
OWN_ID_FROM = 1


def check_heartbeat(request: ConsumerGroupHeartbeatRequest, version: int, assignors: Collection[str]) -> None:
    """Raises INVALID_REQUEST, UNSUPPORTED_ASSIGNOR or INVALID_REGULAR_EXPRESSION."""
    for name, text in (
        ("GroupId", request.group_id),
        ("InstanceId", request.instance_id),
        ("RackId", request.rack_id),
    ):
        if text is not None and not text.strip():
            raise InvalidRequestError(f"{name} can't be empty.")
    epoch = request.member_epoch
    if epoch < STATIC_LEAVE_EPOCH:
        raise InvalidRequestError("MemberEpoch is invalid.")
    if (version >= OWN_ID_FROM or epoch != JOIN_EPOCH) and not request.member_id:
        raise InvalidRequestError("MemberId can't be empty.")
    if epoch == STATIC_LEAVE_EPOCH and request.instance_id is None:
        raise InvalidRequestError("InstanceId can't be null.")
    if epoch == JOIN_EPOCH:
        _check_join(request)
    if request.server_assignor is not None and request.server_assignor not in assignors:
        raise UnsupportedAssignorError(
            f"ServerAssignor {request.server_assignor} is not supported. Supported assignors: "
            f"{', '.join(assignors)}."
        )
    if request.subscribed_topic_regex and epoch not in (LEAVE_EPOCH, STATIC_LEAVE_EPOCH):
        compiled(request.subscribed_topic_regex)


def _check_join(request: ConsumerGroupHeartbeatRequest) -> None:
    if request.rebalance_timeout_ms == -1:
        raise InvalidRequestError("RebalanceTimeoutMs must be provided in first request.")
    if request.topic_partitions is None or request.topic_partitions:
        raise InvalidRequestError("TopicPartitions must be empty when (re-)joining.")
    if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
        raise InvalidRequestError(
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining."
        )


def check_epoch(member: ConsumerMember, epoch: int, owned: Collection[Partition] | None) -> None:
    """FENCED_MEMBER_EPOCH unless the member comes in its epoch, joins (again), or may not have had the last answer."""
    # who was fenced has abandoned all that it had and joins with its old id (KAFKA-19233)
    if epoch in (member.epoch, JOIN_EPOCH):
        return
    if epoch < member.epoch:
        is_lost_answer = epoch == member.current.previous_epoch
        if is_lost_answer and owned is not None and member.current.assigned.keys() >= set(owned):
            return
    raise FencedMemberEpochError(
        f"The consumer group member has a {'smaller' if epoch < member.epoch else 'greater'} member epoch ({epoch}) "
        f"than the one known by the group coordinator ({member.epoch}). The member must abandon all its partitions and "
        "rejoin."
    )
