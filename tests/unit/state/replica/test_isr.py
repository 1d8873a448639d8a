"""Whom a leader counts as in sync and what it proposes (semantics rows 2, 57 to 59; KIP-497, 841, 903)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fastlog.errors import (
    FencedLeaderEpochError,
    IneligibleReplicaError,
    InvalidUpdateVersionError,
    NotControllerError,
)
from fastlog.ports import PartitionState
from fastlog.state.replica.isr import (
    AskState,
    Count,
    Effect,
    Follower,
    IsrSettings,
    LeaderIsr,
    Positions,
    Proposal,
    Propose,
)

ME = 1
EPOCHS = {1: 11, 2: 12, 3: 13}
LAG_MS = 30_000
SETTINGS = IsrSettings()


def state(isr: tuple[int, ...] = (1, 2, 3), *, version: int = 5, leader_epoch: int = 4) -> PartitionState:
    return PartitionState(
        replicas=(1, 2, 3),
        leader=ME,
        leader_epoch=leader_epoch,
        isr=isr,
        isr_epochs=tuple(EPOCHS[member] for member in isr),
        version=version,
    )


def leader(isr: tuple[int, ...] = (1, 2, 3)) -> LeaderIsr:
    return LeaderIsr(ME, state(isr), broker_epochs=EPOCHS, now_ms=0)


def follower(broker_id: int, end: int = 100, behind_ms: int = 0, epoch: int | None = None) -> Follower:
    return Follower(
        broker_id=broker_id,
        broker_epoch=EPOCHS[broker_id] if epoch is None else epoch,
        log_end_offset=end,
        behind_ms=behind_ms,
    )


def positions(*followers: Follower, high_watermark: int = 90, epoch_start: int = 50) -> Positions:
    return Positions(high_watermark=high_watermark, epoch_start_offset=epoch_start, followers=followers)


def proposed(effects: list[Effect]) -> Proposal:
    (found,) = [effect.proposal for effect in effects if isinstance(effect, Propose)]
    return found


def joining() -> tuple[LeaderIsr, Proposal]:
    """A leader that has proposed to add 3."""
    it = leader((1, 2))
    return it, proposed(it.looked(positions(follower(2), follower(3)), 10))


def test_a_follower_that_has_what_is_committed_is_proposed_and_counts_at_once() -> None:
    it = leader((1, 2))
    effects = it.looked(positions(follower(2), follower(3, end=90)), 10)
    assert effects[0] == Count(partition_epoch=5, committed=(1, 2), maximal=(1, 2, 3))
    assert proposed(effects) == Proposal(
        leader_epoch=4, partition_epoch=5, isr=(1, 2, 3), isr_epochs=(11, 12, 13)
    )


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(follower(3, end=89), id="below the high watermark"),
        pytest.param(follower(3, epoch=9), id="of an earlier registration"),
    ],
)
def test_who_may_lack_something_is_not_proposed(late: Follower) -> None:
    assert leader((1, 2)).looked(positions(follower(2), late), 10) == []


def test_a_follower_that_has_not_reached_the_epochs_start_is_not_proposed() -> None:
    at = positions(follower(2), follower(3, end=99), high_watermark=90, epoch_start=100)
    assert leader((1, 2)).looked(at, 10) == []


def test_a_broker_that_is_no_replica_is_not_proposed() -> None:
    it = LeaderIsr(ME, state((1, 2)), broker_epochs={**EPOCHS, 4: 14}, now_ms=0)
    stranger = Follower(broker_id=4, broker_epoch=14, log_end_offset=100, behind_ms=0)
    assert it.looked(positions(follower(2), stranger), 10) == []


def test_time_decides_who_is_out_of_sync_not_the_number_of_records() -> None:
    it = leader()
    far = follower(3, end=0, behind_ms=LAG_MS)
    assert it.looked(positions(follower(2), far), LAG_MS) == []
    late = follower(3, end=89, behind_ms=LAG_MS + 1)
    effects = it.looked(positions(follower(2), late), LAG_MS)
    assert proposed(effects).isr == (1, 2)
    # until the controller says so it counts: shrinking early would acknowledge what it lacks
    assert it.maximal == (1, 2, 3)


def test_a_member_that_hangs_is_out_of_sync_though_the_high_watermark_waits_for_it() -> None:
    it = leader()
    hangs = follower(3, end=90, behind_ms=LAG_MS + 1)
    assert proposed(it.looked(positions(follower(2), hangs), LAG_MS)).isr == (1, 2)
    it.told(state((1, 2), version=6))
    assert it.looked(positions(follower(2), hangs), 2 * LAG_MS) == [], "and does not come back by hanging"
    back = follower(3, end=90)
    assert proposed(it.looked(positions(follower(2), back), 2 * LAG_MS)).isr == (1, 2, 3)


def test_a_member_that_never_fetches_is_out_of_sync_after_the_same_time() -> None:
    it = leader()
    assert it.looked(positions(follower(2)), LAG_MS) == []
    assert proposed(it.looked(positions(follower(2)), LAG_MS + 1)).isr == (1, 2)


def test_a_member_that_came_back_wiped_is_not_taken_for_what_it_was() -> None:
    it = leader()
    it.brokers({**EPOCHS, 3: 23})
    effects = it.looked(positions(follower(2), follower(3, end=0, epoch=23)), 10)
    assert proposed(effects).isr == (1, 2)


def test_a_member_that_came_back_whole_is_proposed_with_its_new_epoch() -> None:
    it = leader()
    it.brokers({**EPOCHS, 3: 23})
    effects = it.looked(positions(follower(2), follower(3, epoch=23)), 10)
    assert proposed(effects).isr_epochs == (11, 12, 23)


def test_one_change_at_a_time() -> None:
    it, _ = joining()
    late = follower(2, end=0, behind_ms=LAG_MS + 1)
    assert it.looked(positions(late, follower(3)), 11) == []


def test_a_proposal_without_an_answer_is_sent_again_as_it_was() -> None:
    it, proposal = joining()
    gone = positions(follower(2), follower(3, end=0, behind_ms=LAG_MS + 1))
    assert it.looked(gone, 10 + SETTINGS.retry_ms - 1) == []
    assert it.looked(gone, 10 + SETTINGS.retry_ms) == [Propose(proposal=proposal)]


def test_the_controllers_answer_is_the_new_state() -> None:
    it, proposal = joining()
    effects = it.answered(proposal, 0, state(version=6), 20)
    assert effects == [Count(partition_epoch=6, committed=(1, 2, 3), maximal=(1, 2, 3))]
    assert it.looked(positions(follower(2), follower(3)), 21) == []


def test_a_published_state_settles_a_proposal_before_its_answer_does() -> None:
    it, proposal = joining()
    assert it.told(state(version=6)) == [Count(partition_epoch=6, committed=(1, 2, 3), maximal=(1, 2, 3))]
    assert it.answered(proposal, 0, state(version=6), 20) == []
    assert it.answered(proposal, InvalidUpdateVersionError.code, None, 30) == []
    assert it.maximal == (1, 2, 3)


def test_a_state_that_took_another_change_ends_the_proposal() -> None:
    it, _ = joining()
    it.told(state((1,), version=6))
    assert it.maximal == (1,)


@pytest.mark.parametrize("old", [{"version": 5}, {"version": 4}, {"version": 9, "leader_epoch": 3}])
def test_a_state_that_is_not_newer_changes_nothing(old: dict[str, Any]) -> None:
    it = leader((1, 2))
    assert it.told(state(**old)) == []
    assert it.maximal == (1, 2)


def test_an_ineligible_follower_is_left_out_for_a_while() -> None:
    it, proposal = joining()
    effects = it.answered(proposal, IneligibleReplicaError.code, None, 20)
    assert effects == [Count(partition_epoch=5, committed=(1, 2), maximal=(1, 2))]
    at = positions(follower(2), follower(3))
    assert it.looked(at, 20 + SETTINGS.barred_ms - 1) == []
    assert proposed(it.looked(at, 20 + SETTINGS.barred_ms)) == proposal


@pytest.mark.parametrize("error", [FencedLeaderEpochError, InvalidUpdateVersionError])
def test_after_a_refusal_of_an_old_view_the_proposed_member_counts_until_a_newer_state_comes(
    error: Any,
) -> None:
    it, proposal = joining()
    at = positions(follower(2), follower(3))
    assert it.answered(proposal, error.code, None, 20) == []
    assert it.looked(at, 20 + SETTINGS.watchdog_ms - 1) == []
    assert it.maximal == (1, 2, 3)
    # an announcement that never comes is asked for
    assert it.looked(at, 20 + SETTINGS.watchdog_ms) == [AskState()]
    assert it.told(state((1, 2), version=7)) == [Count(partition_epoch=7, committed=(1, 2), maximal=(1, 2))]
    assert proposed(it.looked(at, 30 + SETTINGS.watchdog_ms)).partition_epoch == 7


def test_another_controller_is_asked_the_same() -> None:
    it, proposal = joining()
    assert it.answered(proposal, NotControllerError.code, None, 20) == []
    again = it.looked(positions(follower(2), follower(3)), 10 + SETTINGS.retry_ms)
    assert again == [Propose(proposal=proposal)]


def test_an_answer_to_an_earlier_proposal_is_ignored() -> None:
    it, proposal = joining()
    it.told(state((1, 2), version=6))
    at = positions(follower(2), follower(3))
    second = proposed(it.looked(at, 2_000))
    assert it.answered(proposal, IneligibleReplicaError.code, None, 2_001) == []
    assert it.maximal == (1, 2, 3)
    assert second.partition_epoch == 6


def test_a_leader_that_was_elected_uncleanly_proposes_its_isr_though_nobody_joins() -> None:
    recovering = msgspec.structs.replace(state((1,)), recovering=True)
    it = LeaderIsr(ME, recovering, broker_epochs=EPOCHS, now_ms=0)
    effects = it.looked(positions(), 10)
    assert proposed(effects) == Proposal(leader_epoch=4, partition_epoch=5, isr=(1,), isr_epochs=(11,))
    it.answered(proposed(effects), 0, state((1,), version=6), 20)
    assert (it.is_proposing, it.looked(positions(), 2_000)) == (False, [])
