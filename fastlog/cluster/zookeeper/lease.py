"""Keeps a leader's lease: until when this broker may answer what no follower confirms.

Evidence is a write of the broker's own znode: a quorum took it, and the session was alive when it did. Neither kazoo's
state nor a ping nor a read is evidence: a ZooKeeper follower that was cut off together with the broker goes on
answering those while the others delete the znode. A lease counts from the moment the write was *sent*, and ends a third
of the session before the session can.
"""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from kazoo.exceptions import KazooException, NoNodeError, SessionExpiredError

from fastlog.cluster.zookeeper.events import Unregistered
from fastlog.cluster.zookeeper.membership import registration_data
from fastlog.ports import StoreUnavailableError
from fastlog.state.replica.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from kazoo.client import KazooClient
    from kazoo.interfaces import IAsyncResult

    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
    from fastlog.cluster.zookeeper.events import ClusterEvent
    from fastlog.ports import Registration

#: the value of a lease that is over; monotonic clocks begin above it
OVER = 0


class LeaseKeeper:
    """Writes evidence on a thread of its own, which touches no file.

    `publish` is told the lease's end in monotonic nanoseconds whenever it moves, OVER when it is lost, and is called on
    that thread: it must be quick. `tell` is told `Unregistered` once, and the keeper is at its end then.
    """

    def __init__(
        self,
        connection: ZooKeeperConnection,
        registered: Registration,
        *,
        publish: Callable[[int], None],
        tell: Callable[[ClusterEvent], None],
    ) -> None:
        """For the registration that `Membership.register` answered, in its session."""
        self._connection = connection
        self._broker_epoch = registered.broker_epoch
        self._path = connection.paths.broker(registered.broker_id)
        self._data = registration_data(registered, self._path)
        self._session = connection.session
        self._lease = Lease(broker_epoch=registered.broker_epoch, session_ms=connection.session_ms)
        self._publish = publish
        self._tell = tell
        self._answers: SimpleQueue[tuple[int, IAsyncResult] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> LeaseKeeper:
        """Begins to write; the lease comes with the first answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends the lease and the thread; again is harmless."""
        self._answers.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            reason = self._keep()
        finally:
            self._publish(OVER)
        if reason:
            self._tell(Unregistered(self._broker_epoch, reason))

    def _keep(self) -> str:
        """Writes until told to stop, or until there is nothing to keep: the reason then."""
        period_ns = self._lease.interval_ms * 1_000_000
        due = time.monotonic_ns()
        while True:
            now = time.monotonic_ns()
            if now >= due:
                if self._connection.session not in {0, self._session}:
                    return "its session is over"
                self._write()
                # after a pause of the process once, not for every period that it missed
                due = max(due + period_ns, now)
            try:
                answer = self._answers.get(timeout=max(0, due - time.monotonic_ns()) / 1e9)
            except Empty:
                continue
            if answer is None:
                return ""
            reason = self._take(*answer)
            if reason:
                return reason

    def _write(self) -> None:
        sent_ms = time.monotonic_ns() // 1_000_000

        def submit(client: KazooClient) -> IAsyncResult:
            return client.set_async(self._path, self._data, -1)

        try:
            result = self._connection.send(submit, wait=False)
        except StoreUnavailableError:
            return
        result.rawlink(lambda result: self._answers.put((sent_ms, result)))

    def _take(self, sent_ms: int, result: IAsyncResult) -> str:
        """Moves the lease; answers why there is none any more, or nothing."""
        try:
            stat = result.get_nowait()
        except NoNodeError:
            return f"the znode {self._path} is gone"
        except SessionExpiredError:
            return "its session is over"
        except KazooException:
            # no answer, no evidence: the lease runs out by itself if that goes on
            return ""
        before = self._lease.until_ms
        self._lease.renewed(sent_ms=sent_ms, broker_epoch=stat.czxid)
        until_ms = self._lease.until_ms
        if until_ms is None:
            return f"the znode {self._path} is another registration's"
        if until_ms != before:
            self._publish(until_ms * 1_000_000)
        return ""
