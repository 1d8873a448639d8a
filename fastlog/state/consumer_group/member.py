"""One member of a group of the consumer protocol. Kafka's ConsumerGroupMember."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from fastlog.state.memory import MEMBER_BYTES, PROTOCOL_BYTES
from fastlog.state.records import ConsumerMemberValue, CurrentValue

JOIN_EPOCH, LEAVE_EPOCH, STATIC_LEAVE_EPOCH = 0, -1, -2
# a pair of a topic's id and a number, in a set or a dictionary
PARTITION_BYTES = 100


class MemberState(IntEnum):
    """How far a member is on its way to its target."""

    STABLE = 0
    UNREVOKED_PARTITIONS = 1
    """It has to let go of some first."""
    UNRELEASED_PARTITIONS = 2
    """It waits for some that others have not let go of."""


SAID_NOTHING = ConsumerMemberValue(None, None, "", "", (), "", -1, None)
HAS_NOTHING = CurrentValue(JOIN_EPOCH, -1, MemberState.STABLE, {}, {})


class ConsumerMember(msgspec.Struct, frozen=True):
    """A member: what it says of itself, and what it has."""

    member_id: str
    said: ConsumerMemberValue = SAID_NOTHING
    current: CurrentValue = HAS_NOTHING

    @property
    def epoch(self) -> int:
        """Its epoch; a static member that is away for a while has -2."""
        return self.current.epoch

    @property
    def is_classic(self) -> bool:
        """Whether it speaks the classic protocol."""
        return self.said.classic is not None

    def is_reconciled_to(self, target_epoch: int) -> bool:
        """Whether it has arrived at the target of that epoch."""
        return self.current.state == MemberState.STABLE and self.epoch == target_epoch

    def weight(self) -> int:
        """What it holds in memory, about."""
        said, current = self.said, self.current
        held = MEMBER_BYTES + sum(len(topic) for topic in said.topics) + len(said.regex or "")
        if said.classic is not None:
            held += sum(PROTOCOL_BYTES + len(name) + len(raw) for name, raw in said.classic.protocols)
        return held + PARTITION_BYTES * (len(current.assigned) + len(current.revoking))
