"""The worker: what other threads may count on, and what it does when notices fail or do not come."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from fastlog.broker.peers.messages import Answer, AskSnapshot, Beacon, Delta, Snapshot
from fastlog.broker.replicas.manager import ReplicaManager
from fastlog.broker.replicas.settings import ReplicaSettings
from fastlog.config import load
from fastlog.errors import NotControllerError
from fastlog.ports import Registration
from tests.support.control_plane import StillClock
from tests.support.replica_fakes import EPOCHS, ME, NotingEngine, NotingPeers, brokers, state, topic
from tests.support.replica_wiring import WiredCommands, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTROLLER = 9


class Worker:
    """A manager over an engine that takes notes; time stands still unless it is moved."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.engine = NotingEngine(self.notes)
        self.peers = NotingPeers()
        self.clock = StillClock()
        self.manager = ReplicaManager(
            node_id=ME,
            config=load(),
            engine=self.engine,  # type: ignore[arg-type]
            peers=self.peers,
            commands=WiredCommands(),
            clock=self.clock,
            fetching=None,  # type: ignore[arg-type]
            settings=ReplicaSettings(notices_max=2),
        )

    def snapshot(self, sequence: int = 5) -> Snapshot:
        return Snapshot(
            controller_id=CONTROLLER,
            controller_epoch=1,
            sequence=sequence,
            brokers=brokers(),
            topics=(topic(state()),),
            settings=(),
        )

    def beacon(self, sequence: int = 5) -> Beacon:
        return Beacon(controller_id=CONTROLLER, controller_epoch=1, sequence=sequence)

    def asked(self) -> list[tuple[int, Any, Any]]:
        """The questions for a snapshot so far."""
        return [it for it in self.peers.asked if isinstance(it[1], AskSnapshot)]

    def settle(self) -> None:
        """Waits until what was put before is done."""
        self.manager.resign()


@pytest.fixture
def worker() -> Iterator[Worker]:
    it = Worker()
    it.manager.start()
    yield it
    it.manager.stop()


def own() -> Registration:
    return Registration(broker_id=ME, broker_epoch=EPOCHS[ME], incarnation=UUID(int=1), endpoints={})


def test_it_is_ready_when_the_first_snapshot_was_applied(worker: Worker) -> None:
    worker.manager.registered(own())
    worker.manager.told(worker.beacon())
    wait_until(lambda: len(worker.asked()) == 1, "a snapshot is asked for")
    assert not worker.manager.wait_ready(0)
    ((broker_id, _, answered),) = worker.asked()
    answered(Answer(body=worker.snapshot()))
    assert worker.manager.wait_ready(20)
    assert broker_id == CONTROLLER
    assert "t" in worker.manager.image
    counts = worker.manager.counts()
    assert (counts.snapshots, counts.deltas, counts.led) == (1, 0, 1)


def test_a_broker_that_is_no_controller_any_more_is_asked_again_at_the_next_beacon_only(
    worker: Worker,
) -> None:
    worker.manager.told(worker.beacon())
    wait_until(lambda: len(worker.asked()) == 1, "a snapshot is asked for")
    worker.asked()[0][2](Answer(code=NotControllerError.code))
    worker.settle()
    assert len(worker.asked()) == 1
    worker.manager.told(worker.beacon())
    wait_until(lambda: len(worker.asked()) == 2, "it is asked for again")


def test_a_silent_controller_is_asked_for_everything(worker: Worker) -> None:
    worker.manager.told(worker.snapshot())
    worker.settle()
    assert worker.asked() == []
    worker.clock.ms += 1_100
    wait_until(lambda: len(worker.asked()) == 1, "a snapshot is asked for")


def test_a_controller_whose_notices_do_not_come_is_asked_for_everything(worker: Worker) -> None:
    worker.manager.told(worker.snapshot())
    worker.manager.elected(CONTROLLER + 1, 1_000)
    worker.settle()
    worker.clock.ms += 1_100
    wait_until(lambda: len(worker.asked()) == 1, "a snapshot is asked for")
    assert worker.asked()[0][0] == CONTROLLER + 1


def test_nothing_is_led_any_more_when_resign_returns(worker: Worker) -> None:
    worker.manager.registered(own())
    worker.manager.told(worker.snapshot())
    worker.manager.resign()
    assert [it[0] for it in worker.notes][-1] == "resign"
    assert worker.manager.counts().led == 0


def test_resign_works_before_the_start_and_after_the_end() -> None:
    it = Worker()
    it.manager.resign()
    it.manager.start()
    it.manager.stop()
    it.manager.resign()
    assert it.notes == [("resign",), ("resign",)]


def test_a_notice_that_could_not_be_applied_has_everything_asked_for_anew(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(worker.engine, "publish_topics", fails)
    worker.manager.told(worker.snapshot())
    worker.settle()
    assert not worker.manager.wait_ready(0)
    monkeypatch.undo()
    worker.manager.told(worker.beacon())
    wait_until(lambda: len(worker.asked()) == 1, "the same snapshot is asked for")
    worker.asked()[0][2](Answer(body=worker.snapshot()))
    assert worker.manager.wait_ready(20)


def test_notices_that_pile_up_are_dropped_and_a_snapshot_makes_up_for_them(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(worker.engine, "resign", goes_on.wait)
    waiting = threading.Thread(target=worker.manager.resign)
    worker.manager.told(worker.snapshot())
    waiting.start()
    for sequence in range(6, 20):
        worker.manager.told(Delta(controller_id=CONTROLLER, controller_epoch=1, sequence=sequence))
    goes_on.set()
    waiting.join(20)
    assert worker.manager.counts().dropped_notices > 0
    worker.manager.told(worker.beacon(19))
    wait_until(lambda: len(worker.asked()) == 1, "a snapshot is asked for")
