"""Whatever happens in whatever order: the deltas that were told add up to the snapshot, and end at what is stored."""

from __future__ import annotations

from uuid import UUID

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastlog.broker.peers.messages import Answer, SetConfigs
from fastlog.ports import ConfigResource, PartitionKey
from fastlog.state.controller import events as ev
from fastlog.state.controller.effects import StopReplicas
from tests.support.driven_controller import Driven

NAMES = ("orders", "payments", "users")
BROKERS = (1, 2, 3)
RESOURCES = (ConfigResource("broker", ""), *(ConfigResource("topic", it) for it in NAMES))
VALUES = (
    {},
    {"min.insync.replicas": "1"},
    {"min.insync.replicas": "2"},
    {"unclean.leader.election.enable": "true"},
)


class Notices(RuleBasedStateMachine):
    """One controller, whose store is slow, keeps silent, and fences it off at times."""

    def __init__(self) -> None:
        super().__init__()
        self.driven = Driven()
        self.next_topic = 1
        self.answers: list[tuple[str, list[Answer]]] = []

    @initialize()
    def begin(self) -> None:
        for broker in BROKERS:
            self.driven.world.register(broker)
        self.driven.elect()

    def note(self, what: str, answers: list[Answer]) -> None:
        self.answers.append((what, answers))

    # --- what is asked ---

    @rule(
        name=st.sampled_from(NAMES),
        count=st.integers(1, 3),
        factor=st.integers(1, 3),
        values=st.sampled_from(VALUES),
    )
    def create(self, name: str, count: int, factor: int, values: dict[str, str]) -> None:
        topic_id, self.next_topic = UUID(int=self.next_topic), self.next_topic + 1
        self.note(
            f"create {name}",
            self.driven.create(name, topic_id, count, replication_factor=factor, configs=values),
        )

    @precondition(lambda self: self.driven.subscriber.topics)
    @rule(data=st.data(), more=st.integers(1, 2))
    def grow(self, data: st.DataObject, more: int) -> None:
        topic_id = data.draw(st.sampled_from(sorted(self.driven.subscriber.topics)))
        count = len(self.driven.subscriber.topics[topic_id]) + more
        self.note("grow", self.driven.ask(ev.GrowAsked(token=None, topic_id=topic_id, count=count)))

    @precondition(lambda self: self.driven.subscriber.topics)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        topic_id = data.draw(st.sampled_from(sorted(self.driven.subscriber.topics)))
        self.note("delete", self.driven.ask(ev.DeleteAsked(token=None, topic_id=topic_id)))

    @rule(resource=st.sampled_from(RESOURCES), values=st.sampled_from(VALUES), is_stale=st.booleans())
    def configure(self, resource: ConfigResource, values: dict[str, str], is_stale: bool) -> None:
        known = self.driven.subscriber.settings.get(resource)
        version = 0 if known is None else known.version
        answers: list[Answer] = []
        self.driven.driver.set_configs(
            SetConfigs(resource=resource, values=values, expected_version=version + is_stale), answers.append
        )
        self.note("configure", answers)

    # --- what befalls it ---

    @rule(broker=st.sampled_from(BROKERS), clean=st.booleans())
    def restart(self, broker: int, clean: bool) -> None:
        self.driven.world.register(broker, clean=clean)
        self.driven.driver.brokers(self.driven.world.registered())

    @rule(broker=st.sampled_from(BROKERS))
    def die(self, broker: int) -> None:
        self.driven.world.registrations.pop(broker, None)
        self.driven.driver.brokers(self.driven.world.registered())

    @rule(outcomes=st.lists(st.sampled_from(["", "lost", "applied"]), max_size=3))
    def trouble(self, outcomes: list[str]) -> None:
        self.driven.world.outcomes.extend(outcomes)

    @rule()
    def another_is_elected_and_this_one_again(self) -> None:
        self.driven.world.epoch += 1
        if self.driven.stores.waiting:
            self.driven.stores.run_one()
            self.driven.schedule.run()
        self.driven.driver.end()
        self.driven.elect()

    # --- how it goes on ---

    @rule()
    def the_store_answers(self) -> None:
        if self.driven.stores.waiting:
            self.driven.stores.run_one()

    @rule()
    def the_worker_goes_on(self) -> None:
        if self.driven.schedule.waiting:
            self.driven.schedule.run_one()

    @rule()
    def time_passes(self) -> None:
        self.driven.pass_time()
        for broker, order, answered in self.driven.peers.take(StopReplicas):
            answered(
                Answer(
                    body=ev.ReplicasStopped(
                        broker_id=broker, broker_epoch=order.broker_epoch, topic_id=order.topic_id
                    )
                )
            )

    # --- what must hold ---

    @invariant()
    def deltas_add_up(self) -> None:
        if self.driven.driver.is_active:
            assert self.driven.snapshot() == self.driven.subscriber.snapshot(1)

    @invariant()
    def nobody_is_told_what_is_not_written(self) -> None:
        world = self.driven.world
        for topic_id, states in self.driven.subscriber.topics.items():
            for index, state in enumerate(states):
                stored = world.states.get(PartitionKey(topic_id, index))
                assert stored is None or state.version <= stored.version
                assert stored is None or state.version < stored.version or state == stored

    def teardown(self) -> None:
        """Nothing more befalls it: everybody is answered, and all that is stored is told, and nothing else."""
        driven = self.driven
        driven.world.outcomes.clear()
        for _ in range(6):
            driven.pass_time(2_000)
        assert all(len(answers) == 1 for _, answers in self.answers), self.answers
        if not driven.driver.is_active:
            return
        stored = driven.world.stored()
        assert {it.topic_id: list(it.partitions) for it in stored.topics} == driven.subscriber.topics
        told = {it.resource: (dict(it.values), it.version) for it in driven.subscriber.settings.values()}
        assert told == {it: (dict(had.values), had.version) for it, had in stored.configs.items()}


Notices.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
TestNotices = Notices.TestCase
