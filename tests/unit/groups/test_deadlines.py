"""Deadlines are met in their order, however often they were moved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastlog.state.deadlines import Deadlines


def due(deadlines: Deadlines, now_ms: int) -> list[str]:
    found = []
    while (key := deadlines.pop(now_ms)) is not None:
        found.append(key[0])
    return found


def test_the_earliest_comes_first_and_each_once() -> None:
    deadlines = Deadlines()
    for key, at_ms in (("c", 30), ("a", 10), ("b", 20)):
        deadlines.set((key,), at_ms)
    assert deadlines.next_ms() == 10
    assert due(deadlines, 9) == []
    assert due(deadlines, 20) == ["a", "b"]
    assert due(deadlines, 100) == ["c"]
    assert deadlines.next_ms() is None
    assert len(deadlines) == 0


def test_a_deadline_moves_both_ways_and_goes_away() -> None:
    deadlines = Deadlines()
    deadlines.set(("a",), 10)
    deadlines.set(("a",), 50)
    assert due(deadlines, 49) == []
    deadlines.set(("a",), 20)
    assert deadlines.of(("a",)) == 20
    assert due(deadlines, 20) == ["a"]
    deadlines.set(("a",), 30)
    deadlines.cancel(("a",))
    deadlines.cancel(("a",))
    assert due(deadlines, 1000) == []


CHANGES = st.lists(
    st.tuples(st.sampled_from(["set", "cancel", "advance"]), st.sampled_from("abcde"), st.integers(0, 50))
)


@given(CHANGES)
def test_they_are_what_a_dictionary_would_say(changes: list[tuple[str, str, int]]) -> None:
    deadlines, model, now = Deadlines(), dict[str, int](), 0
    for what, key, number in changes:
        if what == "set":
            deadlines.set((key,), now + number)
            model[key] = now + number
        elif what == "cancel":
            deadlines.cancel((key,))
            model.pop(key, None)
        else:
            now += number
            expected = sorted((at_ms, it) for it, at_ms in model.items() if at_ms <= now)
            assert due(deadlines, now) == [it for _, it in expected]
            for _, it in expected:
                del model[it]
        assert len(deadlines) == len(model)
        following = deadlines.next_ms()
        if model:
            assert following is not None
            assert following <= min(model.values())
