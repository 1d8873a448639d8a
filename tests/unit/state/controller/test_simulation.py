"""Controllers, brokers that crash, and a store that conflicts and keeps silent, by the seed; and that it finds bugs."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Mapping

import msgspec
import pytest

from fastlog.ports import PartitionKey, PartitionState
from fastlog.state.controller.brokers import Brokers
from fastlog.state.controller.controller import Controller
from fastlog.state.controller.decide import election
from fastlog.state.controller.log_ends import LogEndAt
from tests.support.controller_simulation import run
from tests.support.controller_world import World
from tests.support.simulated_broker import SimulatedBroker

# another one each run; the failing seed is in the message
BASE = int(os.environ.get("FASTLOG_SEED", "0")) or random.randrange(1 << 32)


def test_no_decision_loses_what_was_acknowledged() -> None:
    counts: Counter[str] = Counter()
    for number in range(100):
        counts += run(BASE + number, 600).counts
    # it would prove nothing if nothing happened
    assert counts["acknowledged"] > 1_000, counts
    assert counts["clean elections"] > 200, counts
    assert counts["elections by log"] > 100, counts
    assert counts["resigned"] > 80, counts
    assert counts["wiped"] > 40, counts


@pytest.mark.long
@pytest.mark.timeout(600)
def test_no_decision_loses_what_was_acknowledged_for_long() -> None:
    for number in range(4_000):
        run(BASE + number, 1_000)


def test_the_same_seed_is_the_same_run() -> None:
    one, other = run(3, 400), run(3, 400)
    assert one.trace == other.trace
    assert one.store.history == other.store.history


def finds(seeds: int) -> bool:
    """Whether one of so many seeds fails."""
    for seed in range(seeds):
        try:
            run(seed, 600)
        except AssertionError:
            return True
    return False


def test_a_broker_that_started_uncleanly_and_stays_eligible_would_be_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Brokers, "has_lost", lambda *_: False)
    assert finds(50)


def test_a_broker_that_is_accepted_while_its_past_counts_would_be_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Controller, "_counts_on_former", lambda *_: False)
    assert finds(150)


def test_a_member_admitted_for_a_process_that_is_gone_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """KIP-903: the id is enough."""
    monkeypatch.setattr(Brokers, "is_registered", lambda self, broker, _: broker in self)
    assert finds(50)


def test_a_leader_epoch_that_outlives_its_process_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_when_moved(before: PartitionState, after: PartitionState) -> PartitionState:
        grows = int(after.leader != before.leader)
        return msgspec.structs.replace(after, leader_epoch=before.leader_epoch + grows)

    monkeypatch.setattr(election, "with_leader_epoch", only_when_moved)
    assert finds(100)


def test_the_first_log_instead_of_the_best_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(state: PartitionState, told: Mapping[int, LogEndAt]) -> int | None:
        return next((it for it in state.replicas if it in told), None)

    monkeypatch.setattr("fastlog.state.controller.log_ends.best", first)
    assert finds(50)


def test_writes_without_a_fence_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A former controller's writes are conditional all the same; it is its deltas that nobody must believe."""

    def deliver(self: World, effect: object, epoch: int, controller: Controller) -> None:
        outcome = self.outcomes.popleft() if self.outcomes else ""
        event = self.outcome_of(effect, outcome)  # type: ignore[arg-type]
        if event is not None:
            self.step(event, controller)

    monkeypatch.setattr(World, "deliver", deliver)
    assert finds(300)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_high_watermark_that_moves_while_others_are_eligible_would_be_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A leader that has not heard of a changed min.insync.replicas: it must go by the ELR that it was told."""
    original = SimulatedBroker.high_watermark

    def without_elr(self: SimulatedBroker, key: PartitionKey) -> int:
        self.views[key] = msgspec.structs.replace(self.views[key], elr=())
        return original(self, key)

    monkeypatch.setattr(SimulatedBroker, "high_watermark", without_elr)
    # it takes two changes of the setting in a bad moment: about one in three hundred
    assert finds(3_000)
