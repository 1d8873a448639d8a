"""This broker's registration, and the registrations that it sees: kept up to what ZooKeeper tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.controller.candidacy import REPAIR_MS, RETRY_MS
from fastlog.cluster.zookeeper.events import Changed, Connected, Suspended
from fastlog.cluster.zookeeper.membership import Membership
from fastlog.cluster.zookeeper.presence import Presence
from fastlog.events import EventLog
from fastlog.ports import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.broker.controller.candidacy import Candidacy
    from fastlog.broker.controller.driver import ControllerDriver
    from fastlog.broker.controller.ports import Replicas, Schedule
    from fastlog.broker.controller.suspicion import Suspicion
    from fastlog.broker.peers.ports import Peers
    from fastlog.cluster.incarnation import Incarnations
    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
    from fastlog.cluster.zookeeper.events import ClusterEvent
    from fastlog.ports import Registration

    Seen = Callable[[Sequence[Registration]], None]
    First = Callable[[Registration | Exception], None]


class Attendance:
    """What is done about ZooKeeper's events. All calls come from the schedule's thread."""

    def __init__(
        self,
        connection: ZooKeeperConnection,
        broker: Registration,
        incarnations: Incarnations,
        *,
        tell: Callable[[ClusterEvent], None],
        schedule: Schedule,
        peers: Peers,
        replicas: Replicas,
        driver: ControllerDriver,
        candidacy: Candidacy,
        suspicion: Suspicion,
        seen: Seen,
        first: First,
    ) -> None:
        """Notes the start in the data directory; raises CorruptStoreError, OSError.

        `first` is told when the broker is registered, or why it is not to be.
        """
        self._presence = Presence(
            connection, broker, incarnations, publish=replicas.set_lease, tell=tell, entering=self._entering
        )
        self._members = Membership(connection)
        self._schedule = schedule
        self._peers = peers
        self._replicas = replicas
        self._driver = driver
        self._candidacy = candidacy
        self._suspicion = suspicion
        self._seen = seen
        self._first = first
        self.is_connected = False
        """Whether ZooKeeper answers, as far as is known."""
        # of the tries that are waited for, so that there is one of each at a time
        self._looks = 0
        self._tries = 0
        self._is_over = False
        self._log = EventLog("cluster")

    def on(self, event: ClusterEvent) -> None:
        """Takes what ZooKeeper told."""
        if self._is_over:
            return
        if isinstance(event, Changed):
            self._changed(event)
            return
        self._log.info("zookeeper told", event=type(event).__name__)
        if isinstance(event, Connected | Suspended):
            self.is_connected = isinstance(event, Connected)
        before = self._presence.registered
        self._enter(lambda: self._presence.on(event))
        now = self._presence.registered
        if now is None:
            self._left()
        elif now is before and isinstance(event, Connected):
            # its watches are gone
            self._look_at_brokers()
            self._candidacy.look()

    def _changed(self, event: Changed) -> None:
        if event.what == "brokers":
            self._look_at_brokers()
        else:
            self._candidacy.look()

    def end(self) -> None:
        """Gives up the lease; nothing is done any more."""
        self._is_over = True
        self._left()
        self._presence.leave()

    # --- the registration ---

    @property
    def registered(self) -> Registration | None:
        """The registration as it is now, as far as is known; read by any thread."""
        return self._presence.registered

    def confirmed(self) -> None:
        """See Presence."""
        self._presence.confirmed()

    def _entering(self) -> None:
        """Before the broker registers: the lease that follows must not vouch for anything that was led before."""
        self._left()
        self._replicas.resign()

    def _left(self) -> None:
        """There is no registration."""
        self._candidacy.left()
        self._suspicion.entered(None)

    def try_again(self, delay_ms: int) -> None:
        """Registers in so long, unless that has been done by then. Without a connection, when there is one."""
        self._tries += 1
        number = self._tries

        def again() -> None:
            if number != self._tries or self._is_over or self._presence.registered is not None:
                return
            # it would wait for one, and the thread with it; to be told of one is another try
            if self.is_connected:
                self._enter(lambda: self._presence.enter() is not None)

        self._schedule.after(delay_ms, again)

    def _enter(self, enter: Callable[[], bool]) -> None:
        """Lets the presence act; where it could not, it is tried again. A try that waits is not given up for it."""
        try:
            if enter():
                self._entered()
        except StoreUnavailableError as error:
            self._log.warning("not registered", reason=str(error))
            self.try_again(RETRY_MS)
        except (StoreError, OSError) as error:
            self._log.error("not registered", reason=str(error))
            self._first(error)
            self.try_again(REPAIR_MS)

    def _entered(self) -> None:
        own = self._presence.registered
        if own is None:
            return
        self._log.info("broker registered", broker=own.broker_id, epoch=own.broker_epoch)
        self._replicas.registered(own)
        self._suspicion.entered(own)
        self._look_at_brokers()
        self._candidacy.entered(own)
        self._first(own)

    # --- the others ---

    def _look_at_brokers(self) -> None:
        self._looks += 1
        try:
            live = self._members.live()
        except StoreError as error:
            self._log.warning("brokers not read", reason=str(error))
            self._look_later(self._looks)
            return
        for broken in live.broken:
            self._log.error("a registration is garbage", path=broken.path, reason=broken.reason)
        self._peers.know(live.registrations)
        self._seen(live.registrations)
        self._suspicion.know(live.registrations)
        self._driver.brokers(live.registrations)

    def _look_later(self, number: int) -> None:
        def again() -> None:
            if number == self._looks and not self._is_over:
                self._look_at_brokers()

        self._schedule.after(RETRY_MS, again)
