"""What befalls a cluster, by lot."""

from __future__ import annotations

from collections.abc import Callable

from fastlog.ports import PartitionState
from fastlog.state.controller.events import Proposed
from tests.simulation.broker import Broker
from tests.simulation.cluster import BROKERS, Cluster, links
from tests.simulation.network import STORE
from tests.simulation.store import SESSION_MS
from tests.simulation.troubles.deletion import Deletion
from tests.simulation.troubles.disks import BadDisk
from tests.simulation.troubles.leaving import Leaving
from tests.simulation.troubles.reassignment import Reassignment
from tests.simulation.troubles.suspicion import Suspicion
from tests.simulation.troubles.trouble import Trouble

PAUSE_MS = (50, 900)
#: how long a trouble lasts: some shorter than a session, some longer
LASTS_MS = (50, 9_000)
#: how often a fault strikes right where it hurts
AT_ONCE = 0.1


class Faults:
    """One trouble after the other, some at once. At most as many brokers are away as leaves one."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.rng = cluster.rng
        self.is_over = False
        #: in some seeds the cluster has time to mend, and something to lose, before the next trouble
        self._calm = self.rng.choice((1, 4, 12))
        self._suspicion = Suspicion(self)
        self._others: list[Trouble] = [
            Leaving(self),
            Reassignment(self),
            Deletion(self),
            BadDisk(self),
            self._suspicion,
        ]

    def start(self) -> None:
        """Goes on until `is_over`."""
        self.cluster.store.on_write = self._written
        self.cluster.on_proposal = self._proposed
        self.cluster.on_write = self._sent
        self.cluster.on_death = self._suspicion.died
        for broker in self.cluster.alive():
            broker.on_proposal, broker.on_write = self._proposed, self._sent
        self.cluster.agenda.after(self.rng.randint(300, 1_500), self._next)

    def _next(self) -> None:
        if self.is_over:
            return
        kinds = [
            self._kill,
            self._kill,
            self._stop,
            self._cut,
            self._cut_one_way,
            self._lossy,
            self._store_down,
        ]
        kinds += [self._machine, self._wipe, self._bounce, self._jump]
        kinds += [it.strike for it in self._others]
        strike = self.rng.choice(kinds)
        if not self.cluster.is_unaware():
            strike()
        pause_ms = self.rng.randint(*PAUSE_MS) * self.rng.choice((1, 1, 5)) * self._calm
        self.cluster.agenda.after(pause_ms, self._next)

    # -- at the worst moment ---------------------------------------------------------------------------------------

    def _written(self, before: PartitionState, after: PartitionState) -> None:
        """A leader dies as soon as its ISR has changed."""
        if not self.is_over and before.isr != after.isr and self.rng.random() < AT_ONCE:
            self._soon(after.leader, wipe=False)

    def _sent(self) -> None:
        """A write arrives a second time, when others have followed it."""
        if not self.is_over and self.rng.random() < AT_ONCE:
            self.cluster.network.next_late = (self.rng.randint(100, 4_000), True)

    def _proposed(self, leader: int, proposal: Proposed) -> None:
        """Before the controller has heard of it, a replica that is to be in sync is wiped and comes back; or the
        proposal arrives a second time when that replica is out of sync again; or the controller is stopped; or the
        replica gets no further, and has to lead.
        """
        if self.is_over or self.rng.random() >= 3 * AT_ONCE:
            return
        match self.rng.randint(0, 3):
            case 0:
                self.cluster.network.next_late = (self.rng.choice((60, 200)), False)
                self._soon(self.rng.choice(proposal.isr), wipe=True)
            case 1:
                late_ms = self.rng.randint(4_000, 9_000)
                self.cluster.network.next_late = (late_ms, True)
                self.cut_links([(leader, self.rng.choice(proposal.isr))], late_ms + 1_000)
                self._soon(leader, wipe=False, delay_ms=late_ms)
            case 2:
                others = [it for it in proposal.isr if it != leader]
                self.cut_links([pair for it in others for pair in ((leader, it), (it, leader))], 3_000)
                self._soon(leader, wipe=False, delay_ms=20)
            case _:
                controllers = [it for it in self.cluster.alive() if it.controller.is_active]
                if controllers:
                    self.stop_broker(
                        self.rng.choice(controllers), self.rng.randint(SESSION_MS, 2 * SESSION_MS)
                    )

    def _soon(self, broker: int, *, wipe: bool, delay_ms: int = 0) -> None:
        def strike() -> None:
            if not self.is_over and self.down(broker, wipe=wipe):
                self.cluster.agenda.after(self.rng.choice((2, 1_000)), lambda: self.up(broker))

        self.cluster.agenda.after(delay_ms + self.rng.randint(0, 30), strike)

    def lasts(self) -> int:
        """How long a trouble lasts, in milliseconds."""
        return self.rng.randint(*LASTS_MS) if self.rng.random() < 0.5 else self.rng.randint(50, 1_000)

    def later(self, what: Callable[[], object]) -> None:
        """Has a trouble end, unless all are over by then."""

        def guarded() -> None:
            if not self.is_over:
                what()

        self.cluster.agenda.after(self.lasts(), guarded)

    def victim(self) -> int:
        """A broker, more often one that leads or controls."""
        leaders = [it.id for it in self.cluster.alive() if it.led() or it.controller.is_active]
        if leaders and self.rng.random() < 0.6:
            return self.rng.choice(leaders)
        return self.rng.choice(BROKERS)

    # -- processes -------------------------------------------------------------------------------------------------

    def down(self, broker: int, *, lose_unsynced: bool = False, wipe: bool = False) -> bool:
        """Kills a process, unless what is only there would be lost."""
        cluster = self.cluster
        if broker not in cluster.brokers or cluster.is_unaware():
            return False
        if (lose_unsynced or wipe) and not cluster.may_lose(broker):
            return False
        cluster.kill(broker, lose_unsynced=lose_unsynced, wipe=wipe)
        return True

    def up(self, broker: int) -> None:
        """Starts a process where none runs."""
        if broker not in self.cluster.brokers:
            self.cluster.start_broker(broker)

    def _kill(self) -> None:
        broker = self.victim()
        if self.down(broker):
            self.later(lambda: self.up(broker))

    def _machine(self) -> None:
        broker = self.victim()
        if self.down(broker, lose_unsynced=True):
            self.later(lambda: self.up(broker))

    def _wipe(self) -> None:
        broker = self.victim()
        if self.down(broker, wipe=True):
            self.later(lambda: self.up(broker))

    def _bounce(self) -> None:
        """Back before anybody has noticed (KIP-380)."""
        broker = self.victim()
        if self.down(broker, lose_unsynced=self.rng.random() < 0.3):
            self.cluster.agenda.after(self.rng.randint(1, 100), lambda: self.up(broker))

    def _stop(self) -> None:
        """SIGSTOP, SIGCONT."""
        broker = self.cluster.brokers.get(self.victim())
        if broker is not None:
            self.stop_broker(broker, self.lasts())

    def stop_broker(self, broker: Broker, for_ms: int) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        if broker.is_stopped or self.cluster.is_unaware():
            return
        self.cluster.note(f"stop {broker.id}")
        broker.is_stopped = True

        def go_on() -> None:
            if broker.is_stopped and not self.is_over:
                self.cluster.note(f"continue {broker.id}")
                broker.go_on()

        self.cluster.agenda.after(for_ms, go_on)

    def _jump(self) -> None:
        """A clock goes forward: leases and time-outs run out at once, and followers seem to lag."""
        broker = self.cluster.brokers.get(self.victim())
        if broker is not None:
            by_ms = self.rng.choice((500, SESSION_MS, 60_000))
            self.cluster.note(f"clock of {broker.id} jumps {by_ms} ms")
            broker.jump(by_ms)

    # -- the network -----------------------------------------------------------------------------------------------

    def cut_links(self, pairs: list[tuple[int, int]], for_ms: int | None = None) -> None:
        """Lets nothing pass, one way each."""
        if self.cluster.is_unaware():
            return
        network = self.cluster.network
        self.cluster.note(f"cut {pairs}")
        for pair in pairs:
            network.cut(*pair)

        def mend() -> None:
            if not self.is_over:
                self.cluster.note(f"mend {pairs}")
                network.cuts.difference_update(pairs)

        self.cluster.agenda.after(self.lasts() if for_ms is None else for_ms, mend)

    def _cut(self) -> None:
        broker = self.victim()
        others = [it for it in links(broker) if self.rng.random() < 0.7]
        self.cut_links([pair for it in others for pair in ((broker, it), (it, broker))])

    def _cut_one_way(self) -> None:
        broker = self.victim()
        other = self.rng.choice(links(broker))
        self.cut_links([self.rng.choice(((broker, other), (other, broker)))])

    def _lossy(self) -> None:
        network = self.cluster.network
        network.lossy = self.rng.choice((0.02, 0.1, 0.3))
        self.cluster.note(f"lossy {network.lossy}")

        def end() -> None:
            network.lossy = 0.0
            self.cluster.note("lossy no more")

        self.later(end)

    # -- the store -------------------------------------------------------------------------------------------------

    def _store_down(self) -> None:
        store = self.cluster.store
        if self.rng.random() < 0.5:
            self.cut_links([(STORE, it) for it in BROKERS if self.rng.random() < 0.5])
            return
        self.cluster.note("store down")
        store.is_down = True

        def up() -> None:
            self.cluster.note("store up")
            store.is_down = False

        self.later(up)
