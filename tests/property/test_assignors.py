"""The assignors through the lives of random groups: one owner for each partition, balance, and little moving."""

from __future__ import annotations

import random

import pytest

from fastlog.state.assignors import ASSIGNORS, Counts, Partition, Subscription
from tests.support.groups import Life

SEEDS, ROUNDS = 60, 6
Assignment = dict[str, list[Partition]]


def lives(assignor: str, *, same_topics: bool) -> list[tuple[int, Life]]:
    return [(seed, Life(assignor, random.Random(seed * 2 + same_topics))) for seed in range(SEEDS)]


def require_owners(
    counts: Counts, subscriptions: dict[str, Subscription], assignment: Assignment, where: str
) -> set[Partition]:
    """Every partition at one member at most, which wants it; the partitions that nobody has."""
    given = [partition for partitions in assignment.values() for partition in partitions]
    assert len(given) == len(set(given)), where
    assert assignment.keys() == subscriptions.keys(), where
    for member, partitions in assignment.items():
        assert all(topic in subscriptions[member].topics for topic, _ in partitions), where
    wanted = {(topic, number) for topic, count in counts.items() for number in range(count)}
    assert set(given) <= wanted, where
    return wanted - set(given)


@pytest.mark.parametrize("same_topics", [True, False], ids=["same", "different"])
@pytest.mark.parametrize("name", ["range", "roundrobin", "sticky"])
def test_every_partition_has_one_owner(name: str, *, same_topics: bool) -> None:
    for seed, life in lives(name, same_topics=same_topics):
        for turn in range(ROUNDS):
            life.change(same_topics=same_topics)
            subscriptions = life.subscriptions()
            assignment = ASSIGNORS[name].assign(life.known(), subscriptions)
            left = require_owners(life.known(), subscriptions, assignment, f"seed {seed} turn {turn}")
            assert not left
            life.take(assignment)


@pytest.mark.parametrize("same_topics", [True, False], ids=["same", "different"])
def test_a_cooperative_group_settles_and_never_takes_what_another_still_has(*, same_topics: bool) -> None:
    assignor = ASSIGNORS["cooperative-sticky"]
    for seed, life in lives(assignor.name, same_topics=same_topics):
        for turn in range(ROUNDS):
            where = f"seed {seed} turn {turn}"
            life.change(same_topics=same_topics)
            for _ in range(8):
                subscriptions = life.subscriptions()
                owners = {p: m for m, s in subscriptions.items() for p in s.owned_partitions}
                assignment = assignor.assign(life.known(), subscriptions)
                left = require_owners(life.known(), subscriptions, assignment, where)
                for member, partitions in assignment.items():
                    assert all(owners.get(p, member) == member for p in partitions), where
                life.generation += 1
                life.given = {member: (given, life.generation) for member, given in assignment.items()}
                if not left:
                    break
            assert not left, where


@pytest.mark.parametrize("name", ["roundrobin", "sticky", "cooperative-sticky"])
def test_shares_of_equal_members_differ_by_one_at_most(name: str) -> None:
    for seed, life in lives(name, same_topics=True):
        for _ in range(ROUNDS):
            life.change(same_topics=True)
            life.given = {}
            assignment = ASSIGNORS[name].assign(life.known(), life.subscriptions())
            sizes = {len(partitions) for partitions in assignment.values()}
            assert max(sizes) - min(sizes) <= 1, f"seed {seed}"


@pytest.mark.parametrize("name", ["sticky", "cooperative-sticky"])
def test_nothing_moves_that_need_not(name: str) -> None:
    for seed, life in lives(name, same_topics=True):
        life.change(same_topics=True)
        assignor = ASSIGNORS[name]
        first = assignor.assign(life.known(), life.subscriptions())
        life.given = {member: (partitions, 1) for member, partitions in first.items()}
        # nothing changed: nothing moves
        again = assignor.assign(life.known(), life.subscriptions())
        assert {m: set(p) for m, p in again.items()} == {m: set(p) for m, p in first.items()}, f"seed {seed}"
        # one member is gone: the others keep all they have
        if len(life.members) < 2:
            continue
        gone = life.chances.choice(sorted(life.members))
        del life.members[gone]
        after = assignor.assign(life.known(), life.subscriptions())
        for member, partitions in after.items():
            assert set(first[member]) <= set(partitions), f"seed {seed}"


def test_a_newer_generation_wins_and_equal_claims_cancel_out() -> None:
    assignor = ASSIGNORS["cooperative-sticky"]
    both = (("t", 0), ("t", 1))
    old = Subscription(topics=("t",), owned_partitions=both, generation_id=3)
    new = Subscription(topics=("t",), owned_partitions=both[:1], generation_id=4)
    assignment = assignor.assign({"t": 2}, {"old": old, "new": new})
    assert assignment == {"old": [("t", 1)], "new": [("t", 0)]}
    claimed = Subscription(topics=("t",), owned_partitions=both[:1], generation_id=4)
    assert assignor.assign({"t": 1}, {"x": claimed, "y": claimed}) == {"x": [], "y": []}
