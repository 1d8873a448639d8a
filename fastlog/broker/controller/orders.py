"""What the controller has other brokers do, until they have done it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.peers.messages import AskRefused
from fastlog.broker.peers.ports import REPLICATION
from fastlog.state.controller import events as ev
from fastlog.state.controller.effects import AskLogEnds, StopReplicas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastlog.broker.controller.ports import Schedule
    from fastlog.broker.peers.messages import Answer
    from fastlog.broker.peers.ports import Peers
    from fastlog.ports import Registration

STOP_MS = 30_000
LOG_ENDS_MS = 2_000
AGAIN_MS = 1_000
LOOK_MS = 1_000


class Orders:
    """The orders of one term. All calls come from the schedule's thread."""

    def __init__(self, peers: Peers, schedule: Schedule, told: Callable[[ev.Event], None]) -> None:
        """`told` gets what the brokers say, on the schedule's thread."""
        self._peers = peers
        self._schedule = schedule
        self._told = told
        self._live: dict[int, int] = {}
        self._looked_ms: dict[tuple[int, int], int] = {}
        self._is_over = False

    def know(self, registrations: Iterable[Registration]) -> None:
        """Who is registered now."""
        self._live = {it.broker_id: it.broker_epoch for it in registrations}
        known = self._live.items()
        self._looked_ms = {it: at for it, at in self._looked_ms.items() if it in known}

    def end(self) -> None:
        """The term is over; what is answered still is told nobody."""
        self._is_over = True

    def give(self, order: StopReplicas | AskLogEnds) -> None:
        """Sends an order. Log ends are asked for again by the controller; replicas are stopped until they are."""
        self._peers.ask(
            order.broker_id,
            order,
            lambda answer: self._schedule.put(lambda: self._answered(order, answer)),
            timeout_ms=STOP_MS if isinstance(order, StopReplicas) else LOG_ENDS_MS,
            lane=REPLICATION,
        )

    def _answered(self, order: StopReplicas | AskLogEnds, answer: Answer) -> None:
        if self._is_over:
            return
        if answer.code == 0 and isinstance(answer.body, ev.ReplicasStopped | ev.LogEndsTold):
            self._told(answer.body)
        elif isinstance(order, StopReplicas):
            self._schedule.after(AGAIN_MS, lambda: self._again(order))

    def _again(self, order: StopReplicas) -> None:
        # a broker that is registered anew is asked by the controller itself
        if not self._is_over and self._live.get(order.broker_id) == order.broker_epoch:
            self.give(order)

    def look_at(self, suspected: ev.Suspected) -> None:
        """Has everybody look at a broker that one was refused by; what they find they report themselves."""
        subject = (suspected.of, suspected.of_epoch)
        now_ms = self._schedule.now_ms()
        if subject not in self._live.items() or now_ms - self._looked_ms.get(subject, -LOOK_MS) < LOOK_MS:
            return
        self._looked_ms[subject] = now_ms
        command = AskRefused(broker_id=suspected.of, broker_epoch=suspected.of_epoch)
        for broker in self._live.keys() - {suspected.of, suspected.by}:
            self._peers.ask(broker, command, lambda _: None, timeout_ms=LOOK_MS, lane=REPLICATION)
