"""The replicas of this broker: one thread that takes in what the controller tells, and sees to it that it is so."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import msgspec

from fastlog.broker.peers.messages import AskSnapshot, Beacon, Delta, Snapshot
from fastlog.broker.peers.ports import ADMIN
from fastlog.broker.replicas.fetching import Counts
from fastlog.broker.replicas.offline import Offline
from fastlog.broker.replicas.replicas import Replicas
from fastlog.broker.replicas.settings import ReplicaSettings
from fastlog.events import EventLog
from fastlog.state.subscriber import Apply, Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.broker.peers.messages import Answer
    from fastlog.broker.peers.ports import Commands, Peers
    from fastlog.broker.replicas.engine import ReplicaEngine
    from fastlog.broker.replicas.fetchers import Fetching
    from fastlog.broker.replicas.image import ClusterImage
    from fastlog.config import Config
    from fastlog.ports import Clock, Registration
    from fastlog.state.subscriber import AskSnapshot as AskSnapshotOf

#: silence of the controller, questions and roles that wait are looked at so often
TICK_MS = 100


class ReplicaCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What is held, and what happened since the start, for metrics."""

    replicas: int
    led: int
    followed: int
    deltas: int
    snapshots: int
    dropped_notices: int
    """Not applied, since too many waited; snapshots made up for them."""
    proposals: int
    """Changes of in-sync replicas that were proposed, again ones too."""
    failed_roles: int
    fetching: Counts


def _nobody_listens(*_: object) -> None:
    pass


