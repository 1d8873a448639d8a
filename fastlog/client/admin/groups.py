"""Groups and their offsets: what `fastlog.Admin` can do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fastlog.client.admin.leaders import by_topic
from fastlog.client.admin.results import (
    GroupDescription,
    GroupListing,
    GroupOffset,
    MemberDescription,
    OffsetReset,
)
from fastlog.client.committed_offset import CommittedOffset
from fastlog.client.group import requests
from fastlog.client.group.asking import commit_codes, fetch_codes
from fastlog.client.group.effects import Identity
from fastlog.errors import (
    ConfigError,
    GroupIdNotFoundError,
    MalformedMessageError,
    OffsetOutOfRangeError,
    UnsupportedVersionError,
    error_for,
)
from fastlog.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from fastlog.protocol.messages.delete_groups import DeleteGroupsRequest
from fastlog.protocol.messages.describe_groups import DescribeGroupsRequest
from fastlog.protocol.messages.list_groups import ListGroupsRequest
from fastlog.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from fastlog.state.assignors import PROTOCOL_TYPE, decode_assignment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastlog.client.admin.coordinators import CoordinatorRequests
    from fastlog.client.admin.leaders import TopicPartition
    from fastlog.client.admin.results import OffsetResult, OffsetSpec
    from fastlog.client.metadata import Metadata

DEAD = "Dead"
HINTS = {
    25: "it has members, which would go on from their own positions; stop them first",
    68: "it has members; stop them first",
    69: "there is no such group, or it is of another kind; `list_groups` names them all",
    86: "its members read that topic now; stop them first",
}


class GroupAdmin:
    """The part of Admin that is about groups."""

    _metadata: Metadata
    _coordinators: CoordinatorRequests
    _timeout_ms: float

    if TYPE_CHECKING:

        def list_offsets(
            self, specs: Mapping[TopicPartition, OffsetSpec]
        ) -> dict[TopicPartition, OffsetResult]:
            """See Admin, whose it is."""

    def list_groups(self, *, states: Iterable[str] = (), types: Iterable[str] = ()) -> list[GroupListing]:
        """All groups by name, or those in one of `states` and of one of `types` ("classic", "consumer", …).

        Every broker is asked, since each knows those that it coordinates.
        """
        image = self._metadata.refresh([], timeout_ms=self._timeout_ms)
        request = ListGroupsRequest(states_filter=list(states), types_filter=list(types))
        found: dict[str, GroupListing] = {}
        for _, broker in sorted(image.brokers.items()):
            address = (broker.host, broker.port)
            response = self._coordinators.ask_broker(
                address,
                request,
                lambda answer: int(answer.error_code),
                self._timeout_ms,
                what="listing groups",
            )
            for group in response.groups:
                found[group.group_id] = GroupListing(
                    group.group_id, group.protocol_type, group.group_state, group.group_type
                )
        return [found[name] for name in sorted(found)]

    def describe_groups(self, group_ids: str | Iterable[str]) -> list[GroupDescription]:
        """Members, their partitions, the group's positions and its lag. Raises GroupIdNotFoundError."""
        names = [group_ids] if isinstance(group_ids, str) else list(group_ids)
        return [self._describe_group(name) for name in names]

    def list_group_offsets(
        self, group_id: str, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, CommittedOffset]:
        """The positions that a group keeps, of `partitions` or of all; without those that have none."""
        response = self._ask_group(
            group_id,
            requests.offset_fetch(group_id, partitions),
            lambda answer: first_code(fetch_codes(answer)),
            "reading the positions of",
        )
        return {
            partition: committed
            for partition, _, committed in requests.committed_offsets(response)
            if committed.offset >= 0
        }

    def alter_group_offsets(
        self, group_id: str, offsets: Mapping[TopicPartition, int | CommittedOffset]
    ) -> None:
        """Sets positions of a group that has no members; raises UnknownMemberIdError where it has some."""
        chosen = {
            partition: CommittedOffset(offset) if isinstance(offset, int) else offset
            for partition, offset in offsets.items()
        }
        self._ask_group(
            group_id,
            requests.offset_commit(group_id, Identity(), chosen),
            lambda answer: first_code(commit_codes(answer)),
            "setting positions of",
        )

    def reset_group_offsets(
        self,
        group_id: str,
        *,
        to: Literal["earliest", "latest"] | None = None,
        offset: int | None = None,
        timestamp_ms: int | None = None,
        topics: Iterable[str] = (),
        partitions: Iterable[TopicPartition] = (),
        dry_run: bool = False,
    ) -> list[OffsetReset]:
        """Moves a group without members to one end, to an offset, or to the first record of at least a time.

        Moved are `partitions`, all partitions of `topics`, or without either all that the group has positions for.
        Where no record is as young as `timestamp_ms`, that is the end. `dry_run` only tells what would be done. Raises
        OffsetOutOfRangeError, changing nothing, where a partition does not have `offset`.
        """
        if sum(choice is not None for choice in (to, offset, timestamp_ms)) != 1:
            raise ConfigError("say where to: give one of to=, offset= and timestamp_ms=")
        chosen = list(dict.fromkeys([*partitions, *self._partitions_of(topics)]))
        before = self.list_group_offsets(group_id, chosen or None)
        chosen = sorted(chosen or before)
        after = self._positions_at(chosen, to=to, offset=offset, timestamp_ms=timestamp_ms)
        if after and not dry_run:
            self.alter_group_offsets(group_id, after)
        return [
            OffsetReset(*one, before[one].offset if one in before else None, after[one]) for one in chosen
        ]

    def delete_groups(self, group_ids: str | Iterable[str]) -> None:
        """Deletes groups without members, with their positions. Raises NonEmptyGroupError, GroupIdNotFoundError."""
        for name in [group_ids] if isinstance(group_ids, str) else group_ids:
            self._ask_group(
                name,
                DeleteGroupsRequest(groups_names=[name]),
                lambda answer: first_code(result.error_code for result in answer.results),
                "deleting",
            )

    def delete_group_offsets(self, group_id: str, partitions: Iterable[TopicPartition]) -> None:
        """Forgets the positions of `partitions`; raises GroupSubscribedToTopicError where they are being read."""
        topics = [
            OffsetDeleteRequestTopic(
                name=topic, partitions=[OffsetDeleteRequestPartition(partition_index=one) for one in numbers]
            )
            for topic, numbers in by_topic(partitions).items()
        ]
        self._ask_group(
            group_id,
            OffsetDeleteRequest(group_id=group_id, topics=topics),
            lambda answer: first_code([answer.error_code, *commit_codes(answer)]),
            "forgetting positions of",
        )

    # -- inside ----------------------------------------------------------------------------------------------------

    def _ask_group(self, group_id: str, request: Any, code_of: Any, doing: str) -> Any:
        return self._coordinators.ask(
            group_id, request, code_of, self._timeout_ms, what=f"{doing} group {group_id!r}", hints=HINTS
        )

    def _describe_group(self, group_id: str) -> GroupDescription:
        try:
            group = self._ask_describe(DescribeGroupsRequest(groups=[group_id]), group_id)
            kind, protocol = group.protocol_type, group.protocol_data
            members = tuple(member_description(one, kind) for one in group.members)
        except GroupIdNotFoundError as absent:
            # it may be one whose partitions the coordinator assigns (KIP-848)
            try:
                group = self._ask_describe(ConsumerGroupDescribeRequest(group_ids=[group_id]), group_id)
            except (GroupIdNotFoundError, UnsupportedVersionError):
                raise absent from None
            kind, protocol = PROTOCOL_TYPE, group.assignor_name
            members = tuple(new_member_description(one) for one in group.members)
        owners = {partition: one for one in members for partition in one.assignment}
        committed = self.list_group_offsets(group_id)
        return GroupDescription(
            group.group_id,
            group.group_state,
            kind,
            protocol,
            members,
            tuple(self._group_offsets(sorted({*owners, *committed}), committed, owners)),
        )

    def _ask_describe(self, request: Any, group_id: str) -> Any:
        response = self._ask_group(
            group_id,
            request,
            lambda answer: first_code(group.error_code for group in answer.groups),
            "describing",
        )
        (group,) = response.groups
        if group.group_state == DEAD:
            raise GroupIdNotFoundError(f"describing group {group_id!r}: {HINTS[GroupIdNotFoundError.code]}")
        return group

    def _group_offsets(
        self,
        partitions: Sequence[TopicPartition],
        committed: Mapping[TopicPartition, CommittedOffset],
        owners: Mapping[TopicPartition, MemberDescription],
    ) -> list[GroupOffset]:
        ends = self._ends(partitions)
        found = []
        for one in partitions:
            offset = committed[one].offset if one in committed else None
            end = ends.get(one)
            lag = None if end is None or offset is None else max(0, end - offset)
            found.append(
                GroupOffset(*one, offset, end, lag, owners[one].member_id if one in owners else None)
            )
        return found

    def _ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The ends of those that exist and have a leader: a group may keep positions of a topic that is gone."""
        image = self._metadata.refresh(by_topic(partitions), timeout_ms=self._timeout_ms)
        led = [one for one in partitions if image.leader(*one) >= 0]
        found = self.list_offsets(dict.fromkeys(led, "latest"))
        return {one: result.offset for one, result in found.items()}

    def _partitions_of(self, topics: Iterable[str]) -> list[TopicPartition]:
        names = list(topics)
        if not names:
            return []
        image = self._metadata.refresh(names, timeout_ms=self._timeout_ms)
        found = []
        for name in names:
            topic = image.topics.get(name)
            if topic is None or topic.error_code:
                raise error_for(
                    topic.error_code if topic is not None else 3, f"topic {name!r} is not in the cluster"
                )
            found += [(name, partition.index) for partition in topic.partitions]
        return found

    def _positions_at(
        self,
        partitions: Sequence[TopicPartition],
        *,
        to: Literal["earliest", "latest"] | None,
        offset: int | None,
        timestamp_ms: int | None,
    ) -> dict[TopicPartition, int]:
        if to not in (None, "earliest", "latest"):
            raise ConfigError(f"to is {to!r}; it must be 'earliest' or 'latest'")
        if to is not None:
            found = self.list_offsets(dict.fromkeys(partitions, to))
            return {one: result.offset for one, result in found.items()}
        ends = {
            one: result.offset
            for one, result in self.list_offsets(dict.fromkeys(partitions, "latest")).items()
        }
        if timestamp_ms is not None:
            found = self.list_offsets(dict.fromkeys(partitions, timestamp_ms))
            return {one: result.offset if result.offset >= 0 else ends[one] for one, result in found.items()}
        firsts = self.list_offsets(dict.fromkeys(partitions, "earliest"))
        wanted = offset or 0
        for topic, number in partitions:
            first, end = firsts[topic, number].offset, ends[topic, number]
            if not first <= wanted <= end:
                raise OffsetOutOfRangeError(
                    f"moving to offset {wanted} of {topic}-{number}: its first record is {first}, its next will be "
                    f"{end}; nothing was changed"
                )
        return dict.fromkeys(partitions, wanted)


def first_code(codes: Iterable[int]) -> int:
    """The first that is an error, else 0."""
    return next((code for code in codes if code), 0)


def member_description(member: Any, protocol_type: str) -> MemberDescription:
    """A member of a DescribeGroups response; another kind of group has assignments that only its members read."""
    assignment: Sequence[TopicPartition] = ()
    if protocol_type == PROTOCOL_TYPE:
        try:
            assignment = decode_assignment(member.member_assignment)
        except MalformedMessageError:
            # a broken client is no reason to show nothing of the others
            assignment = ()
    return MemberDescription(
        member.member_id,
        member.group_instance_id,
        member.client_id,
        member.client_host.removeprefix("/"),
        tuple(sorted(assignment)),
    )


def new_member_description(member: Any) -> MemberDescription:
    """A member of a ConsumerGroupDescribe response."""
    assignment = [
        (topic.topic_name, number)
        for topic in member.assignment.topic_partitions
        for number in topic.partitions
    ]
    return MemberDescription(
        member.member_id,
        member.instance_id,
        member.client_id,
        member.client_host.removeprefix("/"),
        tuple(sorted(assignment)),
    )
