"""Proposals of in-sync replicas and their answers, and questions for log ends."""

from __future__ import annotations

from typing import Any

from fastlog.broker.peers.messages import Answer
from fastlog.errors import IneligibleReplicaError, NotControllerError, StaleBrokerEpochError
from fastlog.ports import PartitionKey, PartitionState
from fastlog.state.controller.effects import AskLogEnds, Item, Reply
from fastlog.state.controller.events import IsrAsked, LogEnd, Proposed
from tests.support.replica_fakes import EPOCHS, KEY, ME, TOPIC_ID, Told, state, topic

SECOND = PartitionKey(TOPIC_ID, 1)
CONTROLLER = 9


def position(
    index: int, *followers: tuple[int, int], high_watermark: int = 9, epoch: int = 1, behind_ms: int = 0
) -> Any:
    """Of a led partition that ends at 10: followers with their log ends."""
    rows = [(it, EPOCHS[it], end, 0, behind_ms) for it, end in followers]
    return ("t", index, epoch, 10, high_watermark, 5, rows)


def joinable(it: Told, *indexes: int, replica: int = 3) -> list[Proposed]:
    """A follower may join: what is proposed then."""
    it.engine.notices = [("joinable", "t", index, replica) for index in indexes]
    it.replicas.take_notices()
    it.replicas.tick()
    return proposed(it)


def proposed(it: Told, controller_epoch: int = 1) -> list[Proposed]:
    before = len(it.peers.asked)
    it.replicas.propose(CONTROLLER, controller_epoch)
    found: list[Proposed] = []
    for broker_id, command, _ in it.peers.asked[before:]:
        assert broker_id == CONTROLLER
        assert isinstance(command, IsrAsked)
        assert (command.broker_id, command.broker_epoch) == (ME, EPOCHS[ME])
        found += command.proposals
    return found


def leading(*states: PartitionState) -> Told:
    it = Told()
    it.snapshot(topic(*states))
    it.took()
    return it


def answer(it: Told, *items: Item, code: int = 0, asked: int = -1) -> None:
    it.peers.asked[asked][2](Answer(code=code, body=Reply(token=None, code=code, items=items)))


def test_what_may_join_at_one_moment_is_proposed_together_and_counted_at_once() -> None:
    it = leading(state(), state(), state())
    it.engine.positions = [position(index, (2, 10), (3, 10)) for index in range(3)]
    assert joinable(it, 0, 1) == [
        Proposed(KEY, 1, 1, (1, 2, 3), (11, 12, 13)),
        Proposed(SECOND, 1, 1, (1, 2, 3), (11, 12, 13)),
    ]
    assert len(it.peers.asked) == 1
    assert it.took("isr") == [("isr", "t", index, (1, 2), (1, 2, 3), 1, False) for index in (0, 1)]


def test_the_answer_is_the_new_state_and_the_delta_that_follows_changes_nothing() -> None:
    it = leading(state())
    it.engine.positions = [position(0, (2, 10), (3, 10))]
    joinable(it, 0)
    it.took()
    now = state(version=2, isr=(1, 2, 3))
    answer(it, Item(KEY, state=now))
    assert it.took() == [("isr", "t", 0, (1, 2, 3), (1, 2, 3), 2, False)]
    it.delta(now)
    assert it.took() == [("shown", ("t",), ())]
    assert it.replicas.image.state(KEY) == now


def test_each_item_of_an_answer_is_for_its_own_partition() -> None:
    it = leading(state(), state())
    it.engine.positions = [position(index, (2, 10), (3, 10)) for index in range(2)]
    joinable(it, 0, 1)
    it.took()
    answer(
        it,
        Item(KEY, code=IneligibleReplicaError.code),
        Item(SECOND, state=state(version=2, isr=(1, 2, 3))),
    )
    assert it.took("isr") == [
        ("isr", "t", 0, (1, 2), (1, 2), 1, False),
        ("isr", "t", 1, (1, 2, 3), (1, 2, 3), 2, False),
    ]
    it.clock.ms += 1_100
    it.replicas.tick()
    assert [found.key for found in proposed(it)] == [KEY], "the first is proposed again after a while"


def test_a_proposal_that_met_no_controller_goes_to_the_next_one_as_it_was() -> None:
    it = leading(state())
    it.engine.positions = [position(0, (2, 10), (3, 10))]
    first = joinable(it, 0)
    answer(it, code=NotControllerError.code)
    it.replicas.tick()
    assert proposed(it) == []
    it.clock.ms += 1_100
    it.replicas.tick()
    assert proposed(it) == first


