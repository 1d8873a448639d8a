"""Single decisions that a scenario would hide: order and size of writes, bounds, votes, batches."""

from __future__ import annotations

from uuid import UUID

import pytest

from fastlog.errors import NotControllerError, RequestTimedOutError, TopicAlreadyExistsError
from fastlog.ports import Deletion, PartitionKey, PartitionState, Registration, Topic, Unknown, Written
from fastlog.state.controller import events as ev
from fastlog.state.controller.controller import Controller
from fastlog.state.controller.effects import (
    DeleteTopic,
    Effect,
    ForgetDeletion,
    Publish,
    Read,
    Reply,
    StopReplicas,
    Write,
)
from fastlog.state.controller.log_ends import LogEndAt, best
from fastlog.state.controller.settings import ControllerSettings, TopicFacts
from fastlog.state.controller.suspicion import agreed

TOPIC = UUID(int=1)


def broker(broker_id: int, epoch: int | None = None, rack: str | None = None) -> Registration:
    return Registration(
        broker_id=broker_id,
        broker_epoch=broker_id + 10 if epoch is None else epoch,
        incarnation=UUID(int=broker_id),
        endpoints={},
        rack=rack,
    )


def partition(*replicas: int, isr: tuple[int, ...] | None = None) -> PartitionState:
    members = replicas if isr is None else isr
    epochs = tuple(it + 10 for it in members)
    return PartitionState(
        replicas=replicas, leader=members[0], leader_epoch=3, isr=members, isr_epochs=epochs
    )


def controller(
    *partitions: PartitionState,
    brokers: int = 3,
    settings: ControllerSettings | None = None,
    facts: TopicFacts | None = None,
) -> Controller:
    made = Controller(settings)
    topic = Topic(name="t", topic_id=TOPIC, partitions=partitions)
    made.step(
        ev.Elected(
            controller_epoch=5,
            topics=(topic,) if partitions else (),
            registrations=tuple(broker(it) for it in range(1, brokers + 1)),
            facts={TOPIC: facts or TopicFacts()},
        ),
        0,
    )
    return made


def of_kind(effects: list[Effect], kind: type) -> list[Effect]:
    return [it for it in effects if isinstance(it, kind)]


def key(index: int) -> PartitionKey:
    return PartitionKey(TOPIC, index)


def proposal(index: int, *isr: int, version: int = 0) -> ev.Proposed:
    return ev.Proposed(key(index), 3, version, isr, tuple(it + 10 for it in isr))


def test_leader_changes_are_written_before_isr_changes_and_in_bounded_writes() -> None:
    made = controller(*[partition(2, 1), partition(1, 2)] * 100)
    effects = made.step(ev.BrokersChanged(registrations=(broker(2), broker(3))), 0)
    writes = [it for it in effects if isinstance(it, Write)]
    assert [len(it.items) for it in writes] == [99, 99, 2]
    leaders = [item.state.leader_epoch == 4 for it in writes for item in it.items]
    assert leaders == [True] * 100 + [False] * 100
    # the broker that went is told, and no state before it is written
    assert all(not it.partitions for it in of_kind(effects, Publish))  # type: ignore[attr-defined]


def test_a_delta_follows_its_write_and_an_answer_its_delta() -> None:
    made = controller(partition(1, 2, 3))
    asked = ev.IsrAsked(token="leader", broker_id=1, broker_epoch=11, proposals=(proposal(0, 1, 2),))
    (write,) = made.step(asked, 0)
    assert isinstance(write, Write)
    delta, reply = made.step(ev.WriteEnded(write_id=write.write_id, results=(Written(1),)), 0)
    assert isinstance(delta, Publish)
    assert (delta.controller_epoch, delta.sequence) == (5, 2)
    assert isinstance(reply, Reply)
    assert reply.items[0].state == delta.partitions[0][1]
    assert made.image().sequence == 2
    assert made.position == (5, 2)
    assert made.image().topics[0].partitions[0].isr == (1, 2)


