"""Keeps this broker in: registered anew in each session, with a lease for each registration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.cluster.zookeeper.events import Connected, SessionEnded, Unregistered
from fastlog.cluster.zookeeper.lease import LeaseKeeper
from fastlog.cluster.zookeeper.membership import Membership

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.cluster.incarnation import Incarnations
    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
    from fastlog.cluster.zookeeper.events import ClusterEvent
    from fastlog.ports import Registration


class Presence:
    """One broker's registrations, one after the other. All calls come from one thread, which takes the events."""

    def __init__(
        self,
        connection: ZooKeeperConnection,
        broker: Registration,
        incarnations: Incarnations,
        *,
        publish: Callable[[int], None],
        tell: Callable[[ClusterEvent], None],
        entering: Callable[[], None] = lambda: None,
    ) -> None:
        """Notes the start in the data directory; raises CorruptStoreError, OSError.

        `broker` is what to register, its epoch aside. `publish` and `tell` as in LeaseKeeper. `entering` is called
        before each registration: what was led until then must be led no more when it returns, since the new lease
        would vouch for it.
        """
        self._connection = connection
        self._members = Membership(connection)
        self._broker = broker
        self._incarnations = incarnations
        self._publish = publish
        self._tell = tell
        self._entering = entering
        self._earlier = incarnations.begin(broker.incarnation)
        self._keeper: LeaseKeeper | None = None
        self.registered: Registration | None = None
        """The registration as it is now, as far as is known."""
        self._session = 0

    def on(self, event: ClusterEvent) -> bool:
        """Takes what was told. True where the broker is registered anew: it is a follower until it is told otherwise.

        Raises what Membership.register raises; after StoreUnavailableError `enter` is to be tried again.
        """
        # the session may be the one before, in which it registered and could not again when its znode had gone
        if isinstance(event, Connected) and (event.session != self._session or self.registered is None):
            self.enter()
            return True
        if isinstance(event, Unregistered) and self._is_current(event):
            self.leave()
            # by hand, or by a session that ended: then the next one tells
            if self._connection.session == self._session:
                self.enter()
                return True
        if isinstance(event, SessionEnded) and event.session == self._session:
            self.leave()
        return False

    def _is_current(self, event: Unregistered) -> bool:
        return self.registered is not None and event.broker_epoch == self.registered.broker_epoch

    def enter(self) -> Registration:
        """Registers in the present session and keeps the lease from now on."""
        self.leave()
        self._entering()
        session = self._connection.session
        registered = self._members.register(self._broker, self._earlier)
        self._incarnations.registered(self._broker.incarnation)
        self._session, self.registered = session, registered
        self._keeper = LeaseKeeper(
            self._connection, registered, publish=self._publish, tell=self._tell
        ).start()
        return registered

    def confirmed(self) -> None:
        """Nobody counts any more on what this process did not find at its start: it says no more that it is unclean."""
        self._broker = msgspec.structs.replace(self._broker, clean_start=True)

    def leave(self) -> None:
        """Ends the lease at once. The registration ends with the session; again is harmless."""
        keeper, self._keeper = self._keeper, None
        self.registered = None
        if keeper is not None:
            keeper.stop()
