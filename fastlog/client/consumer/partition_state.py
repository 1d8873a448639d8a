"""What a consumer knows of one of its partitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastlog.client.consumer.topic_partition import TopicPartition
    from fastlog.errors import FastlogError

#: timestamps of ListOffsets with a meaning of their own
LATEST = -1
EARLIEST = -2
NO_BROKER = -1
NO_TOPIC_ID = bytes(16)


@dataclass(slots=True, eq=False)
class PartitionState:
    """One partition. `position` is the next offset to deliver, None while it has to be looked up.

    What the reader holds of the partition counts only while `generation` stays; each change of the position from
    outside the stream of records raises it.
    """

    slot: int
    tp: TopicPartition
    topic_id: bytes = NO_TOPIC_ID
    generation: int = 0
    position: int | None = None
    #: the group's committed position is to be asked for, and where there is none, the reset that follows
    asks_group: bool = False
    #: what to look up: EARLIEST, LATEST or a timestamp
    reset: int | None = None
    #: the fetcher met an offset that the log does not have; the reset waits until all before it is delivered
    reset_after: int | None = None
    paused: bool = False
    leader: int = NO_BROKER
    leader_epoch: int = -1
    #: the replica that the leader named to read from, if any
    replica: int = NO_BROKER
    #: the fetcher has it
    fetching: bool = False
    #: an error stopped the fetcher there; it goes on when moved
    resting: bool = False
    retry_at_ms: float = 0.0
    failures: int = 0
    #: why it could not be read when it was last tried; forgotten when something of it comes
    failure: FastlogError | None = None
    #: raised by every poll until the position is changed
    error: FastlogError | None = None

    @property
    def source(self) -> int:
        """The broker to fetch from."""
        return self.leader if self.replica == NO_BROKER else self.replica
