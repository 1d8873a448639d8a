"""Notices that were lost, came twice, or in another order; controllers that follow one another."""

from __future__ import annotations

import msgspec

from fastlog.state.subscriber import Apply, AskSnapshot, Subscriber, SubscriberSettings

SETTINGS = SubscriberSettings(silence_ms=1_000, answer_ms=1_000, early_max=3)


class Told(msgspec.Struct, frozen=True):
    """Any notice."""

    controller_epoch: int
    sequence: int
    controller_id: int = 1


def whole(notice: Told) -> Apply[Told, Told]:
    return Apply(notice, is_snapshot=True)


def next_one(notice: Told) -> Apply[Told, Told]:
    return Apply(notice, is_snapshot=False)


def following(epoch: int = 1, sequence: int = 5) -> Subscriber[Told, Told]:
    it: Subscriber[Told, Told] = Subscriber(SETTINGS)
    snapshot = Told(epoch, sequence)
    assert it.snapshot(snapshot, 0) == [whole(snapshot)]
    return it


def test_the_first_delta_that_is_heard_asks_for_everything() -> None:
    it: Subscriber[Told, Told] = Subscriber(SETTINGS)
    assert it.tick(10_000) == [], "nobody is known who could be asked"
    assert it.delta(Told(1, 7), 10_000) == [AskSnapshot(1)]
    assert (it.position, it.controller_id) == ((-1, -1), 1)


def test_deltas_in_order_are_applied_and_old_ones_passed_over() -> None:
    it = following()
    six, seven = Told(1, 6), Told(1, 7)
    assert it.delta(six, 1) == [next_one(six)]
    assert it.delta(seven, 2) == [next_one(seven)]
    assert it.delta(six, 3) == []
    assert it.delta(Told(0, 99), 3) == [], "of a former controller"
    assert it.snapshot(Told(1, 7), 4) == [], "nothing new"
    assert it.position == (1, 7)


def test_a_gap_asks_once_and_what_came_early_follows_the_snapshot() -> None:
    it = following()
    eight, nine, snapshot = Told(1, 8), Told(1, 9), Told(1, 7)
    assert it.delta(eight, 1) == [AskSnapshot(1)]
    assert it.delta(nine, 2) == [], "it is asked already"
    assert it.snapshot(snapshot, 3) == [
        whole(snapshot),
        next_one(eight),
        next_one(nine),
    ]


def test_two_deltas_that_changed_places_are_applied_in_order() -> None:
    it = following()
    six, seven = Told(1, 6), Told(1, 7)
    assert it.delta(seven, 1) == [AskSnapshot(1)]
    assert it.delta(six, 2) == [next_one(six), next_one(seven)]


def test_a_snapshot_that_does_not_reach_what_came_early_asks_again() -> None:
    it = following()
    it.delta(Told(1, 9), 1)
    assert it.snapshot(Told(1, 7), 2) == [whole(Told(1, 7)), AskSnapshot(1)]


def test_what_waits_is_bounded() -> None:
    it = following()
    for sequence in range(8, 20):
        it.delta(Told(1, sequence), 1)
    applied = it.snapshot(Told(1, 7), 2)
    assert [effect.notice.sequence for effect in applied if isinstance(effect, Apply)] == [7, 8, 9, 10]


def test_a_beacon_ahead_asks_until_the_answer_comes() -> None:
    it = following()
    assert it.beacon(Told(1, 5), 100) == []
    assert it.beacon(Told(1, 6), 250) == [AskSnapshot(1)]
    assert it.beacon(Told(1, 6), 500) == []
    assert it.beacon(Told(1, 6), 1_250) == [AskSnapshot(1)], "the question or its answer was lost"
    it.refused(1_260)
    assert it.beacon(Told(1, 6), 1_500) == [AskSnapshot(1)]


def test_silence_does_not_ask_who_refuses_all_the_time() -> None:
    it = following()
    asked = 0
    # whoever is refused looks again as soon as it is told so
    for now_ms in range(2_000, 4_000):
        if it.tick(now_ms):
            asked += 1
            it.refused(now_ms)
    assert asked == 2_000 // SETTINGS.refused_ms
    it.refused(4_000)
    assert it.beacon(Told(1, 6), 4_001) == [AskSnapshot(1)], "it controls after all"


def test_silence_asks_the_last_controller_again_and_again() -> None:
    it = following()
    assert it.tick(1_000) == []
    assert it.tick(1_001) == [AskSnapshot(1)]
    assert it.tick(1_500) == []
    assert it.tick(2_001) == [AskSnapshot(1)]
    it.beacon(Told(1, 5), 2_100)
    assert it.tick(3_100) == []


def test_a_new_controller_is_asked_at_once_even_while_the_old_one_is() -> None:
    it = following()
    assert it.beacon(Told(1, 6), 1) == [AskSnapshot(1)]
    assert it.beacon(Told(2, 0, controller_id=2), 2) == [AskSnapshot(2)]
    assert it.snapshot(Told(1, 6), 3) == [whole(Told(1, 6))], "newer than what was known"
    newest = Told(2, 0, controller_id=2)
    assert it.snapshot(newest, 4) == [whole(newest)]
    assert it.snapshot(Told(1, 9), 5) == []
    assert it.beacon(Told(1, 9), 6) == []
    first = Told(2, 1, controller_id=2)
    assert it.delta(first, 7) == [next_one(first)]
    assert it.controller_id == 2


def test_a_controller_that_is_never_heard_is_asked_once_the_store_names_it() -> None:
    it = following()
    assert it.tick(1_001) == [AskSnapshot(1)]
    it.elected(2, 2)
    assert it.tick(1_002) == [AskSnapshot(2)], "the one before has nothing to say"
    newest = Told(2, 3, controller_id=2)
    assert it.snapshot(newest, 1_100) == [whole(newest)]
    it.elected(1, 1)
    assert (it.controller_id, it.controller_epoch) == (2, 2), "what was read earlier"
    assert it.tick(2_101) == [AskSnapshot(2)], "its deltas do not come either"


def test_who_controls_is_asked_before_it_is_heard_the_first_time() -> None:
    it: Subscriber[Told, Told] = Subscriber(SETTINGS)
    it.elected(3, 1)
    assert it.tick(10_000) == [AskSnapshot(3)]


def test_what_could_not_be_applied_is_asked_for_anew() -> None:
    it = following()
    it.forget()
    assert it.beacon(Told(1, 5), 1) == [AskSnapshot(1)]
    assert it.snapshot(Told(1, 5), 2) == [whole(Told(1, 5))]
