"""Which partitions of `__consumer_offsets` this broker leads, in which leader epochs, as it was told."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from uuid import UUID

    from fastlog.ports import Topic


class Leadership(NamedTuple):
    """The leadership of a partition. Groups are read, and written down, within one."""

    partition: int
    leader_epoch: int


class Leaderships:
    """What is known of the topic's partitions."""

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id
        self._topic_id: UUID | None = None
        # the latest leader epoch of each partition, whoever leads in it
        self._epochs: dict[int, int] = {}
        self.partition_count = 0
        """Which partition a group belongs to follows from it; 0 while there is no topic."""

    def told(self, topic: Topic) -> tuple[list[int], list[Leadership]]:
        """Takes in the topic: partitions whose leadership of before is over, and the leaderships that begin here.

        What is told again changes nothing: a leadership that was given up does not come back in its own epoch.
        """
        over: list[int] = []
        if topic.topic_id != self._topic_id:
            over += self._epochs
            self.forget()
            self._topic_id = topic.topic_id
        # groups stay where they are should partitions be added
        self.partition_count = self.partition_count or len(topic.partitions)
        begun = []
        for partition, state in enumerate(topic.partitions[: self.partition_count]):
            known = self._epochs.get(partition)
            if known is not None and state.leader_epoch <= known:
                continue
            self._epochs[partition] = state.leader_epoch
            if known is not None:
                over.append(partition)
            if state.leader == self._node_id:
                begun.append(Leadership(partition, state.leader_epoch))
        return over, begun

    def forget(self) -> None:
        """There is no such topic any more."""
        self._topic_id = None
        self._epochs = {}
        self.partition_count = 0
