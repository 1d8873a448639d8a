"""Stands for election whenever nobody controls, and makes the controller of it when this broker wins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.cluster.zookeeper.election import Controller, Election
from fastlog.cluster.zookeeper.membership import Membership
from fastlog.cluster.zookeeper.metadata.store import ZooKeeperStore
from fastlog.events import EventLog
from fastlog.ports import FencedError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.broker.controller.driver import ControllerDriver
    from fastlog.broker.controller.ports import Schedule
    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
    from fastlog.cluster.zookeeper.metadata.fence import Fence
    from fastlog.ports import Registration

RETRY_MS = 200
#: after garbage, or an error of ours: others are to have their chance
REPAIR_MS = 1_000


class Candidacy:
    """One broker's elections, in one registration after the other. All calls come from the schedule's thread."""

    def __init__(
        self,
        connection: ZooKeeperConnection,
        driver: ControllerDriver,
        schedule: Schedule,
        controller_is: Callable[[Controller | None], None],
    ) -> None:
        """`controller_is` is told who controls, as often as that is read."""
        self._connection = connection
        self._members = Membership(connection)
        self._driver = driver
        self._schedule = schedule
        self._controller_is = controller_is
        self._own: Registration | None = None
        self._session = 0
        self._election: Election | None = None
        self._fence: Fence | None = None
        # of the try that is waited for, so that there is one at a time
        self._try = 0
        self._not_before_ms = 0
        self.controller: Controller | None = None
        """Who controls, as last read; read by any thread."""
        self._log = EventLog("controller")

    def entered(self, own: Registration) -> None:
        """The broker is registered."""
        self._own, self._session = own, self._connection.session
        self._election = Election(self._connection, broker_id=own.broker_id, broker_epoch=own.broker_epoch)
        self.look()

    def left(self) -> None:
        """The registration is over, and with it the candidacy, and the term if there is one."""
        self._driver.end()
        self._own, self._election, self._fence = None, None, None
        self._try += 1

    def named_epoch(self) -> int | None:
        """The controller epoch that ZooKeeper names now, -1 where nobody controls; None where it cannot be read."""
        if self._election is None:
            return None
        try:
            current = self._election.current()
        except StoreError as error:
            self._log.info("controller not read", reason=str(error))
            return None
        return -1 if current is None else current.controller_epoch

    def look(self) -> None:
        """Who controls may have changed."""
        self._try += 1
        election = self._election
        if election is None or self._connection.session not in {0, self._session}:
            # a session in which the broker is not registered yet
            return
        if self._driver.is_active and self._still_controls(election):
            return
        self._driver.end()
        pause_ms = self._not_before_ms - self._schedule.now_ms()
        if pause_ms > 0:
            self._again(pause_ms)
            self._look_on(election)
        else:
            self._stand(election.stand)

    def take_over(self, dead: Controller) -> None:
        """Every live peer found the controller dead."""
        election = self._election
        if election is not None and not self._driver.is_active:
            self._try += 1
            self._stand(lambda: election.take_over(dead))

    def fenced(self) -> None:
        """The term has ended: a write met another controller's epoch."""
        self._schedule.put(self.look)

    def resign(self) -> None:
        """Ends the term, and has another broker elected at once."""
        self._driver.end()
        election, fence, self._fence = self._election, self._fence, None
        if election is None or fence is None:
            return
        try:
            election.resign(fence)
        except StoreError as error:
            self._log.warning("control not given up", reason=str(error))

    def make_room(self) -> None:
        """Gives control up, and stands again only after a while in which others may."""
        self._not_before_ms = self._schedule.now_ms() + REPAIR_MS
        self.resign()
        self._again(REPAIR_MS)

    def _look_on(self, election: Election) -> None:
        """Who controls, without standing."""
        try:
            current = election.current()
        except StoreError as error:
            self._log.info("controller not read", reason=str(error))
            return
        if current is not None:
            self._know(current)

    def _still_controls(self, election: Election) -> bool:
        own = self._own
        try:
            current = election.current()
        except StoreError as error:
            # until the next look every write is fenced
            self._log.info("controller not read", reason=str(error))
            self._again(RETRY_MS)
            return True
        return (
            own is not None
            and current is not None
            and (current.broker_id, current.broker_epoch) == (own.broker_id, own.broker_epoch)
        )

    def _stand(self, candidate: Callable[[], Fence | Controller]) -> None:
        try:
            result = candidate()
            if isinstance(result, Controller):
                self._fence = None
                self._know(result)
            else:
                self._fence = result
                self._won(result)
        except FencedError:
            # another won while all was read
            self._again(0)
        except StoreUnavailableError as error:
            self._log.info("no election", reason=str(error))
            self._again(RETRY_MS)
        except StoreError as error:
            self._log.error("the controller cannot begin", reason=str(error))
            self.make_room()

    def _won(self, fence: Fence) -> None:
        """Loads all after winning. Whoever registers after `live` is told by the watch that it sets."""
        own = self._own
        if own is None:
            return
        store = ZooKeeperStore(self._connection).fenced(fence)
        for name in store.clear_unfinished():
            self._log.info("unfinished topic cleared", topic=name)
        stored, live = store.snapshot(), self._members.live()
        self._driver.begin(store, fence.controller_epoch, stored, live.registrations)
        self._know(
            Controller(
                broker_id=own.broker_id,
                broker_epoch=own.broker_epoch,
                controller_epoch=fence.controller_epoch,
                version=fence.version,
            )
        )

    def _know(self, controller: Controller) -> None:
        self.controller = controller
        self._controller_is(controller)

    def _again(self, delay_ms: int) -> None:
        self._try += 1
        number = self._try
        self._schedule.after(delay_ms, lambda: self.look() if number == self._try else None)
