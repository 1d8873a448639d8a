"""Leaders and replicas of partitions: what `fastlog.Admin` can do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastlog.client.admin.leaders import by_topic
from fastlog.client.admin.results import Reassignment
from fastlog.errors import KafkaError, error_for
from fastlog.ports import PartitionKey, PartitionState, Registration
from fastlog.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from fastlog.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from fastlog.protocol.messages.list_partition_reassignments import ListPartitionReassignmentsRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastlog.client.admin.leaders import TopicPartition
    from fastlog.client.admin.results import ClusterDescription, TopicDescription

PREFERRED, UNCLEAN = 0, 1
ELECTION_NOT_NEEDED = 84


class PlacementAdmin:
    """The part of Admin that is about who leads and who holds partitions."""

    _timeout_ms: float

    if TYPE_CHECKING:

        def _ask(self, request: Any) -> Any:
            """See Admin, whose these are."""

        def describe_topics(self) -> list[TopicDescription]:
            """See Admin."""

        def describe_cluster(self) -> ClusterDescription:
            """See Admin."""

    def elect_leaders(
        self, partitions: Iterable[TopicPartition] | None = None, *, unclean: bool = False
    ) -> dict[TopicPartition, KafkaError | None]:
        """Has the preferred replica lead each partition, the first in the order of its replicas.

        None is every partition. With `unclean` a partition that has no leader gets one that may lack what was
        committed: what it lacks is lost. Answers an error, or None, for each partition that needed an election.
        """
        wanted = None if partitions is None else by_topic(partitions)
        request = ElectLeadersRequest(
            election_type=UNCLEAN if unclean else PREFERRED,
            topic_partitions=None
            if wanted is None
            else [TopicPartitions(topic, indexes) for topic, indexes in wanted.items()],
            timeout_ms=int(self._timeout_ms),
        )
        answer = self._ask(request)
        if answer.error_code:
            raise error_for(answer.error_code, "electing leaders was refused")
        return {
            (topic.topic, it.partition_id): _error(it)
            for topic in answer.replica_election_results
            for it in topic.partition_result
            if it.error_code != ELECTION_NOT_NEEDED
        }

    def reassign(
        self, targets: Mapping[TopicPartition, Sequence[int] | None]
    ) -> dict[TopicPartition, KafkaError | None]:
        """Gives partitions other replicas, the preferred leader first; None gives up what is under way.

        Returns when that is decided: the records move afterwards, see `reassignments`. Answers an error, or None, for
        each partition.
        """
        topics: dict[str, ReassignableTopic] = {}
        for (name, index), replicas in targets.items():
            topic = topics.setdefault(name, ReassignableTopic(name))
            topic.partitions.append(
                ReassignablePartition(index, None if replicas is None else list(replicas))
            )
        request = AlterPartitionReassignmentsRequest(
            topics=list(topics.values()), timeout_ms=int(self._timeout_ms)
        )
        answer = self._ask(request)
        if answer.error_code:
            raise error_for(answer.error_code, f"reassigning partitions: {answer.error_message}")
        return {
            (topic.name, it.partition_index): _error(it)
            for topic in answer.responses
            for it in topic.partitions
        }

    def reassignments(self) -> dict[TopicPartition, Reassignment]:
        """What is under way, by partition."""
        answer = self._ask(ListPartitionReassignmentsRequest(topics=None, timeout_ms=int(self._timeout_ms)))
        if answer.error_code:
            raise error_for(answer.error_code, f"listing reassignments: {answer.error_message}")
        return {
            (topic.name, it.partition_index): Reassignment(
                tuple(it.replicas), tuple(it.adding_replicas), tuple(it.removing_replicas)
            )
            for topic in answer.topics
            for it in topic.partitions
        }

    def decommission(self, broker_id: int) -> dict[TopicPartition, KafkaError | None]:
        """Moves every replica off a broker, as evenly as it goes, to other racks where there are others.

        Returns as `reassign` does. Topics that are made meanwhile may get replicas there: ask again before it is
        stopped. Raises InvalidReplicationFactorError where a partition has no other broker to go to.
        """
        # imported when it is asked for: it is the controller's
        from fastlog.state.controller.decide.reassignment import without_broker

        topics = self.describe_topics()
        names = {UUID(int=number): topic for number, topic in enumerate(topics, 1)}
        states = {
            PartitionKey(key, it.partition): PartitionState(
                replicas=it.replicas, leader=it.leader, leader_epoch=it.leader_epoch, isr=it.isr
            )
            for key, topic in names.items()
            for it in topic.partitions
        }
        brokers = [
            Registration(
                broker_id=it.node_id, broker_epoch=0, incarnation=UUID(int=0), endpoints={}, rack=it.rack
            )
            for it in self.describe_cluster().brokers
        ]
        moves = without_broker(states, broker_id, brokers)
        if not moves:
            return {}
        return self.reassign(
            {(names[key.topic_id].name, key.partition): replicas for key, replicas in moves.items()}
        )


def _error(answer: Any) -> KafkaError | None:
    return error_for(answer.error_code, answer.error_message or "") if answer.error_code else None
