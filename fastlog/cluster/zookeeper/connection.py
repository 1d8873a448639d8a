"""One session of ZooKeeper after the other, over kazoo.

kazoo's threads run nothing of ours but the hand-over of an event to one callback. Every call blocks for a bounded time.
A request that got no answer has an unknown outcome: `StoreUnavailableError`; `settle` is how one finds out.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from kazoo.client import KazooClient
from kazoo.exceptions import (
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NoNodeError,
    OperationTimeoutError,
    SessionExpiredError,
    SessionMovedError,
    WriterNotClosedException,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import EventType, KazooState
from kazoo.retry import KazooRetry

from fastlog.cluster.zookeeper.events import Changed, Connected, SessionEnded, Suspended
from fastlog.cluster.zookeeper.operations import MultiRead, refusal
from fastlog.cluster.zookeeper.paths import Paths
from fastlog.cluster.zookeeper.silence import why_silent
from fastlog.ports import CorruptStoreError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kazoo.interfaces import IAsyncResult
    from kazoo.protocol.states import WatchedEvent, ZnodeStat

    from fastlog.cluster.zookeeper.events import ClusterEvent, Watched
    from fastlog.cluster.zookeeper.operations import Operation

T = TypeVar("T")

START_SECONDS = 15.0
#: requests sent and not answered. kazoo reads nothing while it has something to send, so that this many answers have to
#: fit into the sockets' buffers; more are no faster
IN_FLIGHT_MAX = 200
READS_AT_ONCE = 100
RETRY_SECONDS = 0.1
RETRY_SECONDS_MAX = 0.5
NO_ANSWER = (
    ConnectionLoss,
    ConnectionClosedError,
    SessionExpiredError,
    SessionMovedError,
    OperationTimeoutError,
    KazooTimeoutError,
)


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """kazoo tells of every attempt to connect, several times a second while ZooKeeper is away; our events tell once."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        super().log(logging.DEBUG if level <= logging.WARNING else level, msg, *args, **kwargs)


class NotConnectedError(StoreUnavailableError):
    """Nothing was sent."""


