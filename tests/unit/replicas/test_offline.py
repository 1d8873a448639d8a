"""Whom a broker tells of the replicas whose disk failed, and how often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from fastlog.broker.peers.messages import Answer
from fastlog.broker.replicas.offline import LOOK_MS, Offline
from fastlog.ports import PartitionKey
from fastlog.state.controller.effects import Reply
from fastlog.state.controller.events import ReplicasOffline
from tests.support.replica_fakes import NotingEngine

ID = UUID(int=7)
OK = Answer(body=Reply(token=None))


class Peers:
    """Keeps what is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ReplicasOffline, Callable[[Answer], None]]] = []

    def ask(
        self, broker_id: int, command: Any, answered: Callable[[Answer], None], *, timeout_ms: int, lane: int
    ) -> None:
        self.asked.append((broker_id, command, answered))

    def take(self) -> list[tuple[int, tuple[PartitionKey, ...]]]:
        taken, self.asked = self.asked, []
        for _, _, answered in taken:
            answered(OK)
        return [(broker_id, command.keys) for broker_id, command, _ in taken]


class World:
    def __init__(self) -> None:
        self.engine, self.peers = NotingEngine([]), Peers()
        self.left: list[PartitionKey] = []
        self.offline = Offline(
            1,
            self.engine,
            self.peers,
            put=lambda work, *arguments: work(*arguments),
            leave=self.left.extend,
            timeout_ms=1_000,
        )
        self.now_ms = 0

    def look(self, controller_id: int = 2, controller_epoch: int = 5, broker_epoch: int | None = 9) -> None:
        self.now_ms += LOOK_MS
        self.offline.tick(
            self.now_ms,
            controller_id=controller_id,
            controller_epoch=controller_epoch,
            broker_epoch=broker_epoch,
        )

    def fail(self, *partitions: int) -> tuple[PartitionKey, ...]:
        self.engine.offline = [("orders", ID.bytes, it) for it in partitions]
        return tuple(PartitionKey(ID, it) for it in partitions)


def test_a_controller_is_told_once_and_of_each_change() -> None:
    world = World()
    world.look()
    assert world.peers.take() == [], "it takes all for well"
    one = world.fail(1)
    world.look()
    world.look()
    assert world.peers.take() == [(2, one)]
    two = world.fail(0, 1)
    world.look()
    assert world.peers.take() == [(2, two)]
    assert world.left == [one[0], two[0]], "nobody is followed there any more"
    world.fail()
    world.look()
    world.look()
    assert world.peers.take() == [(2, ())]


def test_another_controller_and_another_registration_are_told_anew() -> None:
    world = World()
    keys = world.fail(3)
    world.look(broker_epoch=None)
    world.look(controller_id=-1)
    assert world.peers.take() == [], "nobody to be told"
    world.look()
    assert world.peers.take() == [(2, keys)]
    world.look(controller_id=3, controller_epoch=6)
    assert world.peers.take() == [(3, keys)]
    world.look(controller_id=3, controller_epoch=6, broker_epoch=12)
    world.look(controller_id=3, controller_epoch=6, broker_epoch=12)
    assert world.peers.take() == [(3, keys)]


def test_what_was_not_taken_is_told_again() -> None:
    world = World()
    keys = world.fail(3)
    for refusal in (Answer(code=7), Answer(body=Reply(token=None, code=41))):
        world.look()
        ((_, command, answered),) = world.peers.asked
        assert command.keys == keys
        world.peers.asked.clear()
        answered(refusal)
    world.look()
    assert world.peers.take() == [(2, keys)]
    world.look()
    assert world.peers.take() == []
