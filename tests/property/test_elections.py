"""Settling, over every state and whatever is known of the brokers: what comes out is sound, and stays as it is."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fastlog.ports import PartitionState
from fastlog.state.controller.decide.election import members_of, settle
from fastlog.state.controller.settings import TopicFacts

IDS = (1, 2, 3, 4)


class Known:
    """A View: the broker epoch of those that are registered, and what else is known of them."""

    def __init__(
        self, epochs: dict[int, int], leaving: set[int], waiting: set[int], unclean: set[int]
    ) -> None:
        self.epochs = epochs
        self.leaving = leaving
        self.waiting = waiting
        self.unclean = unclean

    def __repr__(self) -> str:
        return f"{self.epochs}, leaving {self.leaving}, not accepted {self.waiting}, unclean {self.unclean}"

    def is_registered(self, broker: int, epoch: int) -> bool:
        return self.epochs.get(broker) == epoch

    def is_leaving(self, broker: int) -> bool:
        return broker in self.leaving

    def may_lead(self, broker: int) -> bool:
        return broker in self.epochs and broker not in self.leaving | self.waiting

    def has_lost(self, broker: int, epoch: int | None) -> bool:
        if broker not in self.epochs or broker not in self.unclean:
            return False
        return broker in self.waiting if epoch is None else self.epochs[broker] != epoch

    def epoch_of(self, broker: int) -> int:
        return self.epochs[broker]


@st.composite
def views(draw: st.DrawFn) -> Known:
    some = st.sets(st.sampled_from(IDS))
    epochs = draw(st.dictionaries(st.sampled_from(IDS), st.integers(10, 12)))
    return Known(epochs, draw(some), draw(some), draw(some))


@st.composite
def states(draw: st.DrawFn) -> PartitionState:
    replicas = tuple(draw(st.permutations(IDS))[: draw(st.integers(1, 4))])
    kinds = {it: draw(st.sampled_from(["isr", "isr", "elr", "lost", "out"])) for it in replicas}
    isr = tuple(it for it in replicas if kinds[it] == "isr")
    adding = tuple(it for it in replicas[:-1] if draw(st.booleans()) and draw(st.booleans()))
    return PartitionState(
        replicas=replicas,
        leader=draw(st.sampled_from(isr)) if isr else -1,
        leader_epoch=draw(st.integers(0, 5)),
        isr=isr,
        isr_epochs=tuple(draw(st.integers(10, 12)) for _ in isr),
        elr=tuple(it for it in replicas if kinds[it] == "elr"),
        last_known_elr=tuple(it for it in replicas if kinds[it] == "lost"),
        recovering=draw(st.booleans()),
        adding=adding,
        removing=tuple(
            it for it in replicas if it not in adding and draw(st.booleans()) and draw(st.booleans())
        ),
        version=7,
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[PartitionState, Known]:
    """A state, and what may be known of its brokers: who waits to be accepted was let into no ISR yet."""
    state, view = draw(states()), draw(views())
    view.waiting -= {member for member, epoch in members_of(state) if view.is_registered(member, epoch)}
    return state, view


FACTS = st.builds(TopicFacts, st.integers(1, 4), st.booleans())


@given(case=cases(), facts=FACTS)
def test_what_comes_out_is_sound(case: tuple[PartitionState, Known], facts: TopicFacts) -> None:
    before, view = case
    after = settle(before, view, facts)
    assert (after.leader == -1) == (after.isr == ())
    assert after.leader in (*after.isr, -1)
    counted = (*after.isr, *after.elr, *after.last_known_elr)
    assert len(set(counted)) == len(counted)
    assert set(counted) <= set(after.replicas)
    assert all(view.is_registered(*it) for it in members_of(after))
    assert after.version == before.version
    same_process = set(members_of(before)) & set(members_of(after))
    if after.leader != before.leader or after.leader not in {it for it, _ in same_process} | {-1}:
        assert after.leader_epoch == before.leader_epoch + 1


@given(case=cases(), facts=FACTS)
def test_who_may_become_leader(case: tuple[PartitionState, Known], facts: TopicFacts) -> None:
    before, view = case
    after = settle(before, view, facts)
    if after.leader == -1:
        # nobody was left who could
        assert not any(view.is_registered(*it) for it in members_of(before))
        assert not any(view.may_lead(it) and not view.has_lost(it, None) for it in before.elr)
    elif after.leader in before.isr or after.leader in before.elr:
        assert after.recovering == before.recovering or facts.unclean
    else:
        assert facts.unclean
        assert after.recovering
        assert (after.isr, after.elr, after.last_known_elr) == ((after.leader,), (), ())


@given(case=cases(), facts=FACTS)
def test_what_is_settled_stays(case: tuple[PartitionState, Known], facts: TopicFacts) -> None:
    """Or the controller would write for ever."""
    before, view = case
    after = msgspec.structs.replace(settle(before, view, facts), version=8)
    assert settle(after, view, facts) == after


@given(case=cases(), facts=FACTS)
def test_eligible_are_only_those_that_were_in_sync_or_eligible(
    case: tuple[PartitionState, Known], facts: TopicFacts
) -> None:
    before, view = case
    after = settle(before, view, facts)
    assert set(after.elr) <= {*before.isr, *before.elr}
    assert not any(view.has_lost(it, dict(members_of(before)).get(it)) for it in after.elr)
    assert set(after.last_known_elr) <= {*before.isr, *before.elr, *before.last_known_elr}
    if after.leader != -1 and len(after.isr) >= min(facts.min_isr, len(after.replicas)):
        assert after.elr == after.last_known_elr == ()
    elif not (facts.unclean and after.recovering):
        # nobody who has all is forgotten, but by the end of a reassignment
        gone = {*before.isr, *before.elr} - {*after.isr, *after.elr, *after.last_known_elr}
        assert gone <= set(before.removing)


def test_the_last_to_stay_ends_a_reassignment_as_it_is_elected() -> None:
    """Found by the above: broker 2 was to go, and did; what is left is the whole target."""
    before = PartitionState(
        replicas=(1, 2),
        leader=2,
        leader_epoch=0,
        isr=(2,),
        isr_epochs=(10,),
        elr=(1,),
        removing=(2,),
        version=7,
    )
    view = Known({1: 10}, set(), set(), set())
    after = settle(before, view, TopicFacts(min_isr=1, unclean=False))
    assert after == PartitionState(
        replicas=(1,), leader=1, leader_epoch=1, isr=(1,), isr_epochs=(10,), version=7
    )
