"""The cluster worker: this broker's session, its registration, the peers that it sees, and the controller it may be.

One thread takes everything in order: what ZooKeeper tells, commands, answers of peers, time. kazoo's threads only put
events into its queue.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fastlog.broker.controller.attendance import Attendance
from fastlog.broker.controller.candidacy import REPAIR_MS, Candidacy
from fastlog.broker.controller.commands import take_commands
from fastlog.broker.controller.driver import ControllerDriver
from fastlog.broker.controller.loop import Loop
from fastlog.broker.controller.replies import not_controller
from fastlog.broker.controller.shutdown import leave
from fastlog.broker.controller.suspicion import Suspicion
from fastlog.broker.system import SystemClock
from fastlog.broker.worker import Worker
from fastlog.events import EventLog
from fastlog.ports import StoreUnavailableError
from fastlog.state.controller.settings import ControllerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.broker.controller.ports import Facts, Probe, Replicas, Work
    from fastlog.broker.peers.messages import Answer
    from fastlog.broker.peers.ports import Commands, Notices, Peers
    from fastlog.cluster.incarnation import Incarnations
    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
    from fastlog.cluster.zookeeper.election import Controller
    from fastlog.cluster.zookeeper.events import ClusterEvent
    from fastlog.ports import Registration
    from fastlog.state.controller.effects import Item

    Connect = Callable[[Callable[[ClusterEvent], None]], ZooKeeperConnection]

START_SECONDS = 30.0
BEACON_MS = 250
TICK_MS = 500


class ClusterWorker:
    """One broker's membership, from `start` to `stop`."""

    def __init__(
        self,
        broker: Registration,
        incarnations: Incarnations,
        *,
        connect: Connect,
        join: Callable[[ZooKeeperConnection], object],
        peers: Peers,
        commands: Commands,
        notices: Notices,
        replicas: Replicas,
        probe: Probe,
        facts: Facts,
        settings: ControllerSettings | None = None,
        seen: Callable[[Sequence[Registration]], None] = lambda live: None,
    ) -> None:
        """Makes the connection and notes the start in the data directory; raises CorruptStoreError, OSError.

        `broker` is what to register, its epoch aside. `connect` makes a connection that tells what it is given;
        `join` is called once it is started, before the broker registers, and refuses by raising StoreError. `seen` is
        told who is registered, after the peers were: it may only hand over.
        """
        self._log = EventLog("cluster")
        self._peers = peers
        self._join = join
        self._loop = Loop("cluster", SystemClock(), self._failed)
        self._stores = Worker("store")
        self._prober = Worker("prober")
        self.connection = connect(self._tell)
        self._driver = ControllerDriver(
            broker.broker_id,
            settings=settings or ControllerSettings(),
            facts=facts,
            schedule=self._loop,
            stores=self._stores,
            peers=peers,
            notices=notices,
            replicas=replicas,
            resigned=self._resigned,
        )
        self._suspicion = Suspicion(
            broker.broker_id,
            schedule=self._loop,
            prober=self._prober,
            probe=probe,
            peers=peers,
            take_over=self._take_over,
        )
        self._replicas = replicas
        self._candidacy = Candidacy(self.connection, self._driver, self._loop, self._controller_is)
        self._attendance = Attendance(
            self.connection,
            broker,
            incarnations,
            tell=self._tell,
            schedule=self._loop,
            peers=peers,
            replicas=replicas,
            driver=self._driver,
            candidacy=self._candidacy,
            suspicion=self._suspicion,
            seen=seen,
            first=self._is_in,
        )
        self._is_decided = threading.Event()
        self._first: list[Registration | Exception] = []
        self._is_stopped = False
        take_commands(commands, self._hand_over, self._driver, self._suspicion)

    # --- on any thread ---

    def _hand_over(self, work: Work, answered: Callable[[Answer], None]) -> None:
        if self._is_stopped:
            answered(not_controller())
        else:
            self._loop.put(work)

    def _tell(self, event: ClusterEvent) -> None:
        self._loop.put(lambda: self._attendance.on(event))

    # --- on the worker's thread ---

    def _resigned(self) -> None:
        self._candidacy.fenced()

    def _controller_is(self, controller: Controller | None) -> None:
        self._suspicion.controller_is(controller)
        if controller is not None:
            self._replicas.elected(controller.broker_id, controller.controller_epoch)

    def _take_over(self, dead: Controller) -> None:
        self._candidacy.take_over(dead)

    def _is_in(self, result: Registration | Exception) -> None:
        if not self._first:
            self._first.append(result)
            self._is_decided.set()

    def _begin(self) -> None:
        self._every(BEACON_MS, self._driver.beacon)
        self._every(TICK_MS, self._driver.tick)
        self._suspicion.start()

    def _every(self, interval_ms: int, work: Work) -> None:
        def again() -> None:
            # first, so that an error does not end it
            self._loop.after(interval_ms, again)
            work()

        self._loop.after(interval_ms, again)

    def _failed(self, error: Exception) -> None:
        """An error of ours: what the controller thought is not to be trusted, and another broker may do better."""
        self._log.exception("the cluster worker failed", error)
        self._driver.abandon()
        self._candidacy.make_room()
        self._attendance.try_again(REPAIR_MS)

    def _end(self) -> None:
        if self._attendance.is_connected:
            self._candidacy.resign()
        self._attendance.end()

    # --- what others ask; from any thread ---

    @property
    def registered(self) -> Registration | None:
        """This broker's registration as it is now, as far as is known."""
        return self._attendance.registered

    @property
    def is_connected(self) -> bool:
        """Whether ZooKeeper answers, as far as is known."""
        return self._attendance.is_connected

    @property
    def controller(self) -> Controller | None:
        """The broker that controls, as ZooKeeper last said."""
        return self._candidacy.controller

    def connection_lost(self, broker_id: int) -> None:
        """A connection to a peer went: its ports are tried at once."""
        self._loop.put(lambda: self._suspicion.doubt(broker_id))

    def confirm(self, broker_epoch: int, controller_epoch: int, confirmed: Work) -> None:
        """A controller of that epoch has published this broker's registration: does ZooKeeper still name it?

        If so, nobody counts any more on what an unclean start lost: later registrations say that they are clean, and
        `confirmed` is called, once, on the cluster worker's thread. If not, the next controller publishes it again.
        """

        def look() -> None:
            own = self._attendance.registered
            if own is None or own.broker_epoch != broker_epoch or self._is_stopped:
                return
            named = self._candidacy.named_epoch()
            if named is None or named < controller_epoch:
                # not read, or by a server of ZooKeeper that is behind, or between two controllers
                self._loop.after(REPAIR_MS, look)
            elif named == controller_epoch:
                self._attendance.confirmed()
                confirmed()

        self._loop.put(look)

    # --- start and stop ---

    def start(self, seconds: float = START_SECONDS) -> Registration:
        """Connects, joins, registers, and stands for election; blocks until the broker is registered.

        Raises StoreError with what is wrong, NodeIdInUseError among them; StoreUnavailableError where it takes longer
        than `seconds`. Everything is stopped again then.
        """
        try:
            self.connection.start(seconds)
            self._join(self.connection)
            self._stores.start()
            self._prober.start()
            self._loop.put(self._begin)
            self._loop.start()
            if not self._is_decided.wait(seconds):
                raise StoreUnavailableError(
                    f"ZooKeeper at {self.connection.hosts} took no registration within {seconds} s"
                )
            first = self._first[0]
            if isinstance(first, Exception):
                raise first
        except BaseException:
            self.stop()
            raise
        return first

    def shut_down(
        self, *, tries: int = 3, timeout_ms: int = 5_000, pause_ms: int = 500
    ) -> tuple[Item, ...] | None:
        """Controlled shutdown: has the controller move everything off this broker; blocks, not on its thread.

        Answers what the broker still leads, None where no controller said. `stop` comes after it.
        """

        def who() -> tuple[int, Registration] | None:
            own, controller = self.registered, self.controller
            return None if own is None or controller is None else (controller.broker_id, own)

        return leave(self._peers, who, tries=tries, timeout_ms=timeout_ms, pause_ms=pause_ms)

    def stop(self) -> None:
        """Gives up control, the lease and the registration, and ends; again is harmless.

        Blocks for a moment; where ZooKeeper does not answer up to a session's time-out, and the session ends by itself.
        """
        if self._is_stopped:
            return
        self._is_stopped = True
        self._loop.put(self._end)
        self._loop.stop()
        self.connection.close()
        self._stores.stop()
        self._prober.stop()
