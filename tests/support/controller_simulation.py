"""Controllers over brokers that crash, lose their disks and sessions, while the store conflicts and keeps silent.

What happens follows from the seed. Asserted as it happens: the invariants of the store (controller_world), that nothing
is published or answered before it is written, and that a record which was acknowledged is in the log of every leader
that was elected cleanly, and of one elected by its log wherever any of those that had to be asked had it.
"""

from __future__ import annotations

import random
from collections import Counter
from uuid import UUID

from fastlog.ports import PartitionKey, PartitionState
from fastlog.state.controller import events as ev
from fastlog.state.controller.controller import Controller
from fastlog.state.controller.effects import AskLogEnds, Publish, Reply, Resign, StopReplicas
from fastlog.state.controller.log_ends import who_must_answer
from fastlog.state.controller.settings import ControllerSettings, TopicFacts
from tests.support.controller_world import Store, World
from tests.support.simulated_broker import Record, SimulatedBroker

BROKERS = 4
SETTINGS = ControllerSettings(imbalance_check_ms=5_000, suspicion_interval_ms=3_000, balance_batch=2)


class WatchedStore(Store):
    """Looks at every leader that is written."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self.simulation = simulation
        self.history: dict[tuple[PartitionKey, int], PartitionState] = {}

    def check(self, key: PartitionKey, before: PartitionState, after: PartitionState) -> None:
        super().check(key, before, after)
        self.history[key, after.version] = after
        if after.leader_epoch != before.leader_epoch and after.leader != -1:
            self.simulation.elected(key, before, after)


class Simulation:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.world = World(SETTINGS)
        self.world.store = self.store = WatchedStore(self)
        self.world.is_held = True
        self.brokers = {it: SimulatedBroker(it) for it in range(1, BROKERS + 1)}
        # what was acknowledged with acks=all, and is not allowed to be lost
        self.committed: dict[PartitionKey, list[Record]] = {}
        self.questions: list[tuple[Controller, AskLogEnds]] = []
        self.stops: list[tuple[Controller, StopReplicas]] = []
        self.zombies: list[Controller] = []
        self.counts: Counter[str] = Counter()
        self.trace: list[str] = []
        self.serial = 0
        self.topics: list[UUID] = []

    # --- what must hold ---

    def elected(self, key: PartitionKey, before: PartitionState, after: PartitionState) -> None:
        """A leader was written: it has what was acknowledged, or what the best log that was asked has."""
        leader = self.brokers[after.leader]
        # if not, that process is gone and nobody has noticed yet: it will lead nothing
        is_there = leader.is_running and leader.broker_epoch in after.isr_epochs
        committed, log = self.committed.get(key, []), leader.log(key)
        told = (self.seed, key, before, after, committed, log)
        if after.leader in (*before.isr, *before.elr):
            # with unclean election, two leaders may have acknowledged until one of them heard of the other
            is_held_to_it = is_there and not self.store.facts[key.topic_id].unclean
            assert not is_held_to_it or log[: len(committed)] == committed, ("acknowledged is lost", told)
            self.counts["clean elections"] += 1
            return
        if is_there and not self.store.facts[key.topic_id].unclean:
            self.check_best(key, before, log, told)
            self.counts["elections by log"] += 1
        common = 0
        while common < min(len(log), len(committed)) and log[common] == committed[common]:
            common += 1
        self.counts["lost"] += len(committed) - common
        self.committed[key] = committed[:common]

    def check_best(self, key: PartitionKey, before: PartitionState, log: list[Record], told: object) -> None:
        """Whoever was elected by its log has no less than those that had to answer, and is not a wiped disk."""
        committed = self.committed.get(key, [])
        for other in who_must_answer(before):
            if self.brokers[other].log(key)[: len(committed)] == committed:
                assert log[: len(committed)] == committed, ("a better log lost", told)
        if committed and not log:
            assert not any(self.brokers[it].log(key) for it in before.replicas), ("a wiped disk won", told)

    def commit(self, broker: SimulatedBroker, key: PartitionKey) -> None:
        """The leader acknowledges what all of its ISR have."""
        registration = self.store.registrations.get(broker.broker_id)
        has_session = registration is not None and registration.broker_epoch == broker.broker_epoch
        if broker.is_alone(key) and not has_session:
            # the lease has run out before the session did
            return
        length, leading = broker.high_watermark(key), broker.leading[key]
        committed = self.committed.setdefault(key, [])
        if length <= leading.acknowledged:
            return
        leading.acknowledged = length
        if length <= len(committed):
            return
        log = broker.log(key)
        # a topic with unclean election may have two, until one of the leaders hears of the other
        assert self.store.facts[key.topic_id].unclean or log[: len(committed)] == committed, (
            "two histories",
            self.seed,
            key,
            committed,
            log,
        )
        self.counts["acknowledged"] += length - len(committed)
        self.committed[key] = log[:length]

    def hear(self, controller: Controller) -> None:
        """Takes what the controller said since the last event to those that it is for."""
        told, self.world.told[:] = list(self.world.told), []
        for effect in told:
            if isinstance(effect, Publish):
                self.published(effect, controller)
            elif isinstance(effect, AskLogEnds):
                self.questions.append((controller, effect))
            elif isinstance(effect, StopReplicas):
                self.stops.append((controller, effect))
            elif isinstance(effect, Reply):
                self.replied(effect, controller)
            else:
                assert isinstance(effect, Resign)
                self.counts["resigned"] += 1

    def published(self, delta: Publish, controller: Controller) -> None:
        rows = list(delta.partitions)
        for topic in delta.topics:
            rows += [(PartitionKey(topic.topic_id, at), it) for at, it in enumerate(topic.partitions)]
        for key, state in rows:
            assert self.store.history.get((key, state.version), state) == state, ("not written", key, state)
        if controller is self.world.controller:
            for broker in self.brokers.values():
                broker.inbox.append((rows, delta.brokers or ()))

    def replied(self, reply: Reply, controller: Controller) -> None:
        for item in reply.items:
            if item.state is not None:
                written = self.store.history.get((item.key, item.state.version), item.state)
                assert written == item.state, ("answered before it was written", item)
        if isinstance(reply.token, tuple):
            broker = self.brokers[reply.token[0]]
            if broker.is_running and broker.broker_epoch == reply.token[1] and self.random.random() < 0.9:
                for item in reply.items:
                    broker.answered(item, controller)

    # --- what happens ---

    def run(self, steps: int) -> None:
        for broker in self.brokers.values():
            broker.start(self.store.register(broker.broker_id).broker_epoch)
        self.elect()
        actions = [(getattr(self, name), weight) for name, weight in WEIGHTS.items()]
        for _ in range(steps):
            action = self.random.choices([it[0] for it in actions], [it[1] for it in actions])[0]
            self.counts[action.__name__] += 1
            action()
            self.trace.append(action.__name__)
        self.heal()

    def step(self, event: ev.Event) -> None:
        """To the controller, and now and then to one that does not know yet that it is none any more."""
        self.world.step(event)
        self.hear(self.world.controller)
        if self.zombies and self.random.random() < 0.3:
            zombie = self.random.choice(self.zombies)
            self.world.step(event, zombie)
            self.hear(zombie)

    def elect(self) -> None:
        if self.store.epoch:
            self.zombies = [*self.zombies[-1:], self.world.controller]
        self.world.elect()
        self.hear(self.world.controller)
        self.questions = []
        image = self.world.controller.image()
        rows = [
            (PartitionKey(t.topic_id, at), it) for t in image.topics for at, it in enumerate(t.partitions)
        ]
        for broker in self.brokers.values():
            broker.inbox.append((rows, image.brokers))

    def deliver(self) -> None:
        outstanding = self.world.outstanding
        if not outstanding:
            return
        outstanding.rotate(-self.random.randrange(len(outstanding)))
        if self.random.random() < 0.15:
            self.world.outcomes.append(self.random.choice(["lost", "applied", "late"]))
        effect, epoch, controller = outstanding.popleft()
        self.world.deliver(effect, epoch, controller)
        self.hear(controller)

    def land_late(self) -> None:
        if self.world.late:
            self.world.land_late()

    def interfere(self) -> None:
        """Somebody else writes a state: the same again, at another version."""
        if self.store.states:
            key = self.random.choice(sorted(self.store.states))
            state = self.store.states[key]
            fresh = PartitionState(
                **{f: getattr(state, f) for f in state.__struct_fields__} | {"version": state.version + 1}
            )
            self.store.states[key] = self.store.history[key, fresh.version] = fresh

    def create(self) -> None:
        if len(self.topics) >= 4:
            return
        topic_id = UUID(int=self.random.getrandbits(64))
        facts = TopicFacts(self.random.choice([1, 2, 2, 3]), unclean=self.random.random() < 0.1)
        self.store.facts[topic_id] = facts
        self.topics.append(topic_id)
        event = ev.CreateAsked(
            token="create",
            name=str(topic_id),
            topic_id=topic_id,
            partition_count=self.random.randint(1, 2),
            replication_factor=self.random.randint(1, 4),
            facts=facts,
        )
        self.step(event)
        for broker in self.brokers.values():
            broker.facts[topic_id] = facts

    def delete(self) -> None:
        if self.topics and self.random.random() < 0.2:
            topic_id = self.topics.pop(0)
            self.step(ev.DeleteAsked(token="delete", topic_id=topic_id))
            if self.stops and self.random.random() < 0.8:
                _, stop = self.stops.pop(0)
                self.step(
                    ev.ReplicasStopped(
                        broker_id=stop.broker_id, broker_epoch=stop.broker_epoch, topic_id=stop.topic_id
                    )
                )

    def change_min(self) -> None:
        if self.topics:
            topic_id = self.random.choice(self.topics)
            facts = TopicFacts(self.random.randint(1, 3), self.store.facts[topic_id].unclean)
            self.store.facts[topic_id] = facts
            self.step(ev.FactsChanged(topic_id=topic_id, facts=facts))

    def hear_facts(self) -> None:
        broker = self.any_broker()
        broker.facts.update(self.store.facts)

    def any_broker(self) -> SimulatedBroker:
        return self.brokers[self.random.randint(1, BROKERS)]

    def kill(self) -> None:
        """The process is gone; its session, now or a little later. What the disk keeps is its own luck."""
        broker = self.any_broker()
        if not broker.is_running:
            return
        broker.is_running = broker.is_sure = False
        for key, log in broker.logs.items():
            if self.random.random() < 0.3:
                broker.logs[key] = log[: self.random.randint(0, len(log))]
        if self.random.random() < 0.15:
            broker.logs = {}
            self.counts["wiped"] += 1
        if self.random.random() < 0.6:
            self.expire(broker)

    def expire(self, broker: SimulatedBroker | None = None) -> None:
        """A session ends; the process, if there is one, does not know."""
        broker = broker or self.any_broker()
        if self.store.registrations.pop(broker.broker_id, None) and self.random.random() < 0.7:
            self.look()

    def stop(self) -> None:
        """Controlled shutdown, with the logs flushed; it comes back with a clean mark."""
        broker = self.any_broker()
        registration = self.store.registrations.get(broker.broker_id)
        if not broker.is_running or registration is None or registration.broker_epoch != broker.broker_epoch:
            return
        self.step(
            ev.ShutdownAsked(token="stop", broker_id=broker.broker_id, broker_epoch=broker.broker_epoch)
        )
        if self.random.random() < 0.7:
            broker.is_running = False
            self.store.registrations.pop(broker.broker_id)
            if self.random.random() < 0.5:
                self.register(broker)
            self.look()

    def restart(self) -> None:
        """Comes back, or a process finds that its session is over: both register anew."""
        broker = self.any_broker()
        registration = self.store.registrations.get(broker.broker_id)
        if (
            broker.is_running
            and registration is not None
            and registration.broker_epoch == broker.broker_epoch
        ):
            return
        self.register(broker)
        if self.random.random() < 0.8:
            self.look()

    def register(self, broker: SimulatedBroker) -> None:
        broker.start(self.store.register(broker.broker_id, clean=broker.is_sure).broker_epoch)

    def look(self) -> None:
        """The controller reads who is registered; several changes may have come together."""
        self.step(ev.BrokersChanged(registrations=self.store.registered()))

    def hear_deltas(self) -> None:
        broker = self.any_broker()
        if broker.is_running and broker.inbox:
            broker.hear_delta()

    def led(self) -> list[tuple[SimulatedBroker, PartitionKey]]:
        running = (it for it in self.brokers.values() if it.is_running)
        return [(broker, key) for broker in running for key in sorted(broker.leading)]

    def replicate(self) -> None:
        """A leader appends, followers fetch, what all have is acknowledged."""
        led = self.led()
        if not led:
            return
        leader, key = self.random.choice(led)
        for _ in range(self.random.randint(0, 2)):
            self.serial += 1
            leader.log(key).append((leader.views[key].leader_epoch, self.serial))
        for follower in self.brokers.values():
            if follower.is_running and self.random.random() < 0.7:
                length = len(leader.log(key)) - (self.random.random() < 0.2)
                follower.fetch(key, leader, max(length, 0))
        self.commit(leader, key)

    def propose(self) -> None:
        """A leader wants others in, or out."""
        led = self.led()
        if not led:
            return
        leader, key = self.random.choice(led)
        view, leading = leader.views[key], leader.leading[key]
        if leading.proposed:
            isr = leading.proposed
        elif self.random.random() < 0.3:
            isr = tuple(it for it in view.isr if it == leader.broker_id or self.random.random() < 0.5)
        else:
            need = max(leading.start, len(self.committed.get(key, [])))
            new = [it for it, at in leading.fetched.items() if at >= need and it not in view.isr]
            isr = (*view.isr, *(it for it in new if it in view.replicas))
        if isr != view.isr:
            self.step(
                ev.IsrAsked(
                    token=(leader.broker_id, leader.broker_epoch),
                    broker_id=leader.broker_id,
                    broker_epoch=leader.broker_epoch,
                    proposals=(leader.proposal(key, isr, self.world.controller),),
                )
            )

    def answer_log_ends(self) -> None:
        if not self.questions:
            return
        controller, question = self.questions.pop(self.random.randrange(len(self.questions)))
        broker = self.brokers[question.broker_id]
        if broker.is_running and broker.broker_epoch == question.broker_epoch:
            ends = tuple(ev.LogEnd(it, *broker.end(it)) for it in question.keys)
            event = ev.LogEndsTold(broker_id=broker.broker_id, broker_epoch=broker.broker_epoch, ends=ends)
            self.world.step(event, controller)
            self.hear(controller)

    def suspect(self) -> None:
        of = self.any_broker().broker_id
        for by in list(self.store.registrations):
            if by != of and of in self.store.registrations and self.random.random() < 0.9:
                self.step(
                    ev.Suspected(
                        by=by,
                        by_epoch=self.store.registrations[by].broker_epoch,
                        of=of,
                        of_epoch=self.store.registrations[of].broker_epoch,
                        refused=self.random.random() < 0.7,
                    )
                )

    def reassign(self) -> None:
        if self.store.states:
            key = self.random.choice(sorted(self.store.states))
            target = self.random.sample(range(1, BROKERS + 1), self.random.randint(1, 3))
            replicas = None if self.random.random() < 0.3 else tuple(target)
            self.step(ev.ReassignAsked(token="reassign", targets=((key, replicas),)))

    def prefer(self) -> None:
        self.step(ev.ElectAsked(token="elect", kind="preferred", keys=None))

    def tick(self) -> None:
        self.world.now_ms += self.random.choice([1, 500, 3_000])
        self.step(ev.Tick())

    # --- the end ---

    def heal(self) -> None:
        """Everybody comes back and nothing fails any more: every partition has a leader, and nobody waits."""
        for broker in self.brokers.values():
            registration = self.store.registrations.get(broker.broker_id)
            if (
                registration is None
                or not broker.is_running
                or registration.broker_epoch != broker.broker_epoch
            ):
                self.register(broker)
        self.elect()
        self.look()
        for _ in range(200):
            self.world.now_ms += 500
            while self.world.outstanding:
                effect, epoch, controller = self.world.outstanding.popleft()
                self.world.outcomes.clear()
                self.world.deliver(effect, epoch, controller)
                self.hear(controller)
            while self.questions:
                self.answer_log_ends()
            if self.world.now_ms and not self.world.outstanding:
                self.world.step(ev.Tick())
                self.hear(self.world.controller)
            if not self.world.outstanding and not self.questions and not self.leaderless():
                break
        assert not self.leaderless(), ("no leader", self.seed, self.leaderless())
        assert self.world.controller.is_quiet(), ("somebody waits", self.seed)
        self.counts["partitions"] += len(self.store.states)

    def leaderless(self) -> list[PartitionState]:
        return [it for it in self.store.states.values() if it.leader == -1]


WEIGHTS = {
    "deliver": 30,
    "replicate": 30,
    "land_late": 5,
    "hear_deltas": 30,
    "propose": 12,
    "answer_log_ends": 10,
    "tick": 5,
    "restart": 8,
    "kill": 3,
    "expire": 2,
    "stop": 2,
    "look": 2,
    "elect": 1,
    "interfere": 2,
    "create": 3,
    "delete": 1,
    "change_min": 4,
    "hear_facts": 2,
    "suspect": 1,
    "reassign": 2,
    "prefer": 1,
}


def run(seed: int, steps: int) -> Simulation:
    """A run; raises where something does not hold."""
    simulation = Simulation(seed)
    simulation.run(steps)
    return simulation
