"""Leaders and replicas of partitions on one node alone, where there is nothing to choose; Kafka's answers to that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fastlog.errors import (
    ElectionNotNeededError,
    InvalidReplicationFactorError,
    KafkaError,
    UnknownTopicOrPartitionError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlog.broker.ports import Place
    from fastlog.broker.topic_directory import TopicDirectory
    from fastlog.ports import PartitionState, Registration


#: of the controller that is never elected
ONLY_EPOCH = 1


class LocalPlacement:
    """The Placement of one node alone."""

    def __init__(self, topics: TopicDirectory, node_id: int) -> None:
        self._topics = topics
        self._node_id = node_id

    def elect(
        self, kind: Literal["preferred", "unclean"], places: Sequence[Place] | None, *, timeout_ms: int
    ) -> dict[Place, KafkaError | None]:
        """See Placement: every partition is led by its only replica."""
        if places is None:
            return {}
        states, errors = found(self._topics, places)
        for place, state in states.items():
            errors[place] = ElectionNotNeededError(f"broker {state.leader} leads the partition")
        return errors

    def reassign(
        self, targets: Mapping[Place, tuple[int, ...] | None], *, keep_factor: bool, timeout_ms: int
    ) -> dict[Place, KafkaError | None]:
        """See Placement: the only target that there can be is what is there."""
        # imported when it is asked for, which is rare: one node alone is to start quickly
        from fastlog.state.controller.decide.reassignment import cancelled, check_target

        states, errors = found(self._topics, list(targets))
        for place, state in states.items():
            target = targets[place]
            errors[place] = None
            try:
                if target is None:
                    cancelled(state)
                else:
                    check_target(target, (self._node_id,))
            except KafkaError as error:
                errors[place] = error
        return errors

    def reassigning(self, places: Sequence[Place] | None) -> dict[Place, PartitionState]:
        """See Placement."""
        return reassigning(self._topics, places)


class LocalBrokers:
    """The Brokers of one node alone: itself."""

    def __init__(self, topics: TopicDirectory, node_id: int) -> None:
        self._topics = topics
        self.controller_id = node_id

    @property
    def position(self) -> tuple[int, int]:
        """See Brokers: there is one epoch, since a start."""
        return ONLY_EPOCH, self._topics.changes

    def registration(self, broker_id: int) -> Registration | None:
        """See Brokers: it is registered nowhere."""
        return None

    def ids(self) -> Sequence[int]:
        """See Brokers."""
        return (self.controller_id,)


def found(
    topics: TopicDirectory, places: Sequence[Place]
) -> tuple[dict[Place, PartitionState], dict[Place, KafkaError | None]]:
    """The states of the partitions that there are, and the error of each that there is not."""
    states: dict[Place, PartitionState] = {}
    errors: dict[Place, KafkaError | None] = {}
    for name, partition in places:
        try:
            partitions = topics.named(name).partitions
            if not 0 <= partition < len(partitions):
                raise UnknownTopicOrPartitionError(
                    f"topic {name!r} has {len(partitions)} partitions, and none is numbered {partition}"
                )
            states[name, partition] = partitions[partition]
        except UnknownTopicOrPartitionError as error:
            errors[name, partition] = error
    return states, errors


def check_factors(
    topics: TopicDirectory, targets: Mapping[Place, tuple[int, ...] | None]
) -> dict[Place, KafkaError | None]:
    """The error of each target that would change how many replicas its partition has."""
    states, errors = found(topics, list(targets))
    for place, state in states.items():
        target, now = targets[place], len(state.replicas) - len(state.adding)
        if target is not None and len(target) != now:
            errors[place] = InvalidReplicationFactorError(
                f"the partition has {now} replicas, {list(target)} would be another number"
            )
    return errors


def reassigning(topics: TopicDirectory, places: Sequence[Place] | None) -> dict[Place, PartitionState]:
    """Those, of all for None, that are being reassigned."""
    if places is None:
        places = [(it.name, partition) for it in topics.all() for partition in range(len(it.partitions))]
    states, _ = found(topics, places)
    return {place: state for place, state in states.items() if state.adding or state.removing}
