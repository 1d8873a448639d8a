"""The cluster of one seed: brokers, store, clients, and what befalls them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from fastlog.ports import PartitionKey, PartitionState, Registration, Topic
from fastlog.state.controller.events import Proposed
from fastlog.state.controller.settings import TopicFacts
from tests.simulation.broker import Broker
from tests.simulation.bugs import Bugs
from tests.simulation.checks import Judge, ViolationError
from tests.simulation.clients import Client, Consumer, LooseProducer, Producer
from tests.simulation.events import Agenda
from tests.simulation.machine import TOPIC, TOPIC_ID, Machine
from tests.simulation.network import STORE, Network
from tests.simulation.setup import draw
from tests.simulation.store import Store

BROKERS = (1, 2, 3)
#: how long it may take until a reassignment that was asked for is written
REASSIGN_MS = 15_000
#: how often it is looked whether all is well again
REST_MS = 1_000


class UnrestError(ViolationError):
    """Not all is well yet."""


class Cluster:
    """Three brokers with replicas of every partition, a producer and a consumer of each."""

    def __init__(self, seed: int, bugs: Bugs) -> None:
        self.rng = random.Random(seed)
        self.bugs = bugs
        self.agenda = Agenda()
        self.network = Network(self.agenda, self.rng)
        self.trace: list[str] = []
        self.setup = draw(self.rng)
        self.note(f"{self.setup} min.insync.replicas={bugs.min_isr}")
        self.judge = Judge(is_loose=self.setup.is_loose, unclean=self.setup.unclean)
        self.keys = [PartitionKey(TOPIC_ID, index) for index in range(self.setup.partitions)]
        topic = Topic(
            name=TOPIC, topic_id=TOPIC_ID, partitions=tuple(_fresh(it.partition) for it in self.keys)
        )
        seeds = [self.rng.getrandbits(32) for _ in BROKERS]
        self.machines = {
            broker: Machine(broker, its, self.keys, syncs=self.setup.syncs)
            for broker, its in zip(BROKERS, seeds, strict=True)
        }
        facts = TopicFacts(min_isr=bugs.min_isr, unclean=self.setup.unclean)
        self.store = Store(self.agenda, self.network, self.judge, topic, facts)
        self.store.ignores_fence = bugs.ignores_fence
        self.store.ignores_versions = bugs.ignores_versions
        self.brokers: dict[int, Broker] = {}
        self.clients: list[Client] = []
        #: is told of each write that a controller sends
        self.on_write: Callable[[], None] = lambda: None
        #: is told of each proposal that a leader sends
        self.on_proposal: Callable[[int, Proposed], None] = lambda broker, proposal: None
        #: is told of each process that was killed
        self.on_death: Callable[[int, Registration | None], None] = lambda broker, registration: None
        #: when a reassignment was asked for, and to whom
        self._moves: dict[PartitionKey, list[tuple[int, set[int]]]] = {}
        #: the proposals of the present state of each partition, which may be written though their leader died since
        self._under_way: dict[PartitionKey, list[Proposed]] = {}
        #: the broker epoch of each broker's last process whose machine lost something as it died
        self._lost: dict[int, int] = {}

    def start(self) -> None:
        """Starts every process, and clients after a while."""
        for broker in BROKERS:
            self.start_broker(broker)
        for key in self.keys:
            for kind in (LooseProducer if self.setup.is_loose else Producer, Consumer):
                client = kind(
                    key,
                    agenda=self.agenda,
                    network=self.network,
                    judge=self.judge,
                    rng=self.rng,
                    brokers=self.alive,
                    acks=self.setup.acks,
                )
                self.clients.append(client)
                self.agenda.after(self.rng.randint(100, 400), client.step)

    def note(self, what: str) -> None:
        """A line of the trace."""
        self.trace.append(f"{self.agenda.now_ms:>7} {what}")

    def alive(self) -> list[Broker]:
        """The processes that live, by id."""
        return [self.brokers[it] for it in BROKERS if it in self.brokers]

    # -- processes -------------------------------------------------------------------------------------------------

    def start_broker(self, broker: int) -> None:
        """A new process on the broker's disk."""
        self.note(f"start {broker}")
        self.brokers[broker] = Broker(
            broker,
            machine=self.machines[broker],
            agenda=self.agenda,
            network=self.network,
            store=self.store,
            judge=self.judge,
            rng=self.rng,
            bugs=self.bugs,
            peers=self.brokers.get,
        )
        self.brokers[broker].on_proposal = self.on_proposal
        self.brokers[broker].proposed = self._proposed
        self.brokers[broker].on_write = self.on_write
        self.brokers[broker].died = lambda: self.kill(broker)
        self.brokers[broker].start()

    def kill(self, broker: int, *, lose_unsynced: bool = False, wipe: bool = False) -> None:
        """Ends the process; with the machine, or the disk's contents."""
        self.note(f"kill {broker}{' with its machine' * lose_unsynced}{' and its disk' * wipe}")
        process = self.brokers.pop(broker)
        process.die()
        self.machines[broker].crash(lose_unsynced=lose_unsynced, wipe=wipe)
        if (lose_unsynced or wipe) and process.registration is not None:
            self._lost[broker] = process.registration.broker_epoch
        self.on_death(broker, process.registration)

    def stop(self, broker: int) -> None:
        """Ends the process as it wants to end itself."""
        if broker in self.brokers:
            self.note(f"end {broker}")
            process = self.brokers.pop(broker)
            process.finish()
            process.close_session()
            process.die()
            self.machines[broker].stop()

    def may_lose(self, broker: int) -> bool:
        """Whether what the broker's disk holds survives without it, on another that the cluster counts on."""
        return all(self._survives(key, broker) for key in self.keys)

    def is_unaware(self) -> bool:
        """Whether a partition counts on what a broker has lost, while one in-sync replica suffices.

        Whoever else drops out then is given up for the one that has lost it, so nothing else may befall the cluster
        until it knows.
        """
        return self.bugs.min_isr == 1 and any(
            self._lost.get(broker) == epoch
            for state in self.store.states.values()
            for broker, epoch in zip(state.isr, state.isr_epochs, strict=True)
        )

    def reassign(self, key: PartitionKey, replicas: tuple[int, ...] | None) -> None:
        """Asks who thinks that it is the controller, unless nobody would be left with what was committed."""
        state = self.store.states[key]
        target = set(replicas or (it for it in state.replicas if it not in state.adding))
        asked = [it for it in self.alive() if it.controller.is_active]
        if asked and self._survives(key, -1, among=target):
            self.note(f"reassign {key.partition} to {replicas}")
            self._moves.setdefault(key, []).append((self.agenda.now_ms, target))
            controller = self.rng.choice(asked)
            controller.now(lambda: controller.reassign(key, replicas))

    def _survives(self, key: PartitionKey, without: int, among: Iterable[int] = BROKERS) -> bool:
        state = self.store.states[key]
        promised = len(self.judge.of(key).committed)
        registered = {it.broker_id: it.broker_epoch for it in self.store.registered()}
        epochs = dict(zip(state.isr, state.isr_epochs, strict=True))
        sure = set()
        for other in (*state.isr, *state.elr):
            end = self.machines[other].end(key)
            held = self.brokers.get(other)
            is_counted = other in state.elr or registered.get(other, epochs[other]) == epochs[other]
            is_itself = held is None or held.registration is None or self.machines[other].is_clean
            stays = other in among and other not in state.removing
            is_steady = self.bugs.min_isr > 1 or self._is_steady(other, registered)
            if other != without and stays and end >= promised and is_counted and is_itself and is_steady:
                sure.add(other)
        # a proposal that is on its way may be what is counted on next, and who is eligible now is not any more then
        now = (it for it in self._under_way.get(key, ()) if it.partition_epoch == state.version)
        since_ms = self.agenda.now_ms - REASSIGN_MS
        moves = (target for at_ms, target in self._moves.get(key, ()) if at_ms >= since_ms)
        return bool(sure) and all(sure & set(it) for it in (*(it.isr for it in now), *moves))

    def _is_steady(self, broker: int, registered: dict[int, int]) -> bool:
        """Whether it stays in sync as far as anybody can tell.

        Where one in-sync replica suffices, who drops out while there is another is not eligible any more: and that one
        may be dead already, with what its machine has lost, and have a session still.
        """
        held = self.brokers.get(broker)
        if held is None or held.is_stopped or held.is_leaving or held.registration is None:
            return False
        is_cut = any(pair in self.network.cuts for pair in ((broker, STORE), (STORE, broker)))
        return registered.get(broker) == held.registration.broker_epoch and not is_cut

    def _proposed(self, proposal: Proposed) -> None:
        key = proposal.key
        now = [it for it in self._under_way.get(key, ()) if it.partition_epoch == proposal.partition_epoch]
        self._under_way[key] = [*now, proposal]

    # -- the end ---------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Everything works again."""
        self.note("heal")
        self.network.heal()
        self.store.is_down = False
        for broker in BROKERS:
            self.machines[broker].node.set_faults()
            if self.machines[broker].fails and broker in self.brokers:
                self.kill(broker)
            if broker not in self.brokers:
                self.start_broker(broker)
            elif self.brokers[broker].is_stopped:
                self.brokers[broker].go_on()

    def come_to_rest(self, within_ms: int) -> None:
        """Goes on until all is well, or raises what is not."""
        last_ms = self.agenda.now_ms + within_ms
        while True:
            self.agenda.run(events=10**9, until_ms=self.agenda.now_ms + REST_MS)
            try:
                self.check_end()
                return
            except UnrestError:
                if self.agenda.now_ms >= last_ms:
                    raise

    def check_end(self) -> None:
        """All is well: every partition has a leader with all that was acknowledged, and others like it."""
        for key in self.keys:
            leaders = [it for it in self.alive() if key in it.led()]
            if not leaders:
                raise UnrestError(f"no progress: {key.partition} has no leader: {self.store.states[key]}")
            leader = max(leaders, key=lambda it: it.led()[key])
            log = leader.machine.log(key)
            assert log is not None
            self.judge.ends_with(key, log)
            state = self.store.states[key]
            # who is not in sync yet may have what an unclean election has given up
            if set(state.isr) != set(state.replicas) or state.adding or state.removing:
                raise UnrestError(f"no progress: not all are in sync again: {state}")
            for broker in self.alive():
                if broker.id not in state.replicas:
                    continue
                other = broker.machine.log(key)
                if other is None:
                    raise UnrestError(f"no progress: {broker.id} has not opened {key.partition}")
                start = max(other.start, log.start)
                end = min(other.high_watermark, log.high_watermark)
                self.judge.require(
                    other.records(start, end) == log.records(start, end),
                    f"{broker.id} and {leader.id} differ",
                )


def _fresh(index: int) -> PartitionState:
    replicas = tuple(BROKERS[(index + step) % len(BROKERS)] for step in range(len(BROKERS)))
    # as when a topic was made while nobody lived: the controller elects whom it can
    return PartitionState(replicas=replicas, leader=-1, leader_epoch=0, isr=(), isr_epochs=(), elr=replicas)


def links(broker: int) -> list[int]:
    """The ends that a broker has connections to."""
    return [STORE, *(it for it in BROKERS if it != broker)]
