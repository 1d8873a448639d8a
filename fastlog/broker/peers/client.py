"""Commands to other brokers: one thread that has a connection to each of them for each lane.

Nothing is sent twice. A connection that ends answers all that was asked by it: whoever asked knows what asking again
means, and the next command makes a new connection.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from fastlog.broker.peers.link import Link, Request
from fastlog.broker.peers.messages import Answer
from fastlog.broker.peers.ports import REPLICATION
from fastlog.errors import NetworkError, RequestTimedOutError, UnknownServerError
from fastlog.events import EventLog
from fastlog.transport.binding import is_numeric, look_up_host
from fastlog.transport.channel import ConnectionLostError, wait
from fastlog.transport.dealer import DealerContext

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.ports import Registration

    Answered = Callable[[Answer], None]

#: the listener of a registration that commands go to
LISTENER = "BROKER"
CONNECT_MS = 2_000
# a connection of the replication lane that ended is made anew after this: its end is how a broker's end is noticed
RECONNECT_MS = 1_000
# unanswered, over all brokers; one more is answered at once
REQUESTS_MAX = 20_000
CORRELATION_END = 2**31


class PeerClient:
    """The Peers of one broker, from `start` to `stop`."""

    def __init__(
        self,
        broker_id: int,
        cluster_id: str,
        own: Callable[[Any, Answered], None],
        *,
        lost: Callable[[Registration], None] = lambda registration: None,
    ) -> None:
        """Of a broker of that cluster; `own` takes commands to this broker itself.

        `lost` is told, on the thread of the peers, when a connection to a known broker ended or could not be made.
        One to each is kept open for that.
        """
        self._broker_id = broker_id
        self._cluster_id = cluster_id
        self._own = own
        self._lost = lost
        self._log = EventLog("peers")
        self._context = DealerContext()
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="fastlog-peers", daemon=True)
        self._closing = threading.Lock()
        self._stopped = False
        # what follows is of the thread
        self._known: dict[int, Registration] = {}
        self._links: dict[tuple[int, str], Link] = {}
        #: requests that wait until the name of their broker's host is looked up
        self._looking_up: dict[tuple[int, str], list[Request]] = {}
        self._reconnect_at: dict[int, float] = {}
        self._requests: dict[int, Request] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._next_correlation_id = 0

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends all connections, answers what is unanswered with 13 and ends the thread; again is harmless."""
        with self._closing:
            if self._stopped:
                return
        self._put(self._stop)
        if self._thread.ident is not None:
            self._thread.join()
        else:
            self._take_inbox()
        self._context.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def know(self, brokers: Sequence[Registration]) -> None:
        """See Peers."""
        self._put(self._know, tuple(brokers))

    def ask(self, broker_id: int, command: object, answered: Answered, *, timeout_ms: int, lane: str) -> None:
        """See Peers; one that is asked after `stop` is answered by the caller's thread."""
        deadline_ms = _now_ms() + timeout_ms
        if not self._put(self._ask, broker_id, command, answered, deadline_ms, lane):
            answered(_lost_answer("this broker stops"))

    def _put(self, work: Callable[..., None], *arguments: Any) -> bool:
        with self._closing:
            if self._stopped:
                return False
            self._inbox.append((work, arguments))
            # a full pipe holds calls that were not noticed yet
            with suppress(BlockingIOError):
                os.write(self._wake_write, b"x")
        return True

    # --- the thread ---

    def _run(self) -> None:
        while self._take_inbox():
            self._guarded(self._advance)
            wait([link.channel for link in self._links.values()], self._time_to_wait_ms(), self._wake_read)

    def _advance(self) -> None:
        self._advance_links()
        self._expire()
        self._keep_connected()

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        """What fails for one broker takes the ways to no other: who asked is answered when its time is over."""
        try:
            work(*arguments)
        except Exception:
            self._log.exception("the thread of the peers failed at something")

    def _take_inbox(self) -> bool:
        """Whether to go on."""
        with suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        while self._inbox:
            work, arguments = self._inbox.popleft()
            self._guarded(work, *arguments)
        return not self._stopped

    def _stop(self) -> None:
        with self._closing:
            self._stopped = True
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._looking_up.clear()
        for request in list(self._requests.values()):
            self._answer(request, _lost_answer("this broker stops"))

    def _know(self, brokers: tuple[Registration, ...]) -> None:
        before, self._known = self._known, {each.broker_id: each for each in brokers}
        for broker_id, registration in before.items():
            now = self._known.get(broker_id)
            if now is None or now.broker_epoch != registration.broker_epoch:
                reason = f"broker {broker_id} is not registered any more"
                for of, lane in list(self._links):
                    if of == broker_id:
                        self._drop(of, lane, reason)
                for of, lane in list(self._looking_up):
                    if of == broker_id:
                        self._lose(self._looking_up.pop((of, lane)), reason)
        self._reconnect_at = {
            broker_id: self._reconnect_at.get(broker_id, 0.0)
            for broker_id in self._known
            if broker_id != self._broker_id
        }

    def _ask(
        self, broker_id: int, command: object, answered: Answered, deadline_ms: float, lane: str
    ) -> None:
        request = Request(self._correlation_id(), broker_id, lane, command, answered, deadline_ms)
        if len(self._requests) >= REQUESTS_MAX:
            self._answer(request, _lost_answer(f"{REQUESTS_MAX} commands are unanswered"))
            return
        if broker_id == self._broker_id:
            self._accept(request)
            self._ask_own(request)
            return
        self._accept(request)
        link = self._links.get((broker_id, lane))
        if link is not None:
            link.ask(request)
        elif (broker_id, lane) in self._looking_up:
            self._looking_up[broker_id, lane].append(request)
        else:
            self._connect(broker_id, lane, [request])

    def _correlation_id(self) -> int:
        self._next_correlation_id = (self._next_correlation_id + 1) % CORRELATION_END
        return self._next_correlation_id

    def _accept(self, request: Request) -> None:
        self._requests[request.correlation_id] = request
        heapq.heappush(self._deadlines, (request.deadline_ms, request.correlation_id))

    def _ask_own(self, request: Request) -> None:
        try:
            self._own(request.command, partial(self._hand_over, request))
        except Exception as error:
            self._log.exception("a command failed", command=type(request.command).__name__)
            code = UnknownServerError.code
            self._answer(request, Answer(code=code, message=f"{type(error).__name__}: {error}"))

    def _hand_over(self, request: Request, answer: Answer) -> None:
        self._put(self._answered_here, request, answer)

    def _answered_here(self, request: Request, answer: Answer) -> None:
        if request.correlation_id in self._requests:
            self._answer(request, answer)

    def _connect(self, broker_id: int, lane: str, requests: list[Request]) -> None:
        """Makes a lane's connection, for `requests`; a name is looked up on a thread of its own, for that may last."""
        registration = self._known.get(broker_id)
        if registration is None or LISTENER not in registration.endpoints:
            self._lose(requests, f"broker {broker_id} is not registered")
            return
        if lane == REPLICATION:
            self._reconnect_at[broker_id] = _now_ms() + RECONNECT_MS
        host, port = registration.endpoints[LISTENER]
        if is_numeric(host):
            self._open(registration, lane, host, requests)
            return
        self._looking_up[broker_id, lane] = requests

        def look_up() -> None:
            try:
                self._put(self._looked_up, registration, lane, look_up_host(host, port))
            except OSError as error:
                self._put(self._looked_up, registration, lane, error)
            except Exception as error:
                # whoever waits for it is to be told
                self._log.exception("a name was not looked up", host=host)
                self._put(self._looked_up, registration, lane, OSError(f"{type(error).__name__}: {error}"))

        threading.Thread(target=look_up, name="fastlog-lookup", daemon=True).start()

    def _looked_up(self, registration: Registration, lane: str, found: str | OSError) -> None:
        broker_id = registration.broker_id
        if self._known.get(broker_id) != registration or (broker_id, lane) not in self._looking_up:
            # what waited was answered when the broker went
            return
        requests = self._looking_up.pop((broker_id, lane))
        if isinstance(found, OSError):
            host = registration.endpoints[LISTENER][0]
            self._tell_lost(registration)
            self._lose(
                requests, f"the name {host} of broker {broker_id} is not found: {found.strerror or found}"
            )
            return
        self._open(registration, lane, found, requests)

    def _open(self, registration: Registration, lane: str, host: str, requests: list[Request]) -> None:
        port = registration.endpoints[LISTENER][1]
        try:
            channel = self._context.open(host, port, CONNECT_MS)
        except ConnectionLostError as error:
            self._tell_lost(registration)
            self._lose(requests, str(error))
            return
        link = Link(channel, self._cluster_id, _now_ms() + CONNECT_MS)
        self._links[registration.broker_id, lane] = link
        for request in requests:
            # one that waited too long was answered
            if request.correlation_id in self._requests:
                link.ask(request)

    def _lose(self, requests: list[Request], reason: str) -> None:
        for request in requests:
            if request.correlation_id in self._requests:
                self._answer(request, _lost_answer(reason))

    def _advance_links(self) -> None:
        for (broker_id, lane), link in list(self._links.items()):
            try:
                answers = link.advance(_now_ms())
            except ConnectionLostError as error:
                self._drop(broker_id, lane, str(error))
                self._tell_lost(self._known[broker_id])
                continue
            except Exception as error:
                self._log.exception("a connection to a broker is given up", broker=broker_id)
                self._drop(broker_id, lane, f"{type(error).__name__}: {error}")
                continue
            for request, answer in answers:
                self._answer(request, answer)

    def _drop(self, broker_id: int, lane: str, reason: str) -> None:
        link = self._links.pop((broker_id, lane))
        link.close()
        for request in link.requests():
            self._answer(request, _lost_answer(reason))

    def _tell_lost(self, registration: Registration) -> None:
        try:
            self._lost(registration)
        except Exception:
            self._log.exception("the loss of a connection was not taken", broker=registration.broker_id)

    def _keep_connected(self) -> None:
        now_ms = _now_ms()
        for broker_id, at in list(self._reconnect_at.items()):
            if now_ms >= at and not self._is_open(broker_id):
                self._reconnect_at[broker_id] = now_ms + RECONNECT_MS
                self._connect(broker_id, REPLICATION, [])

    def _is_open(self, broker_id: int) -> bool:
        key = (broker_id, REPLICATION)
        return key in self._links or key in self._looking_up

    def _expire(self) -> None:
        now_ms = _now_ms()
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            _, correlation_id = heapq.heappop(self._deadlines)
            request = self._requests.get(correlation_id)
            if request is None:
                continue
            link = self._links.get((request.broker_id, request.lane))
            if link is not None:
                link.give_up(request)
            text = f"broker {request.broker_id} did not answer in time"
            self._answer(request, Answer(code=RequestTimedOutError.code, message=text))

    def _answer(self, request: Request, answer: Answer) -> None:
        self._requests.pop(request.correlation_id, None)
        try:
            request.answered(answer)
        except Exception:
            self._log.exception("an answer was not taken", command=type(request.command).__name__)

    def _time_to_wait_ms(self) -> float:
        times = [link.connect_deadline_ms() for link in self._links.values()]
        times += [
            at
            for broker_id, at in self._reconnect_at.items()
            if broker_id in self._known and not self._is_open(broker_id)
        ]
        if self._deadlines:
            times.append(self._deadlines[0][0])
        return max(0.0, min(times, default=float("inf")) - _now_ms())


def _now_ms() -> float:
    return time.monotonic() * 1000


def _lost_answer(reason: str) -> Answer:
    return Answer(code=NetworkError.code, message=reason)
