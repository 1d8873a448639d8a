"""Who reads which partition: the client-side assignors of Kafka's classic group protocol.

A group's leader gives an assignor all members' subscriptions and gets each member's partitions. Answers are those of
Kafka's own assignors of the same names, without regard to racks, down to the choice between equals: leaders of a mixed
group may change without moving a partition.
"""

from __future__ import annotations

from types import MappingProxyType

from fastlog.state.assignors.assignor import Assignor, Counts
from fastlog.state.assignors.consumer_protocol import (
    PROTOCOL_TYPE,
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from fastlog.state.assignors.order import Partition
from fastlog.state.assignors.plain import RangeAssignor, RoundRobinAssignor
from fastlog.state.assignors.sticky import CooperativeStickyAssignor, StickyAssignor

#: by the name that members agree on
ASSIGNORS = MappingProxyType(
    {
        assignor.name: assignor
        for assignor in (RangeAssignor(), RoundRobinAssignor(), StickyAssignor(), CooperativeStickyAssignor())
    }
)

__all__ = [
    "ASSIGNORS",
    "PROTOCOL_TYPE",
    "Assignor",
    "Counts",
    "Partition",
    "Subscription",
    "decode_assignment",
    "decode_subscription",
    "encode_assignment",
    "encode_subscription",
]
