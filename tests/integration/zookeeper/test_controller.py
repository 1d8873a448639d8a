"""The controller's effects carried out on a real ZooKeeper: what it decides is what is there, and outlives it."""

from __future__ import annotations

from uuid import UUID

from fastlog.cluster.zookeeper.election import Election
from fastlog.cluster.zookeeper.metadata.fence import Fence
from fastlog.cluster.zookeeper.metadata.store import ZooKeeperStore
from fastlog.ports import AlreadyExistsError, FencedError, NotFoundError, PartitionKey, Registration, Topic
from fastlog.state.controller import events as ev
from fastlog.state.controller.controller import Controller
from fastlog.state.controller.effects import (
    AddPartitions,
    AskLogEnds,
    CreateTopic,
    DeleteTopic,
    Effect,
    Read,
    Reply,
    Resign,
    StopReplicas,
    TopicWrite,
    Write,
)
from fastlog.state.controller.settings import TopicFacts
from tests.support.zookeeper import Connect

TOPIC = UUID(int=77)


def broker(broker_id: int, epoch: int, *, clean: bool = True) -> Registration:
    return Registration(
        broker_id=broker_id,
        broker_epoch=epoch,
        incarnation=UUID(int=epoch),
        endpoints={},
        clean_start=clean,
    )


class Driven:
    """A controller with a connection of its own, driven one event at a time."""

    def __init__(self, connect: Connect, broker_id: int) -> None:
        self.connection = connect().connection
        self.election = Election(self.connection, broker_id=broker_id, broker_epoch=broker_id)
        self.controller = Controller()
        self.told: list[Effect] = []

    def elect(self, registrations: list[Registration], facts: TopicFacts) -> None:
        """Stands, or takes the place of a dead one; then loads what is stored."""
        result = self.election.stand()
        if not isinstance(result, Fence):
            result = self.election.take_over(result)
        assert isinstance(result, Fence)
        self.store = ZooKeeperStore(self.connection).fenced(result)
        self.store.clear_unfinished()
        snapshot = self.store.snapshot()
        assert snapshot.broken == ()
        self.step(
            ev.Elected(
                controller_epoch=result.controller_epoch,
                topics=snapshot.topics,
                registrations=tuple(registrations),
                facts={it.topic_id: facts for it in snapshot.topics},
                deletions=snapshot.deletions,
            )
        )

    def step(self, event: ev.Event) -> None:
        for effect in self.controller.step(event, 0):
            if not isinstance(effect, Write | Read | TopicWrite):
                self.told.append(effect)
                continue
            try:
                outcome = self.carry_out(effect)
            except FencedError:
                outcome = ev.Fenced()
            self.step(outcome)

    def carry_out(self, effect: Effect) -> ev.Event:
        if isinstance(effect, Write):
            results = self.store.update_partitions(effect.items)
            return ev.WriteEnded(write_id=effect.write_id, results=tuple(results))
        if isinstance(effect, Read):
            states = self.store.read_partitions(effect.keys)
            return ev.ReadBack(read_id=effect.read_id, states=tuple(states))
        assert isinstance(effect, TopicWrite)
        topic: Topic | None = None
        try:
            topic = self.write_topic(effect)
        except (AlreadyExistsError, NotFoundError):
            return ev.TopicWriteEnded(write_id=effect.write_id, outcome="refused")
        return ev.TopicWriteEnded(write_id=effect.write_id, outcome="done", topic=topic)

    def write_topic(self, effect: TopicWrite) -> Topic | None:
        if isinstance(effect, CreateTopic):
            self.store.create_topic(effect.topic, effect.configs)
        elif isinstance(effect, AddPartitions):
            return self.store.add_partitions(effect.topic_id, effect.expected_count, effect.partitions)
        elif isinstance(effect, DeleteTopic):
            self.store.delete_topic(effect.topic_id)
        else:
            self.store.forget_deletion(effect.topic_id)  # type: ignore[attr-defined]
        return None

    def of(self, kind: type) -> list[Effect]:
        found = [it for it in self.told if isinstance(it, kind)]
        self.told = [it for it in self.told if not isinstance(it, kind)]
        return found


def stored(connect: Connect) -> tuple[Topic, ...]:
    return ZooKeeperStore(connect().connection).snapshot().topics


def test_what_is_decided_outlives_who_decided(connect: Connect) -> None:
    all_three, facts = [broker(it, it + 10) for it in (1, 2, 3)], TopicFacts(min_isr=2)
    first = Driven(connect, 1)
    first.elect(all_three, facts)
    first.step(
        ev.CreateAsked(
            token="create",
            name="orders",
            topic_id=TOPIC,
            partition_count=150,
            replication_factor=3,
            facts=facts,
        )
    )
    first.step(ev.GrowAsked(token="grow", topic_id=TOPIC, count=151))
    assert [it.code for it in first.of(Reply)] == [0, 0]  # type: ignore[attr-defined]
    first.step(ev.BrokersChanged(registrations=tuple(all_three[1:])))
    assert stored(connect) == first.controller.image().topics
    assert all(it.isr_epochs and 1 not in it.isr for it in stored(connect)[0].partitions)
    # all lose their power, and one is back
    first.step(ev.BrokersChanged(registrations=()))
    first.step(ev.BrokersChanged(registrations=(broker(2, 22, clean=False),)))
    assert {(it.elr, it.last_known_elr) for it in stored(connect)[0].partitions} == {((3,), (2,))}

    second = Driven(connect, 2)
    second.elect([broker(2, 22, clean=False), broker(3, 23, clean=False)], facts)
    asked = second.of(AskLogEnds)
    assert [it.broker_id for it in asked] == [2, 3]  # type: ignore[attr-defined]
    for broker_id, length in ((2, 90), (3, 100)):
        keys = [PartitionKey(TOPIC, it) for it in range(151)]
        ends = tuple(ev.LogEnd(it, 1, length) for it in keys)
        second.step(ev.LogEndsTold(broker_id=broker_id, broker_epoch=broker_id + 20, ends=ends))
    assert {(it.leader, it.isr_epochs, it.recovering) for it in stored(connect)[0].partitions} == {
        (3, (23,), True)
    }
    # the former controller does not know, and changes nothing any more
    before = stored(connect)
    first.step(ev.BrokersChanged(registrations=tuple(all_three)))
    assert first.of(Resign)
    assert not first.controller.is_active
    assert stored(connect) == before == second.controller.image().topics


def test_a_deletion_is_finished_by_another_controller(connect: Connect) -> None:
    two = [broker(1, 11), broker(2, 12)]
    first = Driven(connect, 1)
    first.elect(two, TopicFacts())
    first.step(
        ev.CreateAsked(token=1, name="orders", topic_id=TOPIC, partition_count=1, replication_factor=2)
    )
    first.step(ev.DeleteAsked(token=2, topic_id=TOPIC))
    assert stored(connect) == ()
    assert len(first.of(StopReplicas)) == 2

    second = Driven(connect, 2)
    second.elect(two[:1], TopicFacts())
    second.step(ev.ReplicasStopped(broker_id=1, broker_epoch=11, topic_id=TOPIC))
    store = ZooKeeperStore(connect().connection)
    assert [it.replicas for it in store.deletions()] == [(1, 2)]
    second.step(ev.BrokersChanged(registrations=tuple(two)))
    second.step(ev.ReplicasStopped(broker_id=2, broker_epoch=12, topic_id=TOPIC))
    assert store.deletions() == []