class ReplicaManager:
    """Holds the replicas of a broker in a cluster, from `start` to `stop`."""

    def __init__(
        self,
        *,
        node_id: int,
        config: Config,
        engine: ReplicaEngine,
        peers: Peers,
        commands: Commands,
        clock: Clock,
        fetching: Callable[[int], Fetching],
        settings: ReplicaSettings | None = None,
        cluster_changed: Callable[[int, Sequence[Registration]], None] = _nobody_listens,
        accepted: Callable[[int, int], None] = _nobody_listens,
    ) -> None:
        """`fetching` makes what follows a leader: a LeaderFetcher, which is a thread with a connection.

        `cluster_changed` is told the controller and the live brokers before topics are shown that name them.
        `accepted` is told that a controller published the registration of this broker under its present epoch, with
        the broker's and the controller's epoch, once for each two: who started uncleanly may count as clean once
        ZooKeeper still names that controller's epoch. Both are called on the worker and may only hand over.
        """
        self._peers = peers
        self._engine = engine
        self._clock = clock
        self._settings = settings or ReplicaSettings()
        self._log = EventLog("replicas")
        self._inbox: SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]] | None] = SimpleQueue()
        self._subscriber: Subscriber[Delta, Snapshot] = Subscriber()
        self._replicas = Replicas(
            node_id=node_id,
            config=config,
            engine=engine,
            peers=peers,
            commands=commands,
            put=self._put,
            clock=clock,
            fetching=fetching,
            settings=self._settings,
            cluster_changed=cluster_changed,
            accepted=accepted,
        )
        self._offline = Offline(
            node_id,
            engine,
            peers,
            put=self._put,
            leave=self._replicas.fetchers.leave,
            timeout_ms=self._settings.proposal_timeout_ms,
        )
        self._is_noticing = False
        self._deltas = self._snapshots = self._dropped = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fastlog-replicas", daemon=True)

    # --- from any thread ---

    @property
    def image(self) -> ClusterImage:
        """The cluster as it is known here."""
        return self._replicas.image

    def start(self) -> None:
        """Starts the worker."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the worker after what was put before, and the fetchers. Blocks; roles stay as they are."""
        self._inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        self._replicas.fetchers.stop()

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Blocks until the first snapshot was applied: whether it was in time."""
        return self._ready.wait(timeout_s)

    def told(self, notice: object) -> None:
        """A Delta, Beacon or Snapshot came, from whoever controls or did."""
        if self._inbox.qsize() >= self._settings.notices_max and not isinstance(notice, Snapshot):
            # the next one shows the gap
            self._dropped += 1
            return
        self._put(self._told, notice)

    def elected(self, controller_id: int, controller_epoch: int) -> None:
        """That broker controls, as ZooKeeper says: it is asked where its notices do not come."""
        self._put(self._subscriber.elected, controller_id, controller_epoch)

    def set_lease(self, until_ns: int) -> None:
        """Until when (time.monotonic_ns) this broker may act for itself alone; 0 is for no longer."""
        self._engine.set_lease(until_ns)

    def registered(self, registration: Registration) -> None:
        """This broker is registered, in a session that is not over."""
        self._put(self._replicas.registered, registration.broker_epoch)

    def resign(self) -> None:
        """Leads nothing any more, and begins no fetch, until `registered`. Blocks until that is so.

        Called before a new session's lease begins: it must not vouch for what was led in the old one.
        """
        if self._thread.is_alive():
            done = threading.Event()
            self._put(self._replicas.resign)
            self._put(done.set)
            while self._thread.is_alive():
                if done.wait(0.1):
                    return
        # nobody else is at it
        self._replicas.resign()

    def noticed(self) -> None:
        """The engine's control descriptor was readable: it may have notices. Cheap; may be called for nothing."""
        if not self._is_noticing:
            self._is_noticing = True
            self._put(self._take_notices)

    def counts(self) -> ReplicaCounts:
        """What happened so far."""
        parts = self._replicas
        return ReplicaCounts(
            replicas=len(parts.roles),
            led=len(parts.leaders),
            followed=len(parts.fetchers),
            deltas=self._deltas,
            snapshots=self._snapshots,
            dropped_notices=self._dropped,
            proposals=parts.proposals.count,
            failed_roles=parts.roles.failures,
            fetching=parts.fetchers.counts(),
        )

    def _put(self, work: Callable[..., None], *arguments: Any) -> None:
        self._inbox.put((work, arguments))

    # --- the worker ---

    def _run(self) -> None:
        while True:
            try:
                item = self._inbox.get(timeout=TICK_MS / 1000)
                if item is None:
                    return
                self._guarded(*item)
            except Empty:
                pass
            self._guarded(self._tick, ())

    def _guarded(self, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        try:
            work(*arguments)
            if self._replicas.leaders.take_wants_state():
                self._carry_out(self._subscriber.ask(self._clock.monotonic_ms()))
            self._replicas.propose(self._subscriber.controller_id, self._subscriber.controller_epoch)
        except Exception as error:
            self._log.exception("the worker of the replicas failed at something", error)

    def _tick(self) -> None:
        self._carry_out(self._subscriber.tick(self._clock.monotonic_ms()))
        self._replicas.tick()
        self._offline.tick(
            self._clock.monotonic_ms(),
            controller_id=self._subscriber.controller_id,
            controller_epoch=self._subscriber.controller_epoch,
            broker_epoch=self._replicas.roles.broker_epoch,
        )

    def _take_notices(self) -> None:
        self._is_noticing = False
        self._replicas.take_notices()

    def _told(self, notice: object) -> None:
        now_ms = self._clock.monotonic_ms()
        if isinstance(notice, Delta):
            self._carry_out(self._subscriber.delta(notice, now_ms))
        elif isinstance(notice, Beacon):
            self._carry_out(self._subscriber.beacon(notice, now_ms))
        elif isinstance(notice, Snapshot):
            self._carry_out(self._subscriber.snapshot(notice, now_ms))

    def _carry_out(self, effects: Sequence[Apply[Delta, Snapshot] | AskSnapshotOf]) -> None:
        for effect in effects:
            if isinstance(effect, Apply):
                try:
                    self._apply(effect.notice)
                except Exception:
                    self._subscriber.forget()
                    raise
            else:
                self._ask_snapshot(effect.controller_id)

    def _apply(self, notice: Delta | Snapshot) -> None:
        self._replicas.apply(notice)
        if isinstance(notice, Delta):
            self._deltas += 1
            return
        self._snapshots += 1
        if not self._ready.is_set():
            view = self.image.view
            self._log.info(
                "knows the cluster",
                controller=view.controller_id,
                brokers=len(view.brokers),
                topics=len(view.by_id),
                replicas=len(self._replicas.roles),
            )
            self._ready.set()

    def _ask_snapshot(self, controller_id: int) -> None:
        self._peers.ask(
            controller_id,
            AskSnapshot(),
            lambda answer: self._put(self._snapshot_answered, answer),
            timeout_ms=self._settings.proposal_timeout_ms,
            lane=ADMIN,
        )

    def _snapshot_answered(self, answer: Answer) -> None:
        if answer.code == 0 and isinstance(answer.body, Snapshot):
            self._told(answer.body)
        else:
            self._subscriber.refused(self._clock.monotonic_ms())
