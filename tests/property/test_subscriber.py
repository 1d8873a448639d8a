"""Whatever of a cluster's notices arrives, and when: in the end a broker has the image of the newest controller."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from fastlog.state.subscriber import Apply, AskSnapshot, Subscriber

BEACON_MS = 250


@dataclass(frozen=True)
class Told:
    controller_id: int
    controller_epoch: int
    sequence: int
    #: a delta adds a number; a snapshot has all
    numbers: frozenset[int]


@dataclass
class Controller:
    """One term: begins with what was stored, and goes on though the next one may be elected already."""

    broker_id: int
    epoch: int
    stored: set[int]
    sequence: int = 0
    told: list[Told] = field(default_factory=list)

    def change(self, number: int) -> None:
        self.stored.add(number)
        self.sequence += 1
        self.told.append(self.notice({number}))

    def notice(self, numbers: set[int]) -> Told:
        return Told(self.broker_id, self.epoch, self.sequence, frozenset(numbers))


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Controller], list[Told]]:
    """Terms of controllers, and what arrives of their deltas: some twice, some never, in any order."""
    stored: set[int] = set()
    terms: list[Controller] = []
    for epoch in range(1, draw(st.integers(1, 4)) + 1):
        term = Controller(draw(st.integers(1, 3)), epoch, set(stored))
        for _ in range(draw(st.integers(0, 5))):
            term.change(len(stored))
            stored |= term.stored
        terms.append(term)
    told = [it for term in terms for it in term.told]
    arrivals = draw(st.lists(st.sampled_from(told), max_size=2 * len(told))) if told else []
    return terms, arrivals


@given(stories(), st.data())
def test_the_image_is_that_of_the_newest_controller(
    story: tuple[list[Controller], list[Told]], data: st.DataObject
) -> None:
    terms, arrivals = story
    subscriber: Subscriber[Told, Told] = Subscriber()
    image: set[int] = set()
    asked: list[int] = []
    at = (-1, -1)

    def carry_out(effects: list[Apply[Told, Told] | AskSnapshot]) -> None:
        nonlocal image, at
        for effect in effects:
            if isinstance(effect, AskSnapshot):
                asked.append(effect.controller_id)
                continue
            told = effect.notice
            position = (told.controller_epoch, told.sequence)
            assert position > at, "nothing goes back"
            assert effect.is_snapshot or position == (at[0], at[1] + 1), "no delta is left out"
            image = set(told.numbers) if effect.is_snapshot else image | told.numbers
            at = position

    now_ms = 0
    for told in arrivals:
        now_ms += data.draw(st.integers(0, 300))
        carry_out(subscriber.delta(told, now_ms))
        is_answered: bool = data.draw(st.booleans())
        if asked and is_answered:
            # any term of that broker may answer: the answer of an earlier one may have been on its way
            broker = asked.pop()
            term = data.draw(st.sampled_from([it for it in terms if it.broker_id == broker]))
            carry_out(subscriber.snapshot(term.notice(term.stored), now_ms))
    newest = terms[-1]
    for _ in range(10):
        now_ms += BEACON_MS
        asked.clear()
        carry_out(subscriber.beacon(newest.notice(set()), now_ms))
        if asked:
            assert asked == [newest.broker_id]
            carry_out(subscriber.snapshot(newest.notice(newest.stored), now_ms))
    assert (at, image) == ((newest.epoch, newest.sequence), newest.stored)