def test_a_request_of_several_partitions_is_answered_once_when_the_last_is_known() -> None:
    made = controller(partition(1, 2), partition(1, 2), partition(1, 2))
    proposals = (proposal(0, 1), proposal(1, 1, 2), proposal(2, 1))
    (write,) = made.step(ev.IsrAsked(token=7, broker_id=1, broker_epoch=11, proposals=proposals), 0)
    assert isinstance(write, Write)
    assert [it.key for it in write.items] == [key(0), key(2)]
    half = made.step(ev.WriteEnded(write_id=write.write_id, results=(Written(1), Unknown("lost"))), 0)
    assert not of_kind(half, Reply)
    (read,) = of_kind(half, Read)
    assert isinstance(read, Read)
    # it had taken effect
    stored = PartitionState(replicas=(1, 2), leader=1, leader_epoch=3, isr=(1,), isr_epochs=(11,), version=1)
    effects = made.step(ev.ReadBack(read_id=read.read_id, states=(stored,)), 0)
    (reply,) = of_kind(effects, Reply)
    assert isinstance(reply, Reply)
    assert [(it.key, it.code) for it in reply.items] == [(key(0), 0), (key(1), 0), (key(2), 0)]


def test_a_partition_of_which_garbage_is_stored_keeps_no_other_from_being_read_back() -> None:
    made = controller(partition(1, 2), partition(1, 2))
    proposals = (proposal(0, 1), proposal(1, 1))
    (write,) = made.step(ev.IsrAsked(token=7, broker_id=1, broker_epoch=11, proposals=proposals), 0)
    assert isinstance(write, Write)
    results = (Unknown("lost"), Unknown("lost"))
    (read,) = made.step(ev.WriteEnded(write_id=write.write_id, results=results), 0)
    assert isinstance(read, Read)
    stored = PartitionState(replicas=(1, 2), leader=1, leader_epoch=3, isr=(1,), isr_epochs=(11,), version=1)
    effects = made.step(ev.ReadBack(read_id=read.read_id, states=(Unknown("garbage"), stored)), 0)
    (told,) = of_kind(effects, Publish)
    assert isinstance(told, Publish)
    assert [it for it, _ in told.partitions] == [key(1)]
    (again,) = made.step(ev.Tick(), 500)
    assert isinstance(again, Read)
    assert again.keys == (key(0),)


def test_what_cannot_be_read_back_is_read_again_at_a_tick_and_not_at_once() -> None:
    made = controller(partition(1, 2))
    (write,) = made.step(ev.IsrAsked(token=7, broker_id=1, broker_epoch=11, proposals=(proposal(0, 1),)), 0)
    assert isinstance(write, Write)
    (read,) = made.step(ev.WriteEnded(write_id=write.write_id, results=(Unknown("lost"),)), 0)
    assert isinstance(read, Read)
    assert made.step(ev.ReadBack(read_id=read.read_id, states=None), 0) == []
    assert made.step(ev.Tick(), 499) == []
    (again,) = made.step(ev.Tick(), 500)
    assert isinstance(again, Read)
    assert again.keys == read.keys


def test_requests_that_wait_for_a_partition_are_bounded() -> None:
    made = controller(partition(1, 2), settings=ControllerSettings(asks_per_partition=2))
    asked = ev.IsrAsked(token="leader", broker_id=1, broker_epoch=11, proposals=(proposal(0, 1),))
    assert len(made.step(asked, 0)) == 1
    assert made.step(asked, 0) == []
    assert made.step(asked, 0) == []
    (reply,) = made.step(asked, 0)
    assert isinstance(reply, Reply)
    assert reply.items[0].code == RequestTimedOutError.code