def test_an_answer_of_a_leadership_that_is_over_says_nothing() -> None:
    it = leading(state())
    it.engine.positions = [position(0, (2, 10), (3, 10))]
    joinable(it, 0)
    it.delta(state(epoch=3))
    it.took()
    answer(it, Item(KEY, state=state(version=2, isr=(1, 2, 3))))
    assert it.took() == []


def test_followers_that_lag_are_taken_out_at_the_regular_look_only() -> None:
    it = leading(state())
    it.engine.positions = [position(0, (2, 9), behind_ms=40_000)]
    it.clock.ms += 14_000
    it.replicas.tick()
    assert proposed(it) == []
    it.clock.ms += 2_000
    it.replicas.tick()
    assert [found.isr for found in proposed(it)] == [(1,)]


def test_who_has_everything_stays_however_long_nothing_came() -> None:
    it = leading(state())
    it.engine.positions = [position(0, (2, 10), behind_ms=40_000)]
    it.clock.ms += 16_000
    it.replicas.tick()
    assert proposed(it) == []


def test_a_leader_that_was_elected_uncleanly_says_that_it_has_recovered_though_it_is_alone() -> None:
    it = leading(state(isr=(1,), replicas=(1,), recovering=True))
    it.clock.ms += 500
    it.replicas.tick()
    assert [found.isr for found in proposed(it)] == [(1,)]
    answer(it, Item(KEY, state=state(version=2, isr=(1,), replicas=(1,))))
    it.clock.ms += 5_000
    it.replicas.tick()
    assert (proposed(it), it.replicas.leaders.is_restless) == ([], False)


def test_nothing_is_proposed_by_a_broker_that_does_not_know_its_registration() -> None:
    it = leading(state())
    it.engine.positions = [position(0, (2, 10), (3, 10))]
    it.replicas.resign()
    assert joinable(it, 0) == []


def test_synced_logs_are_handed_to_those_who_fetch() -> None:
    it = leading(state(leader=2))
    it.engine.notices = [("synced", "t", 0, -1), ("synced", "absent", 0, -1)]
    it.replicas.take_notices()
    assert it.took() == [("synced", KEY)]


# --- log ends ---


def ask(broker_epoch: int = EPOCHS[ME], *keys: PartitionKey) -> AskLogEnds:
    return AskLogEnds(broker_id=ME, broker_epoch=broker_epoch, keys=keys or (KEY,))


def test_log_ends_are_told_of_partitions_that_have_no_leader() -> None:
    it = leading(state(leader=-1, isr=(), epoch=3))
    it.engine.places = {("t", 0): (17, 2, 17, 4, 15)}
    (told,) = it.command(ask())
    assert told.body.broker_epoch == EPOCHS[ME]
    assert told.body.ends == (LogEnd(KEY, 2, 17, 4),)


def test_a_question_that_overtook_the_state_waits_for_it() -> None:
    it = leading(state(leader=2), state(leader=2))
    it.engine.places = {("t", 0): (17, 2, 17, 0, 15), ("t", 1): (1, 1, 1, 0, 1)}
    answers = it.command(ask(EPOCHS[ME], KEY, SECOND))
    assert answers == []
    it.delta(state(leader=-1, isr=(), epoch=2))
    assert answers == [], "the second is still followed, and may grow"
    it.clock.ms += 1_000
    it.replicas.tick()
    assert [it.body.ends for it in answers] == [(LogEnd(KEY, 2, 17),)]


def test_a_log_that_is_not_open_is_not_told_to_be_empty() -> None:
    it = leading(state(leader=-1, isr=(), epoch=3))
    (told,) = it.command(ask())
    assert told.body.ends == ()


def test_a_question_for_another_registration_is_refused() -> None:
    it = leading(state(leader=-1, isr=(), epoch=3))
    (told,) = it.command(ask(10))
    assert told.code == StaleBrokerEpochError.code


def test_the_refusal_of_a_controller_that_has_a_successor_says_nothing_of_what_that_did() -> None:
    it = leading(state())
    it.engine.positions = [position(0, (2, 10), (3, 10))]
    joinable(it, 0)
    it.took()
    # the answer takes long, and there is another controller meanwhile, which is asked the same and takes it
    it.clock.ms += 1_100
    it.replicas.tick()
    assert [found.key for found in proposed(it, controller_epoch=2)] == [KEY]
    answer(it, Item(KEY, code=IneligibleReplicaError.code), asked=-2)
    assert it.took("isr") == [], "what was proposed may stand"
    answer(it, Item(KEY, code=IneligibleReplicaError.code))
    assert it.took("isr") == [("isr", "t", 0, (1, 2), (1, 2), 1, False)]
