"""Leaders that brokers name beside an error (KIP-951): a client goes there without asking for metadata first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastlog.client.metadata import BrokerAddress, ClusterImage

PORT_END = 65_536


@dataclass(frozen=True, slots=True)
class LeaderHint:
    """Who leads a partition now, as a broker says that does not lead it, or not in the epoch asked for (KIP-951)."""

    topic: str
    partition: int
    leader: int
    leader_epoch: int
    #: where the leader listens, as far as that was told
    node: BrokerAddress | None = None


def with_leader(image: ClusterImage, hint: LeaderHint) -> ClusterImage:
    """`image` with the leader that `hint` names; `image` itself where it knows as much, or that broker is nowhere."""
    topic = image.topics.get(hint.topic)
    if topic is None or hint.leader < 0 or not 0 <= hint.partition < len(topic.partitions):
        return image
    known = topic.partitions[hint.partition]
    if hint.leader_epoch <= known.leader_epoch:
        return image
    brokers = dict(image.brokers)
    at, node = brokers.get(hint.leader), hint.node
    if (
        node is not None
        and 0 < node.port < PORT_END
        and (at is None or (at.host, at.port) != (node.host, node.port))
    ):
        brokers[hint.leader] = node
    if hint.leader not in brokers:
        return image
    partitions = list(topic.partitions)
    partitions[hint.partition] = replace(
        known, leader=hint.leader, leader_epoch=hint.leader_epoch, error_code=0
    )
    topics = image.topics.with_topics({hint.topic: replace(topic, partitions=tuple(partitions))})
    return replace(image, brokers=brokers, topics=topics)
