"""Placement: leaders even to within one, no rack twice while there is another, the same answer to the same question."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlog.errors import InvalidPartitionsError, InvalidReplicationFactorError
from fastlog.state.controller.decide.placement import place

RACKS = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=9)


@given(racks=RACKS, data=st.data(), count=st.integers(1, 60), start=st.integers(0, 1_000))
def test_racks_and_leaders(racks: list[str], data: st.DataObject, count: int, start: int) -> None:
    rack_of = dict(enumerate(racks, start=1))
    factor = data.draw(st.integers(1, len(racks)))
    rows = place(count, factor, list(rack_of), racks=rack_of, start=start)
    assert rows == place(count, factor, sorted(rack_of, reverse=True), racks=rack_of, start=start)
    assert len(rows) == count
    for row in rows:
        assert len(set(row)) == len(row) == factor
        assert set(row) <= set(rack_of)
        assert len({rack_of[it] for it in row}) == min(factor, len(set(racks)))
    leaders = Counter(row[0] for row in rows)
    assert max(leaders.values()) - min(leaders.get(it, 0) for it in rack_of) <= 1


@given(brokers=st.integers(1, 9), rounds=st.integers(1, 4), data=st.data())
def test_replicas_without_racks(brokers: int, rounds: int, data: st.DataObject) -> None:
    """Whole rounds: every broker has as many, and a lost leader's load goes to different ones."""
    factor = data.draw(st.integers(1, brokers))
    rows = place(brokers * rounds, factor, range(brokers))
    assert set(Counter(it for row in rows for it in row).values()) == {factor * rounds}
    if factor > 1 and brokers > 1:
        heirs = {row[1] for row in rows if row[0] == 0}
        assert len(heirs) == min(rounds, brokers - 1)


def test_topics_of_one_partition_go_round() -> None:
    leaders = [place(1, 2, [1, 2, 3], start=start)[0][0] for start in range(6)]
    assert leaders == [1, 2, 3, 1, 2, 3]


def test_a_single_node() -> None:
    assert place(3, 1, [7]) == [(7,), (7,), (7,)]
    with pytest.raises(InvalidReplicationFactorError, match="needs as many brokers, and there are 1"):
        place(1, 2, [7])
    with pytest.raises(InvalidPartitionsError):
        place(0, 1, [7])
