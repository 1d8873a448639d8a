"""The controller's notices on their way: published to whoever listens, heard from every broker that might control."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fastlog.broker.peers.framing import notice_prefix
from fastlog.broker.peers.messages import decode, encode
from fastlog.errors import MalformedMessageError
from fastlog.events import EventLog
from fastlog.transport.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.ports import Registration
    from fastlog.transport.publisher import Publisher

#: the listener of a registration that notices come from
LISTENER = "METADATA"
WAIT_MS = 60_000


class PublishedNotices:
    """The Notices of one broker, for the brokers of its cluster."""

    def __init__(self, publisher: Publisher, cluster_id: str) -> None:
        """`publisher` is bound, and this is its only user."""
        self._publisher = publisher
        self._prefix = notice_prefix(cluster_id)

    def publish(self, notice: object) -> None:
        """See Notices."""
        self._publisher.send(self._prefix + encode(notice))


class NoticeListener:
    """Hears all other brokers of a cluster, from `start` to `stop`: which of them controls is in the notices."""

    def __init__(self, broker_id: int, cluster_id: str, told: Callable[[object], None]) -> None:
        """`told` gets every notice, on a thread of its own; it may only hand over."""
        self._broker_id = broker_id
        self._told = told
        self._log = EventLog("metadata")
        self._prefix = notice_prefix(cluster_id)
        self._subscriber = Subscriber(self._prefix)
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="fastlog-notices", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def know(self, brokers: Sequence[Registration]) -> None:
        """Who is there, and where; from any thread."""
        self._subscriber.listen_to(
            each.endpoints[LISTENER]
            for each in brokers
            if each.broker_id != self._broker_id and LISTENER in each.endpoints
        )

    def stop(self) -> None:
        """Ends the thread and the connections."""
        self._is_stopping = True
        self._subscriber.wake()
        if self._thread.ident is not None:
            self._thread.join()
        self._subscriber.close()

    def _run(self) -> None:
        while not self._is_stopping:
            message = self._subscriber.receive(WAIT_MS)
            if message is not None:
                self._take(message)

    def _take(self, message: bytes) -> None:
        try:
            notice = decode(memoryview(message)[len(self._prefix) :])
        except MalformedMessageError as error:
            # what is missed is found out by the next beacon
            self._log.warning("a notice is dropped", reason=str(error))
            return
        try:
            self._told(notice)
        except Exception:
            self._log.exception("a notice was not taken", notice=type(notice).__name__)
