"""A consumer's table of partitions: no sockets, threads or clocks."""

from __future__ import annotations

from typing import Any

import pytest

from fastlog.client.consumer.assignment import Assignment, Target
from fastlog.client.consumer.partition_state import EARLIEST, LATEST, NO_BROKER, PartitionState
from fastlog.client.consumer.topic_partition import TopicPartition
from fastlog.client.metadata import BrokerAddress, ClusterImage, PartitionImage, TopicImage
from fastlog.client.topic_map import TopicMap
from fastlog.errors import (
    FastlogError,
    KafkaStorageError,
    LeaderNotAvailableError,
    NoPositionError,
    NotReachableError,
    OffsetOutOfRangeError,
)

TP = TopicPartition("t", 0)
ID, OTHER_ID = b"1" * 16, b"2" * 16


class Fetcher:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.targets: dict[int, Target] = {}
        self.moves: list[tuple[int, int, int]] = []
        self.brokers: list[tuple[int, str, int]] = []

    def set_brokers(self, brokers: list[tuple[int, str, int]], /) -> None:
        self.brokers = brokers

    def fetch(self, targets: list[Target], /) -> None:
        self.targets.update({target[0]: target for target in targets})

    def move_to(self, slot: int, generation: int, broker_id: int, leader_epoch: int, /) -> bool:
        self.moves.append((slot, broker_id, leader_epoch))
        return slot in self.targets and self.targets[slot][1] == generation

    def stop(self, slots: list[int], /) -> None:
        for slot in slots:
            self.targets.pop(slot, None)

    def offsets(self) -> dict[tuple[str, int], int]:
        """The offsets that are fetched from."""
        return {(target[2], target[4]): target[7] for target in self.targets.values()}


def image(leaders: list[int], *, topic_id: bytes = ID, epoch: int = 0, name: str = "t") -> ClusterImage:
    partitions = tuple(PartitionImage(index, leader, epoch) for index, leader in enumerate(leaders))
    brokers = {broker: BrokerAddress(broker, "host", 9092 + broker) for broker in range(3)}
    return ClusterImage("c", 0, brokers, TopicMap({name: TopicImage(name, topic_id, partitions)}))


def make(policy: str = "latest") -> tuple[Assignment, Fetcher]:
    fetcher = Fetcher()
    return Assignment(fetcher, policy), fetcher


def assigned(policy: str = "latest", position: int | None = 5) -> tuple[Assignment, Fetcher, PartitionState]:
    assignment, fetcher = make(policy)
    assignment.assign({TP: position})
    assignment.apply(image([0]), 0)
    return assignment, fetcher, assignment.states[TP]


def raised(assignment: Assignment) -> FastlogError | None:
    return assignment.error_to_raise() if assignment.alarm else None


def test_a_partition_with_a_position_is_fetched_once_its_leader_is_known() -> None:
    assignment, fetcher = make()
    assignment.assign({TP: 5})
    assert fetcher.targets == {}
    assignment.apply(image([-1]), 0)
    assert fetcher.targets == {}
    assert assignment.unsettled()
    assignment.apply(image([2], epoch=3), 0)
    (target,) = fetcher.targets.values()
    assert target[2:] == ("t", ID, 0, 2, 3, 5)
    assert not assignment.unsettled()


@pytest.mark.parametrize(("policy", "timestamp"), [("earliest", EARLIEST), ("latest", LATEST)])
def test_without_a_position_the_policy_is_looked_up(policy: str, timestamp: int) -> None:
    assignment, fetcher, state = assigned(policy, None)
    assert assignment.resets_due(0) == {0: [(state, state.generation, timestamp)]}
    assignment.resolve(state, state.generation, 17)
    assert fetcher.offsets() == {TP: 17}
    assert assignment.resets_due(0) == {}


def test_a_look_up_that_comes_after_a_seek_is_dropped() -> None:
    assignment, fetcher, state = assigned("earliest", None)
    generation = state.generation
    assignment.seek(TP, 40)
    assignment.resolve(state, generation, 17)
    assert fetcher.offsets() == {TP: 40}


def test_no_position_and_no_policy_is_an_error_until_a_seek() -> None:
    assignment, fetcher, _ = assigned("none", None)
    assert isinstance(raised(assignment), NoPositionError)
    assert isinstance(raised(assignment), NoPositionError)
    assignment.seek(TP, 3)
    assert raised(assignment) is None
    assert fetcher.offsets() == {TP: 3}


def test_a_new_leader_takes_over_where_the_fetching_stands() -> None:
    assignment, fetcher, state = assigned()
    assignment.apply(image([1], epoch=1), 0)
    assert fetcher.moves == [(state.slot, 1, 1)]
    assignment.apply(image([1], epoch=1), 0)
    assert len(fetcher.moves) == 1


def test_why_a_partition_is_not_read_is_known_until_something_of_it_comes() -> None:
    assignment, _ = make()
    assignment.assign({TP: 5})
    state = assignment.states[TP]
    away, failed = NotReachableError("nobody answers"), KafkaStorageError("its disk failed")
    assignment.broker_failed(NO_BROKER, away)
    assert assignment.failures() == {TP: away}
    assignment.apply(image([1]), 0)
    assert assignment.failures() == {}
    assignment.broker_failed(2, away)
    assert assignment.failures() == {}, "another broker's"
    assignment.broker_failed(1, away)
    assert assignment.failures() == {TP: away}
    assignment.delay(state, state.generation, 100, failed)
    assert assignment.failures() == {TP: failed}
    assignment.advance(state, state.generation, 6)
    assert assignment.failures() == {}
    assignment.apply(image([-1], epoch=1), 0)
    assert isinstance(assignment.failures()[TP], LeaderNotAvailableError)


