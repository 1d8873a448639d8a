"""A broker that could not register tries again, whatever ZooKeeper tells meanwhile."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from fastlog.broker.controller import attendance
from fastlog.broker.controller.attendance import Attendance
from fastlog.broker.controller.candidacy import RETRY_MS
from fastlog.cluster.zookeeper import presence
from fastlog.cluster.zookeeper.events import Connected, SessionEnded, Suspended, Unregistered
from fastlog.cluster.zookeeper.membership import Live
from fastlog.ports import Registration, StoreUnavailableError
from tests.support.driven_controller import FakePeers, FakeReplicas, ManualSchedule

SESSION_MS = 6_000
BROKER = Registration(broker_id=1, broker_epoch=-1, incarnation=UUID(int=1), endpoints={})


class FakeMembership:
    """Registrations, of which the next ones fail while `is_away`."""

    def __init__(self) -> None:
        self.is_away = False
        self.epoch = 10

    def register(self, broker: Registration, earlier: object) -> Registration:
        if self.is_away:
            raise StoreUnavailableError("no answer")
        self.epoch += 1
        return msgspec.structs.replace(broker, broker_epoch=self.epoch)

    def live(self) -> Live:
        return Live((), ())


class Nothing:
    """Takes every call, and does nothing."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.session = 7

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: self if name == "start" else ()


class Broker:
    """The attendance of one broker; `zookeeper` answers or does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.zookeeper = FakeMembership()
        for module in (attendance, presence):
            monkeypatch.setattr(module, "Membership", lambda connection: self.zookeeper)
        monkeypatch.setattr(presence, "LeaseKeeper", Nothing)
        self.schedule = ManualSchedule()
        self.connection: Any = Nothing()
        self.attendance = Attendance(
            self.connection,
            BROKER,
            Nothing(),  # type: ignore[arg-type]
            tell=lambda event: None,
            schedule=self.schedule,
            peers=FakePeers(),
            replicas=FakeReplicas(),
            driver=Nothing(),  # type: ignore[arg-type]
            candidacy=Nothing(),  # type: ignore[arg-type]
            suspicion=Nothing(),  # type: ignore[arg-type]
            seen=lambda live: None,
            first=lambda result: None,
        )

    @property
    def epoch(self) -> int | None:
        """With which it is registered."""
        registered = self.attendance.registered
        return None if registered is None else registered.broker_epoch


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """One that is registered."""
    made = Broker(monkeypatch)
    made.attendance.on(Connected(7, SESSION_MS))
    assert made.epoch == 11
    return made


def test_a_try_that_waits_is_not_forgotten_when_the_connection_goes_and_comes(broker: Broker) -> None:
    broker.zookeeper.is_away = True
    broker.attendance.on(Unregistered(11, "its znode is gone"))
    assert broker.epoch is None
    broker.attendance.on(Suspended())
    broker.zookeeper.is_away = False
    # without a connection it is not tried: that would only wait
    broker.schedule.advance(10 * RETRY_MS)
    assert broker.epoch is None
    broker.attendance.on(Connected(7, SESSION_MS))
    assert broker.epoch == 12


def test_a_try_that_waits_is_made_though_something_else_is_told(broker: Broker) -> None:
    broker.zookeeper.is_away = True
    broker.attendance.on(Unregistered(11, "its znode is gone"))
    broker.attendance.on(Unregistered(10, "one of before"))
    broker.zookeeper.is_away = False
    broker.schedule.advance(RETRY_MS)
    assert broker.epoch == 12


def test_it_is_registered_once_for_each_session_however_often_it_was_tried(broker: Broker) -> None:
    broker.zookeeper.is_away = True
    broker.attendance.on(SessionEnded(7))
    broker.connection.session = 8
    broker.attendance.on(Connected(8, SESSION_MS))
    broker.schedule.advance(3 * RETRY_MS)
    broker.zookeeper.is_away = False
    broker.attendance.on(Connected(8, SESSION_MS))
    assert broker.epoch == 12
    broker.schedule.advance(10 * RETRY_MS)
    assert broker.epoch == 12
