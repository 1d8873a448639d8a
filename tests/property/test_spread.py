"""Plans that even out a cluster: as even as can be, with few moves, and nothing left to plan afterwards."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlog.errors import InvalidReplicationFactorError
from fastlog.state.controller.decide.placement import place
from fastlog.state.controller.decide.spread import balanced, without_broker

Rows = dict[tuple[str, int], tuple[int, ...]]


@st.composite
def clusters(draw: st.DrawFn, *, racked: bool) -> tuple[Rows, dict[int, str | None]]:
    """Partitions of some topics, anyhow on the first few brokers of several."""
    brokers = draw(st.integers(1, 7))
    racks = dict.fromkeys(range(1, brokers + 1), None) if not racked else {}
    for broker in range(1, brokers + 1) if racked else ():
        racks[broker] = draw(st.sampled_from(["a", "b", "c", None]))
    used = draw(st.integers(1, brokers))
    rows: Rows = {}
    for topic in range(draw(st.integers(1, 4))):
        factor = draw(st.integers(1, used))
        for partition in range(draw(st.integers(1, 12))):
            order = draw(st.permutations(range(1, used + 1)))
            rows[f"t{topic}", partition] = tuple(order[:factor])
    return rows, racks


def replicas(rows: Rows) -> Counter[int]:
    return Counter(broker for row in rows.values() for broker in row)


def racks_of(row: tuple[int, ...], racks: dict[int, str | None]) -> int:
    named = [racks[it] for it in row]
    return len({it for it in named if it}) + named.count(None)


@given(made=clusters(racked=False))
def test_replicas_are_even_to_one_with_as_few_moves_as_that_takes(
    made: tuple[Rows, dict[int, str | None]],
) -> None:
    rows, racks = made
    after = rows | balanced(rows, racks)
    held, before = replicas(after), replicas(rows)
    assert max(held.values()) - min(held.get(it, 0) for it in racks) <= 1
    moved = sum(len(set(row) - set(rows[place])) for place, row in after.items())
    least = min(held.get(it, 0) for it in racks)
    assert moved <= sum(max(0, count - least) for count in before.values())
    # nobody gets some and gives some
    for broker in racks:
        gained = sum(broker in after[place] and broker not in row for place, row in rows.items())
        lost = sum(broker not in after[place] and broker in row for place, row in rows.items())
        assert not (gained and lost)


@given(made=clusters(racked=True))
def test_a_plan_keeps_the_factor_and_the_racks_and_leaves_nothing_to_plan(
    made: tuple[Rows, dict[int, str | None]],
) -> None:
    rows, racks = made
    changes = balanced(rows, racks)
    after = rows | changes
    for where, row in after.items():
        assert len(set(row)) == len(row) == len(rows[where])
        assert set(row) <= set(racks)
        assert racks_of(row, racks) >= racks_of(rows[where], racks)
        named = {it for it in racks.values() if it}
        assert racks_of(row, racks) == min(len(row), len(named) + list(racks.values()).count(None))
    assert all(row != rows[where] for where, row in changes.items())
    assert balanced(after, racks) == {}


@given(made=clusters(racked=True))
def test_nobody_leads_two_more_than_one_it_could_hand_over_to(
    made: tuple[Rows, dict[int, str | None]],
) -> None:
    rows, racks = made
    after = rows | balanced(rows, racks)
    leads = Counter(row[0] for row in after.values())
    for row in after.values():
        for other in row[1:]:
            assert leads[row[0]] - leads[other] < 2


@given(partitions=st.integers(1, 60), brokers=st.integers(1, 6))
def test_with_replicas_everywhere_leaders_are_even_to_one(partitions: int, brokers: int) -> None:
    rows = {("t", it): tuple(range(1, brokers + 1)) for it in range(partitions)}
    after = rows | balanced(rows, dict.fromkeys(range(1, brokers + 1)))
    leads = Counter(row[0] for row in after.values())
    assert max(leads.values()) - min(leads.get(it, 0) for it in range(1, brokers + 1)) <= 1


def test_what_was_placed_evenly_is_left_alone() -> None:
    rows = {("t", number): row for number, row in enumerate(place(30, 3, [1, 2, 3, 4, 5]))}
    assert balanced(rows, dict.fromkeys([1, 2, 3, 4, 5])) == {}


def test_a_broker_that_was_added_gets_its_share_of_every_topic() -> None:
    rows = {
        (topic, number): row
        for topic in ("one", "two", "three")
        for number, row in enumerate(place(12, 3, [1, 2, 3]))
    }
    after = rows | balanced(rows, dict.fromkeys([1, 2, 3, 4]))
    assert replicas(after) == {1: 27, 2: 27, 3: 27, 4: 27}
    assert Counter(row[0] for row in after.values()) == {1: 9, 2: 9, 3: 9, 4: 9}
    shares = sorted(Counter(topic for (topic, _), row in after.items() if 4 in row).values())
    assert shares == [9, 9, 9]


def test_replicas_on_brokers_that_are_away_stay_there() -> None:
    rows = {("t", 0): (9, 1), ("t", 1): (9, 1), ("t", 2): (9, 1)}
    after = rows | balanced(rows, {1: None, 2: None})
    assert all(9 in row for row in after.values())
    assert sorted(replicas(after).items()) == [(1, 2), (2, 1), (9, 3)]


def test_leaders_are_handed_on_over_a_third() -> None:
    """1 leads three and shares none with 3, which leads none: 2 hands on to 3 what it gets from 1."""
    rows = {("t", 0): (1, 2), ("t", 1): (1, 2), ("t", 2): (1, 2), ("u", 0): (2, 3), ("u", 1): (2, 3)}
    after = rows | balanced(rows, dict.fromkeys([1, 2, 3]))
    leads = sorted(Counter(row[0] for row in after.values()).values())
    assert leads == [1, 2, 2]


def test_ten_thousand_partitions_get_a_fourth_and_a_fifth_broker() -> None:
    rows = {("t", number): row for number, row in enumerate(place(10_000, 3, [1, 2, 3]))}
    after = rows | balanced(rows, dict.fromkeys([1, 2, 3, 4, 5]))
    counts = sorted(replicas(after).values())
    assert all(right - left <= 1 for left, right in pairwise(counts))
    assert sum(counts) == 30_000


def test_who_leaves_hands_over_to_other_racks_and_to_whom_has_few() -> None:
    rows = {("t", 0): (1, 2), ("t", 1): (2, 1), ("t", 2): (2, 3)}
    racks: dict[int, str | None] = {1: "a", 2: "b", 3: "b", 4: "a"}
    assert without_broker(rows, 1, racks) == {("t", 0): (4, 2), ("t", 1): (2, 4)}


def test_who_leaves_is_named_with_what_has_nowhere_to_go() -> None:
    with pytest.raises(InvalidReplicationFactorError, match="orders:3 has 2 replicas, and without broker 2"):
        without_broker({("orders", 3): (1, 2)}, 2, {1: None, 2: None})