def test_results_of_a_former_term_are_not_mistaken_for_new_ones() -> None:
    made = controller(partition(1, 2))
    asked = ev.IsrAsked(token="leader", broker_id=1, broker_epoch=11, proposals=(proposal(0, 1),))
    (old,) = made.step(asked, 0)
    assert isinstance(old, Write)
    refusal, _ = made.step(ev.Fenced(), 0)
    assert isinstance(refusal, Reply)
    assert refusal.code == NotControllerError.code
    assert not made.is_active
    topic = Topic(name="t", topic_id=TOPIC, partitions=(partition(1, 2),))
    made.step(ev.Elected(controller_epoch=6, topics=(topic,), registrations=(broker(1), broker(2))), 0)
    (new,) = made.step(asked, 0)
    assert isinstance(new, Write)
    assert new.write_id != old.write_id
    assert made.step(ev.WriteEnded(write_id=old.write_id, results=(Written(1),)), 0) == []


def test_the_balance_moves_one_batch_at_a_time() -> None:
    moved = PartitionState(replicas=(1, 2), leader=2, leader_epoch=3, isr=(1, 2), isr_epochs=(11, 12))
    made = controller(*[moved] * 5, settings=ControllerSettings(balance_batch=2))
    assert made.step(ev.Tick(), 299_999) == []
    sizes = []
    for now in range(300_000, 300_010):
        effects = made.step(ev.Tick(), now)
        for write in effects:
            assert isinstance(write, Write)
            sizes.append(len(write.items))
            assert made.step(ev.Tick(), now) == []
            results = tuple(Written(1) for _ in write.items)
            made.step(ev.WriteEnded(write_id=write.write_id, results=results), now)
    assert sizes == [2, 2, 1]


def test_the_balance_leaves_what_is_led_well_enough() -> None:
    moved = PartitionState(replicas=(1, 2), leader=2, leader_epoch=3, isr=(1, 2), isr_epochs=(11, 12))
    tenth = controller(moved, *[partition(1, 2)] * 9)
    assert tenth.step(ev.Tick(), 300_000) == []
    eighth = controller(moved, *[partition(1, 2)] * 7)
    assert len(of_kind(eighth.step(ev.Tick(), 300_000), Write)) == 1
    off = controller(moved, settings=ControllerSettings(auto_leader_rebalance=False))
    assert off.step(ev.Tick(), 300_000) == []


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ({1: {2, 3}}, {1}),
        ({1: {2}}, set()),
        # two died together; each of them accuses nobody
        ({1: {3, 4}, 2: {3, 4}}, {1, 2}),
        # one cut off from all accuses all: it alone is accused by all others
        ({1: {2, 3, 4}, 2: {1}, 3: {1}, 4: {1}}, {1}),
        ({1: {2, 3}, 3: {2}}, {1}),
        ({}, set()),
    ],
)
def test_whom_all_others_are_refused_by(votes: dict[int, set[int]], expected: set[int]) -> None:
    live = {1, 2, 3} | {it for voters in votes.values() for it in voters} | set(votes)
    assert agreed(votes, live, 2) == expected


def test_two_targets_for_one_partition_are_refused() -> None:
    made = controller(partition(1, 2))
    (reply,) = made.step(ev.ReassignAsked(token=1, targets=((key(0), (1, 3)), (key(0), (2, 3)))), 0)
    assert isinstance(reply, Reply)
    assert reply.code == 42
    assert "two targets" in reply.message


def test_one_change_of_a_topic_at_a_time() -> None:
    made = controller(partition(1, 2))
    (write,) = made.step(ev.DeleteAsked(token="first", topic_id=TOPIC), 0)
    assert isinstance(write, DeleteTopic)
    assert write.replicas == (1, 2)
    (reply,) = made.step(ev.GrowAsked(token="second", topic_id=TOPIC, count=2), 0)
    assert isinstance(reply, Reply)
    assert reply.code == RequestTimedOutError.code


def test_the_name_of_a_topic_that_is_garbage_is_taken() -> None:
    made = Controller()
    made.step(
        ev.Elected(controller_epoch=1, topics=(), registrations=(broker(1),), taken_names=("broken",)), 0
    )
    asked = ev.CreateAsked(token=1, name="broken", topic_id=TOPIC, partition_count=1, replication_factor=1)
    (reply,) = made.step(asked, 0)
    assert isinstance(reply, Reply)
    assert reply.code == TopicAlreadyExistsError.code


