"""Replicas here whose disk failed: the controller is told, so that others lead them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from fastlog.broker.peers.ports import REPLICATION
from fastlog.events import EventLog
from fastlog.ports import PartitionKey
from fastlog.state.controller.events import ReplicasOffline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastlog.broker.peers.messages import Answer
    from fastlog.broker.peers.ports import Peers
    from fastlog.broker.replicas.engine import ReplicaEngine

#: the engine is asked so often; it has nothing to look for where no directory failed
LOOK_MS = 500

Told = tuple[int, int, frozenset[PartitionKey]]


class Offline:
    """Tells each controller, under each registration, what is offline, and whenever that changes. Of one thread."""

    def __init__(
        self,
        node_id: int,
        engine: ReplicaEngine,
        peers: Peers,
        *,
        put: Callable[..., None],
        leave: Callable[[Iterable[PartitionKey]], None],
        timeout_ms: int,
    ) -> None:
        """`put` has a call made on that thread; `leave` has partitions followed no more.

        Their leaders would take a follower that goes on fetching for one that is about to join, and wait for it.
        """
        self._node_id = node_id
        self._engine = engine
        self._peers = peers
        self._put = put
        self._leave = leave
        self._timeout_ms = timeout_ms
        self._log = EventLog("replicas")
        self._look_ms = 0
        self._known: frozenset[PartitionKey] = frozenset()
        self._told: Told | None = None
        self._is_asking = False

    def tick(
        self, now_ms: int, *, controller_id: int, controller_epoch: int, broker_epoch: int | None
    ) -> None:
        """Looks, and tells what the controller does not know."""
        if now_ms < self._look_ms:
            return
        self._look_ms = now_ms + LOOK_MS
        found = self._engine.offline_replicas()
        offline = frozenset(PartitionKey(UUID(bytes=topic_id), index) for _, topic_id, index in found)
        if fresh := offline - self._known:
            self._log.error(
                "replicas are offline, their disk failed: others are to lead them", replicas=len(fresh)
            )
            self._leave(sorted(fresh))
        self._known = offline
        if broker_epoch is None or controller_id < 0 or self._is_asking:
            return
        telling = (controller_epoch, broker_epoch, offline)
        # a controller that was told nothing takes all for well
        if telling == self._told or (not offline and (self._told is None or not self._told[2])):
            return
        self._is_asking = True
        command = ReplicasOffline(
            token=None, broker_id=self._node_id, broker_epoch=broker_epoch, keys=tuple(sorted(offline))
        )
        self._peers.ask(
            controller_id,
            command,
            lambda answer: self._put(self._answered, telling, answer),
            timeout_ms=self._timeout_ms,
            lane=REPLICATION,
        )

    def _answered(self, telling: Told, answer: Answer) -> None:
        """What was not taken is told again at the next look."""
        self._is_asking = False
        if answer.code == 0 and not getattr(answer.body, "code", 0):
            self._told = telling
