"""The replicas of a broker: the real manager and the real engine, with calls for what threads do elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from queue import Empty
from typing import TYPE_CHECKING, Any

from fastlog.broker.peers.messages import Answer
from fastlog.broker.replicas.image import ClusterImage
from fastlog.broker.replicas.manager import ReplicaManager
from fastlog.broker.replicas.settings import ReplicaSettings
from fastlog.config import Config
from fastlog.errors import KafkaError, NotControllerError, RequestTimedOutError
from fastlog.ports import PartitionKey
from fastlog.state.controller.events import IsrAsked
from tests.simulation.client_calls import ClientCalls
from tests.simulation.fetching import SimulatedFetching
from tests.simulation.machine import LAG_MS
from tests.simulation.watched import WatchedEngine

if TYPE_CHECKING:
    from tests.simulation.broker import Broker

SETTINGS = ReplicaSettings(
    lag_ms=LAG_MS,
    fetch_wait_ms=500,
    # a batch each, so that catching up takes a while
    fetch_bytes_max=100,
    response_bytes_max=200,
    request_timeout_ms=1_000,
    proposal_timeout_ms=1_500,
)

#: how long a sync takes
SYNC_MS = (0, 12)

Handle = Callable[[Any, Callable[[Answer], None]], None]


class SteppedManager(ReplicaManager):
    """The worker's thread is whoever calls."""

    def __init__(self, *, may_fail: Callable[[], bool], **parts: Any) -> None:
        """`may_fail` says whether the disk fails: otherwise nothing does."""
        super().__init__(**parts)
        self._may_fail = may_fail

    def step(self) -> None:
        """Does what was put."""
        while True:
            try:
                item = self._inbox.get_nowait()
            except Empty:
                return
            if item is not None:
                self._guarded(*item)
                self.tick()

    def tick(self) -> None:
        """Time has passed."""
        self._guarded(self._tick, ())

    def led(self) -> Mapping[PartitionKey, int]:
        """The leader epoch of each partition that is led."""
        return {key: it.state.leader_epoch for key, it in self._replicas.leaders._led.items()}

    def _guarded(self, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        # what the worker would log ends the simulation
        try:
            work(*arguments)
        except (KafkaError, OSError):
            if not self._may_fail():
                raise
        if self._replicas.leaders.take_wants_state():
            self._carry_out(self._subscriber.ask(self._clock.monotonic_ms()))
        self._replicas.propose(self._subscriber.controller_id, self._subscriber.controller_epoch)


class Replicas(ClientCalls):
    """The replicas of one process."""

    def __init__(self, broker_id: int, **parts: Any) -> None:
        super().__init__(broker_id, **parts)
        self._is_syncing = False
        self._handlers: dict[type, Handle] = {}
        store, bugs = self._store, self._bugs
        self.engine: Any = WatchedEngine(
            broker_id,
            self.machine,
            self._judge,
            bugs,
            broker_epoch=lambda: -1 if self.registration is None else self.registration.broker_epoch,
            is_current=lambda key, epoch: (
                store.states[key].leader_epoch == epoch and not store.states[key].recovering
            ),
            holds_lease=self.holds_lease,
        )
        self.engine.set_lease(0)
        me: Any = self
        self.manager = SteppedManager(
            may_fail=lambda: self.machine.fails,
            node_id=broker_id,
            config=Config(
                static={
                    "min.insync.replicas": str(bugs.min_isr),
                    "fastlog.durability": "fsync" if self.machine.syncs else "os",
                }
            ),
            engine=self.engine,
            peers=me,
            commands=me,
            clock=me,
            fetching=lambda leader: SimulatedFetching(leader, me, SETTINGS),
            settings=SETTINGS,
            accepted=self._accepted,
        )

    # -- looks -----------------------------------------------------------------------------------------------------

    @property
    def image(self) -> ClusterImage:
        """The cluster as it is known here."""
        return self.manager.image

    def led(self) -> Mapping[PartitionKey, int]:
        """The leader epoch of each partition that is led here."""
        return self.manager.led()

    def holds_lease(self) -> bool:
        """Whether the process may act on its own word."""
        return self.lease is not None and self.lease.holds(self.clock_ms)

    # -- life ------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Syncs what somebody waits for, as a broker that stops does: what it leads alone is committed by that."""
        if not self.machine.fails:
            self.machine.node.run_syncs()
            self.engine.look()

    def die(self) -> None:
        """Ends the process."""
        self.is_alive = False
        self.engine.let_go()

    def _settle(self) -> None:
        if self.engine.has_notices():
            self.manager.noticed()
        self.manager.step()
        self.engine.look()
        self._drain()
        self._wake()
        if not self._is_syncing and self.machine.is_unsynced():
            self._is_syncing = True
            self.later(self._rng.randint(*SYNC_MS), self._sync)

    def _sync(self) -> None:
        self._is_syncing = False
        self.machine.node.run_syncs()

    def _wake(self) -> None:
        """Comes back when the engine has something to do."""
        due_ms = self.machine.node.next_due_ms()
        if due_ms is None or due_ms == self._due_ms:
            return
        self._due_ms = due_ms
        delay_ms = int((due_ms - self.machine.now_ms) / self._pace) + 1
        self.later(max(1, delay_ms), self._woken)

    def _woken(self) -> None:
        self._due_ms = None

    # -- what the manager is given ---------------------------------------------------------------------------------

    def monotonic_ms(self) -> int:
        """See Clock."""
        return self.clock_ms

    def on(self, kind: type, handle: Handle) -> None:
        """See Commands."""
        self._handlers[kind] = handle

    def ask(
        self,
        broker_id: int,
        command: object,
        answered: Callable[[Answer], None],
        *,
        timeout_ms: int,
        lane: str,
    ) -> None:
        """See Peers."""
        is_over = False

        def finish(answer: Answer) -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                answered(answer)

        if isinstance(command, IsrAsked):
            for proposed in command.proposals:
                self.proposed(proposed)
                self.on_proposal(self.id, proposed)

        def arrive(peer: Broker) -> None:
            peer.commanded(command, lambda answer: peer._back(self, lambda: finish(answer)))

        self._to(broker_id, arrive)
        self.later(timeout_ms, lambda: finish(Answer(code=RequestTimedOutError.code)))

    def commanded(self, command: Any, back: Callable[[Answer], None]) -> None:
        """A command of another broker."""
        handle = self._handlers.get(type(command))
        if handle is None:
            back(Answer(code=NotControllerError.code))
        else:
            handle(command, back)

    # -- what others do --------------------------------------------------------------------------------------------

    def _accepted(self, broker_epoch: int, controller_epoch: int) -> None:
        """A controller has published this registration."""
        raise NotImplementedError