class ZooKeeperConnection:
    """The process's only connection: sessions, requests, watches.

    `tell` gets every event, on kazoo's threads: it may only put them into a queue. It may be told of one change twice.
    """

    def __init__(
        self,
        hosts: str,
        root: str,
        *,
        session_ms: int,
        tell: Callable[[ClusterEvent], None],
        patience_ms: int | None = None,
    ) -> None:
        """`hosts` is HOST:PORT[,…]; `session_ms` what is asked for, the server may grant another.

        `patience_ms` is how long a call waits for a connection, and then for its answer: the session's time-out, after
        which the session may be over, unless something else is said.
        """
        self.paths = Paths(root)
        self.hosts = hosts
        self._tell = tell
        self._patience = (patience_ms or session_ms) / 1000
        self._granted_ms = session_ms
        self._session = 0
        self._connected = threading.Event()
        self._closed = False
        self._watches: dict[str, Callable[[WatchedEvent], None]] = {}
        retry = KazooRetry(max_tries=-1, delay=RETRY_SECONDS, backoff=2, max_delay=RETRY_SECONDS_MAX)
        log = _Quiet(logging.getLogger("fastlog.zookeeper.client"))
        self._client = KazooClient(hosts, timeout=session_ms / 1000, connection_retry=retry, logger=log)
        self._client.add_listener(self._state_changed)
        self._learn_what_is_granted()

    def _learn_what_is_granted(self) -> None:
        # kazoo keeps the granted time-out to itself, and the lease is a part of it
        handler = self._client._connection
        invoke = handler._invoke

        def noting(timeout: float, request: Any, xid: int | None = None) -> Any:
            answer = invoke(timeout, request, xid)
            if type(request).__name__ == "Connect" and answer[0].time_out > 0:
                self._granted_ms = int(answer[0].time_out)
            return answer

        handler._invoke = noting

    def start(self, seconds: float = START_SECONDS) -> None:
        """Returns when there is a session; raises StoreUnavailableError where no server answers in time."""
        if not self._client.start_async().wait(seconds):
            self.close()
            raise StoreUnavailableError(
                f"no ZooKeeper answered at {self.hosts} within {seconds:.0f} s: {why_silent(self.hosts)}. "
                "Start it, or correct zookeeper.connect"
            )

    def close(self) -> None:
        """Ends the session, and with it what is ephemeral; again is harmless.

        Where ZooKeeper does not answer it takes up to a session's time-out, and the session ends by itself.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._client.stop()
        except WriterNotClosedException:
            # its thread is in a connection that hangs, and ends with it; it is a daemon
            return
        self._client.close()

    @property
    def session(self) -> int:
        """The session's id; 0 for none. It may be over without our knowing."""
        return self._session

    @property
    def session_ms(self) -> int:
        """The time-out that the server granted."""
        return self._granted_ms

    def _state_changed(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self._session = self._client.client_id[0]
            self._connected.set()
            self._tell(Connected(self._session, self._granted_ms))
        elif state == KazooState.SUSPENDED:
            self._connected.clear()
            self._tell(Suspended())
        else:
            self._connected.clear()
            ended, self._session = self._session, 0
            self._tell(SessionEnded(ended))

    def watch(self, what: Watched) -> Callable[[WatchedEvent], None]:
        """A watch for kazoo's reads, which tells Changed(what) once. The same one each time: kazoo then keeps one."""

        def changed(event: WatchedEvent) -> None:
            # none: the connection went, which is told by itself
            if event.type != EventType.NONE:
                self._tell(Changed(what))

        return self._watches.setdefault(what, changed)

    def ask(self, submit: Callable[[KazooClient], IAsyncResult]) -> Any:
        """The answer to one request.

        kazoo's logical errors (NoNodeError, NodeExistsError, BadVersionError, …) pass; raises StoreUnavailableError
        where there is no answer while its patience lasts.
        """
        return self._taken(self.send(submit))

    def send(self, submit: Callable[[KazooClient], IAsyncResult], *, wait: bool = True) -> IAsyncResult:
        """Sends a request; raises StoreUnavailableError, with nothing sent, where there is no connection.

        With `wait`, it waits for one as long as its patience lasts.
        """
        if self._closed or not self._connected.wait(self._patience if wait else 0):
            raise NotConnectedError(f"no ZooKeeper answers at {self.hosts}: nothing was changed")
        return submit(self._client)

    def _taken(self, result: IAsyncResult) -> Any:
        try:
            return result.get(timeout=self._patience)
        except NO_ANSWER as error:
            raise StoreUnavailableError(
                f"ZooKeeper at {self.hosts} did not answer ({type(error).__name__}): "
                "whether the request took effect is not known"
            ) from error
        except NoAuthError as error:
            raise StoreError(
                f"ZooKeeper at {self.hosts} does not permit this below {self.paths.root}"
            ) from error

    def get_all(self, paths: Sequence[str]) -> list[tuple[bytes, ZnodeStat] | NoNodeError]:
        """Many znodes' values and stats, read in this order, some at once; a NoNodeError for each that is not there."""
        return self._read(lambda: self._get_all(paths))

    def _get_all(self, paths: Sequence[str]) -> list[tuple[bytes, ZnodeStat] | NoNodeError]:
        batches = [paths[at : at + READS_AT_ONCE] for at in range(0, len(paths), READS_AT_ONCE)]
        found: list[tuple[bytes, ZnodeStat] | NoNodeError] = []
        for answer in self.try_all(map(_multi_read, batches)):
            if isinstance(answer, Exception):
                raise answer
            for each in answer:
                if isinstance(each, Exception) and not isinstance(each, NoNodeError):
                    raise each
            found += answer
        return found

    def try_all(self, submits: Iterable[Callable[[KazooClient], IAsyncResult]]) -> list[Any]:
        """The answers to many requests, pipelined, in their order.

        In the place of an answer may be kazoo's logical error, or a StoreError where none came.
        """
        waiting: deque[IAsyncResult | StoreError] = deque()
        answers: list[Any] = []
        unavailable: StoreError | None = None
        for submit in submits:
            if len(waiting) >= IN_FLIGHT_MAX:
                answers.append(self._outcome(waiting.popleft()))
            try:
                # once is waited for a connection, not for every request that is left
                waiting.append(unavailable or self.send(submit))
            except StoreError as error:
                unavailable = error
                waiting.append(error)
        answers += [self._outcome(each) for each in waiting]
        return answers

    def _outcome(self, result: IAsyncResult | StoreError) -> Any:
        if isinstance(result, StoreError):
            return result
        try:
            return self._taken(result)
        except (StoreError, KazooException) as error:
            return error

    def get(self, path: str, watch: Watched | None = None) -> tuple[bytes, ZnodeStat]:
        """A znode's value and stat; raises kazoo's NoNodeError."""
        watcher = self.watch(watch) if watch else None
        data, stat = self._read(lambda: self.ask(lambda client: client.get_async(path, watcher)))
        return data, stat

    def children(self, path: str, watch: Watched | None = None) -> list[str]:
        """The names of a znode's children, sorted; raises CorruptStoreError where there is no such znode."""
        watcher = self.watch(watch) if watch else None
        try:
            return sorted(
                self._read(lambda: self.ask(lambda client: client.get_children_async(path, watcher)))
            )
        except NoNodeError:
            raise CorruptStoreError(
                f"the znode {path} is missing: check ZooKeeper's address and path, or restore what it held"
            ) from None

    def commit(self, operations: Sequence[Operation]) -> list[Any]:
        """Does all of the operations or none; raises RefusedError, or StoreUnavailableError for an unknown outcome."""
        (result,) = self.commit_all([operations])
        if isinstance(result, Exception):
            raise result
        return result

    def commit_all(self, transactions: Sequence[Sequence[Operation]]) -> list[list[Any] | Exception]:
        """Many transactions, pipelined: the results of each, or its RefusedError or StoreError."""
        answers = self.try_all(_transaction(each) for each in transactions)
        return [
            answer if isinstance(answer, Exception) else refusal(operations, answer) or answer
            for operations, answer in zip(transactions, answers, strict=True)
        ]

    def sync(self) -> None:
        """What is read after it has all that ZooKeeper committed before."""
        self._read(lambda: self.ask(lambda client: client.sync_async(self.paths.root)))

    def _read(self, read: Callable[[], T]) -> T:
        """`read`, and once more where the connection went in the middle and came again."""
        try:
            return read()
        except StoreUnavailableError as error:
            if isinstance(error, NotConnectedError) or not self._connected.wait(self._patience):
                raise
        return read()

    def settle(self, attempt: Callable[[], T]) -> T:
        """`attempt`, and once more where its outcome is unknown: it begins with a read that tells what took effect.

        Between the two a `sync` makes sure that what was sent is either seen or never will be: a session's requests
        keep their order. A second unknown outcome is raised.
        """
        try:
            return attempt()
        except StoreUnavailableError as error:
            if isinstance(error, NotConnectedError) or not self._connected.wait(self._patience):
                raise
        self.sync()
        return attempt()


def _multi_read(paths: Sequence[str]) -> Callable[[KazooClient], IAsyncResult]:
    def submit(client: KazooClient) -> IAsyncResult:
        result = client.handler.async_result()
        client._call(MultiRead(paths), result)
        return result

    return submit


def _transaction(operations: Sequence[Operation]) -> Callable[[KazooClient], IAsyncResult]:
    def submit(client: KazooClient) -> IAsyncResult:
        request = client.transaction()
        for each in operations:
            each.add_to(request)
        return request.commit_async()

    return submit