def test_a_note_of_a_deletion_goes_when_every_replica_has_and_is_tried_again_at_a_tick() -> None:
    made = Controller()
    note = Deletion(name="t", topic_id=TOPIC, partition_count=1, replicas=(1, 2))
    first, _ = made.step(
        ev.Elected(controller_epoch=1, topics=(), registrations=(broker(1),), deletions=(note,)), 0
    )
    assert isinstance(first, StopReplicas)
    assert made.step(ev.ReplicasStopped(broker_id=1, broker_epoch=11, topic_id=TOPIC), 0) == []
    second, _ = made.step(ev.BrokersChanged(registrations=(broker(1), broker(2))), 0)
    assert isinstance(second, StopReplicas)
    assert second.broker_id == 2
    # the word of another process than was asked
    assert made.step(ev.ReplicasStopped(broker_id=2, broker_epoch=4, topic_id=TOPIC), 0) == []
    (forget,) = made.step(ev.ReplicasStopped(broker_id=2, broker_epoch=12, topic_id=TOPIC), 0)
    assert isinstance(forget, ForgetDeletion)
    assert made.step(ev.TopicWriteEnded(write_id=forget.write_id, outcome="unknown"), 0) == []
    (again,) = made.step(ev.Tick(), 500)
    assert isinstance(again, ForgetDeletion)
    assert made.step(ev.TopicWriteEnded(write_id=again.write_id, outcome="done"), 500) == []
    assert made.step(ev.Tick(), 1_000) == []


def test_a_note_that_does_not_say_who_has_replicas_asks_all_that_are_there() -> None:
    made = Controller()
    note = Deletion(name="t", topic_id=TOPIC, partition_count=1)
    made.step(ev.Elected(controller_epoch=1, topics=(), registrations=(), deletions=(note,)), 0)
    effects = made.step(ev.BrokersChanged(registrations=(broker(1), broker(2))), 0)
    assert [it.broker_id for it in effects if isinstance(it, StopReplicas)] == [1, 2]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        # not all that were in sync have answered
        ({1: (3, 90), 3: (3, 200)}, None),
        ({1: (3, 90), 2: (3, 100)}, 2),
        ({1: (3, 100), 2: (3, 100)}, 1),
        ({1: (4, 90), 2: (3, 100)}, 1),
        # plainly more, and what only looks newer
        ({1: (3, 90), 2: (3, 100), 3: (3, 120)}, 3),
        ({1: (3, 90), 2: (3, 100), 3: (5, 120)}, 2),
        # records of the last leader, which it lost itself
        ({1: (3, 90), 2: (3, 100), 3: (6, 101)}, 3),
        # wiped
        ({1: (-1, 0), 2: (3, 1), 3: (3, 120)}, 3),
        ({1: (-1, 0), 2: (-1, 0), 3: (2, 7)}, 3),
        ({1: (-1, 0), 2: (-1, 0)}, None),
        ({1: (-1, 0), 2: (-1, 0), 3: (-1, 0)}, 1),
        # all was deleted: what ends before that lacks what was committed, what goes on behind it has more
        ({1: (3, 90), 2: (-1, 100, 100)}, 2),
        ({1: (3, 100), 2: (-1, 100, 100)}, 1),
        ({1: (3, 120), 2: (-1, 100, 100), 3: (3, 110)}, 1),
        ({1: (-1, 100, 100), 2: (-1, 100, 100), 3: (6, 90)}, 1),
        ({1: (-1, 100, 100), 2: (-1, 100, 100), 3: (6, 110)}, 3),
        ({1: (-1, 0), 2: (3, 90, 10), 3: (-1, 100, 100)}, 2),
        ({1: (-1, 0), 2: (-1, 0), 3: (-1, 100, 100)}, 3),
    ],
)
def test_the_best_log(told: dict[int, tuple[int, ...]], expected: int | None) -> None:
    state = PartitionState(replicas=(1, 2, 3), leader=-1, leader_epoch=7, isr=(), last_known_elr=(1, 2))
    assert best(state, {it: LogEndAt(*at) for it, at in told.items()}) == expected
