"""Leaders and replicas of partitions: what `fastlog.Admin` can do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastlog.client.admin.leaders import by_topic
from fastlog.client.admin.results import Reassignment
from fastlog.errors import BrokerIdNotRegisteredError, KafkaError, error_for
from fastlog.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from fastlog.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from fastlog.protocol.messages.list_partition_reassignments import ListPartitionReassignmentsRequest

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

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

    def balance_plan(self, *, without: Container[int] = ()) -> dict[TopicPartition, tuple[int, ...]]:
        """The replicas that make the brokers' load even, for `reassign`; only partitions that would get other ones.

        As few replicas move as that takes, racks are kept apart, and nothing is planned for brokers of `without` or for
        those that are away: what they hold stays there. Afterwards `elect_leaders` gives leaders to whom it prefers.
        """
        # imported when it is asked for: it is the controller's
        from fastlog.state.controller.decide.spread import balanced

        racks = {broker: rack for broker, rack in self._racks().items() if broker not in without}
        return balanced(self._assigned(), racks)

    def decommission_plan(self, broker_id: int) -> dict[TopicPartition, tuple[int, ...]]:
        """The replicas that take every partition off a broker, for `reassign`; the others' load stays even.

        Racks that a partition does not use yet are preferred. Raises InvalidReplicationFactorError where a partition
        has no other broker to go to, and BrokerIdNotRegisteredError where there is no such broker.
        """
        from fastlog.state.controller.decide.spread import without_broker

        rows, racks = self._assigned(), self._racks()
        if broker_id not in racks and not any(broker_id in row for row in rows.values()):
            raise BrokerIdNotRegisteredError(
                f"broker {broker_id} is not in the cluster and holds nothing; there are {sorted(racks)}"
            )
        return without_broker(rows, broker_id, racks)

    def decommission(self, broker_id: int) -> dict[TopicPartition, KafkaError | None]:
        """Moves every replica off a broker, see `decommission_plan`; returns and answers as `reassign` does.

        Topics that are made meanwhile may get replicas there: ask again before it is stopped.
        """
        plan = self.decommission_plan(broker_id)
        return self.reassign(plan) if plan else {}

    def _assigned(self) -> dict[TopicPartition, tuple[int, ...]]:
        """The replicas of every partition, of one that moves those that it will have."""
        moving = self.reassignments()
        rows = {
            (topic.name, it.partition): it.replicas
            for topic in self.describe_topics()
            for it in topic.partitions
        }
        for place, it in moving.items():
            rows[place] = tuple(broker for broker in it.replicas if broker not in it.removing)
        return rows

    def _racks(self) -> dict[int, str | None]:
        return {it.node_id: it.rack for it in self.describe_cluster().brokers}


def _error(answer: Any) -> KafkaError | None:
    return error_for(answer.error_code, answer.error_message or "") if answer.error_code else None
