"""Who refuses connections is reported, and a controller that refuses everybody is replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from fastlog.broker.controller.suspicion import Suspicion
from fastlog.broker.peers.messages import Answer, AskRefused, Refused
from fastlog.cluster.zookeeper.election import Controller
from fastlog.ports import Registration
from fastlog.state.controller.events import Suspected
from tests.support.driven_controller import FakePeers, ManualExecutor, ManualSchedule


class Inline:
    """An Executor that does at once what it is given."""

    def put(self, work: Callable[[], object]) -> None:
        work()


def registration(broker: int, epoch: int | None = None) -> Registration:
    return Registration(
        broker_id=broker,
        broker_epoch=broker + 10 if epoch is None else epoch,
        incarnation=UUID(int=broker),
        endpoints={"BROKER": ("127.0.0.1", broker)},
    )


def controller(broker: int, epoch: int = 1) -> Controller:
    return Controller(broker_id=broker, broker_epoch=broker + 10, controller_epoch=epoch, version=epoch)


class Suspecting:
    """Broker 1 of some, and what its probes meet."""

    def __init__(self, *others: int) -> None:
        self.schedule = ManualSchedule()
        self.peers = FakePeers()
        self.meets: dict[int, bool | None] = {}
        self.tried: list[tuple[int, int]] = []
        self.taken_over: list[Controller] = []
        self.suspicion = Suspicion(
            1,
            schedule=self.schedule,
            prober=Inline(),
            probe=self.probe,
            peers=self.peers,
            take_over=self.taken_over.append,
        )
        self.live = [registration(it) for it in (1, *others)]
        self.suspicion.entered(self.live[0])
        self.suspicion.know(self.live)
        self.suspicion.controller_is(controller(2))
        self.suspicion.start()

    def probe(self, host: str, port: int, timeout_s: float) -> bool | None:
        self.tried.append((self.schedule.time_ms, port))
        return self.meets.get(port, False)

    def lose(self, broker: int, meets: bool | None = True) -> None:
        self.meets[broker] = meets
        self.suspicion.doubt(broker)
        self.schedule.run()

    def reports(self, code: int = 0) -> list[tuple[int, int, bool]]:
        """(to whom, of whom, refused), each answered with `code`."""
        found = []
        for to, report, answered in self.peers.take(Suspected):
            found.append((to, report.of, report.refused))
            answered(Answer(code=code))
        self.schedule.run()
        return found

    def votes(self) -> list[tuple[int, AskRefused, Callable[[Answer], None]]]:
        return self.peers.take(AskRefused)

    def vote(self, votes: list[Any], *refused: bool | None) -> None:
        for (_, _, answered), word in zip(votes, refused, strict=True):
            answered(Answer(code=7) if word is None else Answer(body=Refused(refused=word)))
        self.schedule.run()


def test_a_peer_that_refuses_is_reported_once_and_again_when_it_is_back() -> None:
    here = Suspecting(2, 3)
    here.lose(3)
    assert here.reports() == [(2, 3, True)]
    here.schedule.advance(1_000)
    assert here.reports() == []
    here.meets[3] = False
    here.schedule.advance(300)
    assert here.reports() == [(2, 3, False)]


def test_silence_proves_nothing_and_takes_nothing_back() -> None:
    here = Suspecting(2, 3)
    here.lose(3, None)
    here.schedule.advance(1_000)
    assert here.reports() == []
    here.lose(3)
    assert here.reports() == [(2, 3, True)]
    here.lose(3, None)
    here.schedule.advance(1_000)
    assert here.reports() == []


def test_a_report_that_did_not_arrive_is_made_again() -> None:
    here = Suspecting(2, 3)
    here.lose(3)
    assert here.reports(code=13) == [(2, 3, True)]
    here.schedule.advance(100)
    assert here.reports() == [(2, 3, True)]


def test_another_controller_is_told_what_the_one_before_knew() -> None:
    here = Suspecting(2, 3, 4)
    here.lose(3)
    assert here.reports() == [(2, 3, True)]
    here.suspicion.controller_is(controller(4, epoch=2))
    assert here.reports() == [(4, 3, True)]


def test_a_peer_that_registers_anew_is_another_one() -> None:
    here = Suspecting(2, 3)
    here.lose(3)
    here.reports()
    here.meets[3] = False
    here.suspicion.know([*here.live[:2], registration(3, epoch=99)])
    here.schedule.advance(1_000)
    assert here.reports() == []


def test_all_peers_are_tried_and_the_doubted_more_often() -> None:
    here = Suspecting(2, 3)
    here.lose(3)
    here.tried.clear()
    here.schedule.advance(2_000)
    assert len([it for it in here.tried if it[1] == 2]) == 4
    assert len([it for it in here.tried if it[1] == 3]) >= 8


def test_peers_that_answer_nothing_do_not_queue_up() -> None:
    here = Suspecting(2, 3)
    slow = ManualExecutor()
    here.suspicion._prober = slow
    here.schedule.advance(5_000)
    assert len(slow.waiting) == 2
    slow.run_one()
    here.schedule.advance(1_000)
    assert len(slow.waiting) == 2


def test_a_controller_that_every_live_peer_is_refused_by_is_replaced() -> None:
    here = Suspecting(2, 3, 4)
    here.lose(2)
    votes = here.votes()
    assert [(it[0], it[1]) for it in votes] == [
        (3, AskRefused(broker_id=2, broker_epoch=12)),
        (4, AskRefused(broker_id=2, broker_epoch=12)),
    ]
    here.vote(votes[:1], True)
    assert not here.taken_over
    here.vote(votes[1:], True)
    assert here.taken_over == [controller(2)]


def test_one_that_reaches_the_controller_or_says_nothing_keeps_it() -> None:
    for word in (False, None):
        here = Suspecting(2, 3, 4)
        here.lose(2)
        here.vote(here.votes(), word, True)
        assert not here.taken_over
        # and is asked again
        here.schedule.advance(1_000)
        here.vote(here.votes(), True, True)
        assert here.taken_over == [controller(2)]


def test_who_died_with_the_controller_has_no_vote() -> None:
    here = Suspecting(2, 3, 4)
    here.lose(3)
    here.lose(2)
    votes = here.votes()
    assert [it[0] for it in votes] == [4]
    here.vote(votes, True)
    assert here.taken_over


def test_one_alone_replaces_nobody() -> None:
    here = Suspecting(2, 3)
    here.lose(3)
    here.lose(2)
    here.schedule.advance(2_000)
    assert here.votes() == []
    assert not here.taken_over
    two = Suspecting(2)
    two.lose(2)
    assert two.votes() == []


def test_who_is_asked_tries_at_once_and_goes_on() -> None:
    here = Suspecting(2, 3)
    here.meets[3] = True
    answers: list[Answer] = []
    here.suspicion.asked(AskRefused(broker_id=3, broker_epoch=13), answers.append)
    here.schedule.run()
    assert answers == [Answer(body=Refused(refused=True))]
    assert here.reports() == [(2, 3, True)]
    # of a process that is gone nothing is known
    here.suspicion.asked(AskRefused(broker_id=3, broker_epoch=12), answers.append)
    here.schedule.run()
    assert answers[1:] == [Answer(body=Refused(refused=False))]


def test_without_a_registration_nothing_is_said() -> None:
    here = Suspecting(2, 3)
    here.suspicion.entered(None)
    here.lose(3)
    here.lose(2)
    assert here.reports() == []
    assert here.votes() == []
