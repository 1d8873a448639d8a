"""Tries the ports of peers, reports who refuses, and finds out with the others whether the controller is dead.

The decisions are in `fastlog.state.doubts`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fastlog.broker.peers.messages import Answer, AskRefused, Refused
from fastlog.broker.peers.ports import REPLICATION
from fastlog.events import EventLog
from fastlog.state.controller.events import Suspected
from fastlog.state.doubts import Doubts, Inquest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.broker.controller.ports import Executor, Probe, Schedule
    from fastlog.broker.peers.ports import Peers
    from fastlog.cluster.zookeeper.election import Controller
    from fastlog.ports import Registration

    Answered = Callable[[Answer], None]

#: the endpoint that is tried: the one for brokers
LISTENER = "BROKER"
ROUND_MS = 100
PROBE_SECONDS = 0.2
ASK_MS = 500


class Suspicion:
    """One broker's suspicions. All calls come from the schedule's thread; ports are tried on another."""

    def __init__(
        self,
        broker_id: int,
        *,
        schedule: Schedule,
        prober: Executor,
        probe: Probe,
        peers: Peers,
        take_over: Callable[[Controller], None],
    ) -> None:
        """`take_over` is told of a controller that every live peer is refused by."""
        self._schedule = schedule
        self._prober = prober
        self._probe = probe
        self._peers = peers
        self._take_over = take_over
        self._doubts = Doubts(broker_id)
        self._own: Registration | None = None
        self._controller: Controller | None = None
        self._inquest: Inquest | None = None
        self._telling: set[tuple[int, int]] = set()
        self._trying: set[int] = set()
        self._log = EventLog("suspicion")

    def start(self) -> None:
        """Begins to look."""
        self._schedule.after(ROUND_MS, self._round)

    def entered(self, own: Registration | None) -> None:
        """This broker's registration; None for none: then nothing is reported."""
        self._own = own

    def know(self, live: Sequence[Registration]) -> None:
        """Who is registered now."""
        self._doubts.know(live, self._schedule.now_ms())

    def controller_is(self, controller: Controller | None) -> None:
        """Who controls now."""
        if controller == self._controller:
            return
        self._controller, self._inquest = controller, None
        self._telling = set()
        self._doubts.forget_told()
        self._report()

    def doubt(self, broker_id: int) -> None:
        """A connection to a peer went."""
        self._doubts.doubt(broker_id, self._schedule.now_ms())
        self._try_due()

    def asked(self, command: AskRefused, answered: Answered) -> None:
        """Another broker is refused by a peer: does it refuse this one too?"""
        peer = self._doubts.peer(command.broker_id, command.broker_epoch)
        if peer is None:
            answered(Answer(body=Refused(refused=False)))
            return
        self._doubts.doubt(command.broker_id, self._schedule.now_ms())
        self._try(
            peer, lambda: answered(Answer(body=Refused(refused=self._doubts.is_refused(peer.broker_id))))
        )

    # --- trying ---

    def _round(self) -> None:
        self._schedule.after(ROUND_MS, self._round)
        self._try_due()
        self._report()

    def _try_due(self) -> None:
        for peer in self._doubts.due(self._schedule.now_ms()):
            # those that answer nothing take their time, and do not queue up meanwhile
            if peer.broker_id not in self._trying:
                self._trying.add(peer.broker_id)
                self._try(peer, partial(self._trying.discard, peer.broker_id))

    def _try(self, peer: Registration, then: Callable[[], None]) -> None:
        if LISTENER not in peer.endpoints:
            then()
            return
        host, port = peer.endpoints[LISTENER]

        def blocking() -> None:
            refused = self._probe(host, port, PROBE_SECONDS)
            self._schedule.put(lambda: tried(refused))

        def tried(refused: bool | None) -> None:
            self._tried(peer, refused)
            then()

        self._prober.put(blocking)

    def _tried(self, peer: Registration, refused: bool | None) -> None:
        before = self._doubts.is_refused(peer.broker_id)
        self._doubts.tried(peer, refused)
        if self._doubts.is_refused(peer.broker_id) != before:
            self._log.info("peer refuses" if not before else "peer accepts again", broker=peer.broker_id)
        self._report()

    # --- telling ---

    def _report(self) -> None:
        own, controller = self._own, self._controller
        if own is None or controller is None:
            return
        if self._doubts.is_refused(controller.broker_id):
            self._ask_around(controller)
            return
        for peer, refused in self._doubts.untold():
            self._tell(own, controller, peer, refused)

    def _tell(self, own: Registration, controller: Controller, peer: Registration, refused: bool) -> None:
        about = (peer.broker_id, peer.broker_epoch)
        if about in self._telling:
            return
        self._telling.add(about)
        report = Suspected(
            by=own.broker_id,
            by_epoch=own.broker_epoch,
            of=peer.broker_id,
            of_epoch=peer.broker_epoch,
            refused=refused,
        )

        def told(answer: Answer) -> None:
            if controller != self._controller:
                return
            self._telling.discard(about)
            # otherwise it is told again with the next round
            if answer.code == 0:
                self._doubts.told(peer, refused)

        self._peers.ask(
            controller.broker_id,
            report,
            lambda answer: self._schedule.put(lambda: told(answer)),
            timeout_ms=ASK_MS,
            lane=REPLICATION,
        )

    # --- a dead controller ---

    def _ask_around(self, controller: Controller) -> None:
        if self._inquest is not None:
            return
        if self._doubts.peer(controller.broker_id, controller.broker_epoch) is None:
            # its session is over: there is an election anyway
            return
        voters = self._doubts.voters(controller.broker_id)
        if voters is None:
            return
        inquest = self._inquest = Inquest(voters)
        command = AskRefused(broker_id=controller.broker_id, broker_epoch=controller.broker_epoch)
        for voter in sorted(voters):
            self._ask(voter, command, inquest, controller)

    def _ask(self, voter: int, command: AskRefused, inquest: Inquest, controller: Controller) -> None:
        def told(answer: Answer) -> None:
            if inquest is not self._inquest:
                return
            says = answer.body
            inquest.told(voter, answer.code == 0 and isinstance(says, Refused) and says.refused)
            if not inquest.is_over:
                return
            if inquest.is_dead and self._doubts.is_refused(controller.broker_id):
                self._log.warning("the controller is dead", broker=controller.broker_id)
                self._take_over(controller)
            # and again while it refuses
            self._schedule.after(ASK_MS, lambda: self._forget(inquest))

        self._peers.ask(
            voter,
            command,
            lambda answer: self._schedule.put(lambda: told(answer)),
            timeout_ms=ASK_MS,
            lane=REPLICATION,
        )

    def _forget(self, inquest: Inquest) -> None:
        if inquest is self._inquest:
            self._inquest = None
