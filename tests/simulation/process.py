"""What every process of the simulation has: a machine, a life, clocks and messages."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from fastlog.errors import KafkaError
from fastlog.ports import Registration
from fastlog.state.controller.controller import Controller
from fastlog.state.controller.events import Proposed
from fastlog.state.replica.lease import Lease
from tests.simulation.bugs import Bugs
from tests.simulation.checks import Judge
from tests.simulation.events import Agenda
from tests.simulation.machine import Machine
from tests.simulation.network import Network
from tests.simulation.store import Session, Store

if TYPE_CHECKING:
    from tests.simulation.broker import Broker


#: a machine's clock counts from its start
BOOTED_MS = 10**9
#: how fast it goes, far worse than any real one; a lease of two thirds of a session bears no less than two thirds
PACES = (0.8, 1.0, 1.0, 1.25)


class Process:
    """One process, from its start to its death."""

    def __init__(
        self,
        broker_id: int,
        *,
        machine: Machine,
        agenda: Agenda,
        network: Network,
        store: Store,
        judge: Judge,
        rng: random.Random,
        bugs: Bugs,
        peers: Callable[[int], Broker | None],
    ) -> None:
        self.id = broker_id
        self.machine = machine
        self.is_alive = True
        self.is_stopped = False
        self.is_leaving = False
        self._late: list[Callable[[], None]] = []
        self._agenda = agenda
        self._booted_ms = rng.randint(0, BOOTED_MS)
        self._pace = rng.choice(PACES)
        self._network = network
        self._store = store
        self._judge = judge
        self._rng = rng
        self._bugs = bugs
        self._peers = peers
        self._incarnation = UUID(int=rng.getrandbits(128))
        self._session: Session | None = None
        self._changes = 0
        self._seen_change = 0
        #: of this process's clock, when the machine was last told how late it is
        self._told_ms = self.clock_ms
        self._was_stopped = False
        self.registration: Registration | None = None
        self.lease: Lease | None = None
        #: is told of each write as it is sent to the store
        self.on_write: Callable[[], None] = lambda: None
        #: is told of each proposal as it is sent
        self.proposed: Callable[[Proposed], None] = lambda proposal: None
        self.on_proposal: Callable[[int, Proposed], None] = lambda broker, proposal: None
        #: is told that it died in the middle of a call
        self.died: Callable[[], None] = lambda: None
        # the controller, where it is one
        self.controller = Controller()
        self._controller_epoch = 0

    # -- life ------------------------------------------------------------------------------------------------------

    @property
    def clock_ms(self) -> int:
        """The monotonic clock of this process: it says nothing to any other."""
        return self._booted_ms + int(self._agenda.now_ms * self._pace)

    def jump(self, by_ms: int) -> None:
        """The clock goes on from later, as after its machine was suspended."""
        self._booted_ms += by_ms
        self._was_stopped = True

    def later(self, delay_ms: int, what: Callable[[], None]) -> None:
        """Has this process do something, unless it is dead by then; while it is stopped it waits."""
        self._agenda.after(delay_ms, lambda: self.now(what))

    def now(self, what: Callable[[], None]) -> None:
        """Has this process do something now; or once it goes on, where it is stopped."""
        if not self.is_alive:
            return
        if self.is_stopped:
            self._late.append(what)
            return
        try:
            self._advance()
            what()
            if self.is_alive:
                self._settle()
        except (KafkaError, OSError, RuntimeError):
            if not (self.machine.fails or self.machine.node.is_dead()):
                raise
        if self.is_alive and self.machine.node.is_dead():
            self.died()

    def go_on(self) -> None:
        """SIGCONT."""
        self.is_stopped = False
        self._was_stopped = True
        late, self._late = self._late, []
        for what in late:
            self.now(what)

    def _every(self, interval_ms: int, what: Callable[[], None]) -> None:
        def again() -> None:
            what()
            self.later(interval_ms, again)

        self.later(self._rng.randint(1, interval_ms), again)

    def _to(self, target: int, what: Callable[[Broker], None]) -> None:
        """Sends to another broker's process that lives when it arrives."""

        def arrive() -> None:
            peer = self._peers(target)
            if peer is not None:
                peer.now(lambda: what(peer))

        self._network.send(self.id, target, arrive)

    def _back(self, asker: Process, what: Callable[[], None]) -> None:
        """Sends an answer to the process that asked; a later one of the same id does not get it."""
        self._network.send(self.id, asker.id, lambda: asker.now(what))

    # -- the machine -----------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """The machine's clock goes on as this process's."""
        now_ms = self.clock_ms
        by_ms, self._told_ms = now_ms - self._told_ms, now_ms
        self.machine.advance(by_ms, at_once=self._was_stopped)
        self._was_stopped = False

    def _machine_ms(self, clock_ms: int) -> int:
        """A moment of this process's clock as the machine counts it."""
        return self.machine.now_ms + clock_ms - self._told_ms

    # -- what others do --------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Carries out what came of what was just done."""
        raise NotImplementedError