def test_a_failed_partition_is_tried_again_after_its_delay_only() -> None:
    assignment, fetcher, state = assigned()
    assignment.delay(state, state.generation, 100)
    assert assignment.unsettled()
    assert assignment.next_retry_ms() == 100
    assignment.restart(99)
    assert fetcher.moves == []
    assignment.restart(100)
    assert fetcher.moves == [(state.slot, 0, 0)]
    assert not assignment.unsettled()


def test_a_chunk_counts_only_while_its_generation_stays() -> None:
    assignment, _, state = assigned()
    generation = state.generation
    assert assignment.current(state.slot, generation) is state
    assignment.advance(state, generation, 9)
    assert state.position == 9
    assignment.seek(TP, 2)
    assert assignment.current(state.slot, generation) is None
    assignment.advance(state, generation, 10)
    assert state.position == 2


def test_a_pause_drops_what_was_fetched_and_a_resume_goes_on_at_the_position() -> None:
    assignment, fetcher, _ = assigned()
    assignment.pause(TP, 8)
    assert fetcher.targets == {}
    assignment.apply(image([0]), 0)
    assert fetcher.targets == {}
    assignment.seek(TP, 9)
    assert fetcher.targets == {}
    assignment.resume(TP)
    assert fetcher.offsets() == {TP: 9}


def test_out_of_range_waits_until_all_before_it_is_delivered() -> None:
    assignment, _, state = assigned("earliest")
    assignment.out_of_range(state, 20)
    assert assignment.resets_due(0) == {}
    assert not assignment.advance(state, state.generation, 12)
    assert assignment.advance(state, state.generation, 20)
    assert assignment.resets_due(0) == {0: [(state, state.generation, EARLIEST)]}


def test_out_of_range_without_a_policy_is_an_error_until_a_seek() -> None:
    assignment, _, state = assigned("none")
    assignment.out_of_range(state, 5)
    assert isinstance(raised(assignment), OffsetOutOfRangeError)
    assert assignment.resets_due(0) == {}
    assignment.seek(TP, 1)
    assert raised(assignment) is None


def test_a_subscription_takes_all_partitions_and_later_ones_from_their_start() -> None:
    assignment, _ = make("latest")
    assignment.subscribe(frozenset({"t"}))
    assert assignment.unsettled()
    assignment.apply(image([0, 1]), 0)
    assert {state.reset for state in assignment.states.values()} == {LATEST}
    assignment.apply(image([0, 1, 2]), 0)
    assert assignment.states[TopicPartition("t", 2)].reset == EARLIEST


def test_a_topic_made_anew_is_read_from_its_start_whatever_the_policy() -> None:
    assignment, _, state = assigned("latest")
    assignment.apply(image([0], topic_id=OTHER_ID), 0)
    assert (state.topic_id, state.reset, state.position) == (OTHER_ID, EARLIEST, None)
    assignment, _, state = assigned("none")
    assignment.apply(image([0], topic_id=OTHER_ID), 0)
    assert isinstance(raised(assignment), NoPositionError)


def test_a_topic_made_anew_with_fewer_partitions_loses_the_others() -> None:
    assignment, fetcher = make()
    assignment.subscribe(frozenset({"t"}))
    assignment.apply(image([0, 0, 0]), 0)
    assignment.apply(image([0], topic_id=OTHER_ID), 0)
    assert set(assignment.states) == {TP}
    assert set(fetcher.offsets()) <= {TP}


def test_another_assignment_keeps_the_positions_of_what_stays() -> None:
    assignment, fetcher, state = assigned()
    assignment.advance(state, state.generation, 9)
    assignment.assign({TP: None, TopicPartition("t", 1): 4})
    assignment.apply(image([0, 0]), 0)
    assert assignment.states[TP].position == 9
    assert fetcher.offsets() == {TP: 5, ("t", 1): 4}


def test_a_replica_that_the_leader_named_is_read_from_until_it_fails() -> None:
    assignment, fetcher, state = assigned()
    assignment.read_from_replica(state, 2)
    assert fetcher.moves == [(state.slot, 2, 0)]
    assignment.delay(state, state.generation, 50)
    assignment.restart(50)
    assert fetcher.moves[-1] == (state.slot, 0, 0)


def test_a_cut_log_is_followed_back() -> None:
    assignment, fetcher, state = assigned("latest", 50)
    assignment.truncated(state, 30)
    assert fetcher.offsets() == {TP: 30}
    assignment, _, state = assigned("none", 50)
    assignment.truncated(state, 30)
    assert isinstance(raised(assignment), OffsetOutOfRangeError)


def test_one_error_is_raised_once() -> None:
    assignment, _, _ = assigned()
    assignment.fail(FastlogError("x"))
    assert raised(assignment) is not None
    assert raised(assignment) is None
    assert not assignment.alarm


def test_absent_partitions_are_named() -> None:
    assignment, _ = make()
    positions: dict[TopicPartition, Any] = {TopicPartition("t", n): 0 for n in (0, 3, 5)}
    assignment.assign(positions)
    assert assignment.absent_partitions("t", 3) == [3, 5]
