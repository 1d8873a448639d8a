"""What befalls a cluster, by lot."""

from __future__ import annotations

from fastlog.ports import PartitionState
from fastlog.state.controller.events import Proposed
from tests.simulation.broker import Broker
from tests.simulation.cluster import BROKERS, Cluster, links
from tests.simulation.network import STORE
from tests.simulation.store import SESSION_MS

PAUSE_MS = (50, 900)
#: how long a trouble lasts: some shorter than a session, some longer
LASTS_MS = (50, 9_000)
#: how often a fault strikes right where it hurts
AT_ONCE = 0.1


class Faults:
    """One trouble after the other, some at once. At most as many brokers are away as leaves one."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._rng = cluster.rng
        self.is_over = False
        #: in some seeds the cluster has time to mend, and something to lose, before the next trouble
        self._calm = self._rng.choice((1, 4, 12))

    def start(self) -> None:
        """Goes on until `is_over`."""
        self._cluster.store.on_write = self._written
        self._cluster.on_proposal = self._proposed
        self._cluster.on_write = self._sent
        for broker in self._cluster.alive():
            broker.on_proposal, broker.on_write = self._proposed, self._sent
        self._cluster.agenda.after(self._rng.randint(300, 1_500), self._next)

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
        self._rng.choice([*kinds, self._machine, self._wipe, self._bounce, self._jump])()
        pause_ms = self._rng.randint(*PAUSE_MS) * self._rng.choice((1, 1, 5)) * self._calm
        self._cluster.agenda.after(pause_ms, self._next)

    # -- at the worst moment ---------------------------------------------------------------------------------------

    def _written(self, before: PartitionState, after: PartitionState) -> None:
        """A leader dies as soon as its ISR has changed."""
        if not self.is_over and before.isr != after.isr and self._rng.random() < AT_ONCE:
            self._soon(after.leader, wipe=False)

    def _sent(self) -> None:
        """A write arrives a second time, when others have followed it."""
        if not self.is_over and self._rng.random() < AT_ONCE:
            self._cluster.network.next_late = (self._rng.randint(100, 4_000), True)

    def _proposed(self, leader: int, proposal: Proposed) -> None:
        """Before the controller has heard of it, a replica that is to be in sync is wiped and comes back; or the
        proposal arrives a second time when that replica is out of sync again; or the controller is stopped; or the
        replica gets no further, and has to lead.
        """
        if self.is_over or self._rng.random() >= 3 * AT_ONCE:
            return
        match self._rng.randint(0, 3):
            case 0:
                self._cluster.network.next_late = (self._rng.choice((60, 200)), False)
                self._soon(self._rng.choice(proposal.isr), wipe=True)
            case 1:
                late_ms = self._rng.randint(4_000, 9_000)
                self._cluster.network.next_late = (late_ms, True)
                self._cut_links([(leader, self._rng.choice(proposal.isr))], late_ms + 1_000)
                self._soon(leader, wipe=False, delay_ms=late_ms)
            case 2:
                others = [it for it in proposal.isr if it != leader]
                self._cut_links([pair for it in others for pair in ((leader, it), (it, leader))], 3_000)
                self._soon(leader, wipe=False, delay_ms=20)
            case _:
                controllers = [it for it in self._cluster.alive() if it.controller.is_active]
                if controllers:
                    self._stop_broker(
                        self._rng.choice(controllers), self._rng.randint(SESSION_MS, 2 * SESSION_MS)
                    )

    def _soon(self, broker: int, *, wipe: bool, delay_ms: int = 0) -> None:
        def strike() -> None:
            if not self.is_over and self._down(broker, wipe=wipe):
                self._cluster.agenda.after(self._rng.choice((2, 1_000)), lambda: self._up(broker))

        self._cluster.agenda.after(delay_ms + self._rng.randint(0, 30), strike)

    def _lasts(self) -> int:
        return self._rng.randint(*LASTS_MS) if self._rng.random() < 0.5 else self._rng.randint(50, 1_000)

    def _later(self, what: object) -> None:
        def guarded() -> None:
            if not self.is_over and callable(what):
                what()

        self._cluster.agenda.after(self._lasts(), guarded)

    def _victim(self) -> int:
        leaders = [it.id for it in self._cluster.alive() if it.led() or it.controller.is_active]
        if leaders and self._rng.random() < 0.6:
            return self._rng.choice(leaders)
        return self._rng.choice(BROKERS)

    # -- processes -------------------------------------------------------------------------------------------------

    def _down(self, broker: int, *, lose_unsynced: bool = False, wipe: bool = False) -> bool:
        cluster = self._cluster
        if broker not in cluster.brokers:
            return False
        if (lose_unsynced or wipe) and not cluster.may_lose(broker):
            return False
        cluster.kill(broker, lose_unsynced=lose_unsynced, wipe=wipe)
        return True

    def _up(self, broker: int) -> None:
        if broker not in self._cluster.brokers:
            self._cluster.start_broker(broker)

    def _kill(self) -> None:
        broker = self._victim()
        if self._down(broker):
            self._later(lambda: self._up(broker))

    def _machine(self) -> None:
        broker = self._victim()
        if self._down(broker, lose_unsynced=True):
            self._later(lambda: self._up(broker))

    def _wipe(self) -> None:
        broker = self._victim()
        if self._down(broker, wipe=True):
            self._later(lambda: self._up(broker))

    def _bounce(self) -> None:
        """Back before anybody has noticed (KIP-380)."""
        broker = self._victim()
        if self._down(broker, lose_unsynced=self._rng.random() < 0.3):
            self._cluster.agenda.after(self._rng.randint(1, 100), lambda: self._up(broker))

    def _stop(self) -> None:
        """SIGSTOP, SIGCONT."""
        broker = self._cluster.brokers.get(self._victim())
        if broker is not None:
            self._stop_broker(broker, self._lasts())

    def _stop_broker(self, broker: Broker, for_ms: int) -> None:
        if broker.is_stopped:
            return
        self._cluster.note(f"stop {broker.id}")
        broker.is_stopped = True

        def go_on() -> None:
            if broker.is_stopped and not self.is_over:
                self._cluster.note(f"continue {broker.id}")
                broker.go_on()

        self._cluster.agenda.after(for_ms, go_on)

    def _jump(self) -> None:
        """A clock goes forward: leases and time-outs run out at once, and followers seem to lag."""
        broker = self._cluster.brokers.get(self._victim())
        if broker is not None:
            by_ms = self._rng.choice((500, SESSION_MS, 60_000))
            self._cluster.note(f"clock of {broker.id} jumps {by_ms} ms")
            broker.jump(by_ms)

    # -- the network -----------------------------------------------------------------------------------------------

    def _cut_links(self, pairs: list[tuple[int, int]], for_ms: int | None = None) -> None:
        network = self._cluster.network
        self._cluster.note(f"cut {pairs}")
        for pair in pairs:
            network.cut(*pair)

        def mend() -> None:
            if not self.is_over:
                self._cluster.note(f"mend {pairs}")
                network.cuts.difference_update(pairs)

        self._cluster.agenda.after(self._lasts() if for_ms is None else for_ms, mend)

    def _cut(self) -> None:
        broker = self._victim()
        others = [it for it in links(broker) if self._rng.random() < 0.7]
        self._cut_links([pair for it in others for pair in ((broker, it), (it, broker))])

    def _cut_one_way(self) -> None:
        broker = self._victim()
        other = self._rng.choice(links(broker))
        self._cut_links([self._rng.choice(((broker, other), (other, broker)))])

    def _lossy(self) -> None:
        network = self._cluster.network
        network.lossy = self._rng.choice((0.02, 0.1, 0.3))
        self._cluster.note(f"lossy {network.lossy}")

        def end() -> None:
            network.lossy = 0.0
            self._cluster.note("lossy no more")

        self._later(end)

    # -- the store -------------------------------------------------------------------------------------------------

    def _store_down(self) -> None:
        store = self._cluster.store
        if self._rng.random() < 0.5:
            self._cut_links([(STORE, it) for it in BROKERS if self._rng.random() < 0.5])
            return
        self._cluster.note("store down")
        store.is_down = True

        def up() -> None:
            self._cluster.note("store up")
            store.is_down = False

        self._later(up)
