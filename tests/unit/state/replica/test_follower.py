"""What a follower fetches and where it cuts its log (semantics rows 15, 55, 62; KIP-101, 279, 595)."""

from __future__ import annotations

from uuid import UUID

import pytest

from fastlog.errors import (
    FencedLeaderEpochError,
    KafkaError,
    KafkaStorageError,
    NotLeaderOrFollowerError,
    OffsetMovedToTieredStorageError,
    OffsetOutOfRangeError,
    StaleBrokerEpochError,
    UnknownLeaderEpochError,
    UnknownTopicIdError,
)
from fastlog.ports import PartitionKey
from fastlog.state.replica.follower import (
    Appended,
    AskOffsets,
    BeginAfterTier,
    Diverged,
    Effect,
    Failed,
    Fetcher,
    FollowerSettings,
    LeaderOffsets,
    Outcome,
    RestartAt,
    Truncate,
    Where,
)

KEY = PartitionKey(UUID(int=1), 0)
OTHER = PartitionKey(UUID(int=1), 1)
EPOCH = 5
BACKOFF_MS = FollowerSettings().backoff_ms


def where(end: int, *, epoch: int = EPOCH, high_watermark: int = 0, start: int = 0) -> Where:
    return Where(end_offset=end, last_epoch=epoch, start_offset=start, high_watermark=high_watermark)


def following(at: Where, *keys: PartitionKey) -> Fetcher:
    it = Fetcher()
    for key in keys or (KEY,):
        it.follow(key, EPOCH, at)
    return it


def fetched(it: Fetcher, outcome: Outcome, *, now_ms: int = 0) -> list[Effect]:
    return it.fetched([(KEY, EPOCH, outcome)], now_ms)


def offsets(it: Fetcher, now_ms: int = 0) -> list[int]:
    return [wanted.fetch_offset for wanted in it.wanted(now_ms)]


def lies(start: int, end: int, *, local_start: int | None = None) -> LeaderOffsets:
    return LeaderOffsets(start=start, end=end, local_start=start if local_start is None else local_start)


def test_it_asks_from_its_end_with_the_epoch_of_its_last_record() -> None:
    (wanted,) = following(where(30, epoch=3, start=10)).wanted(0)
    assert (wanted.fetch_offset, wanted.last_fetched_epoch, wanted.leader_epoch) == (30, 3, EPOCH)
    assert wanted.log_start_offset == 10


def test_it_goes_on_from_what_it_appended() -> None:
    it = following(where(30))
    assert fetched(it, Appended(where=where(42))) == []
    assert offsets(it) == [42]


def test_who_brought_records_goes_to_the_end() -> None:
    it = following(where(30), KEY, OTHER)
    fetched(it, Appended(where=where(42)))
    assert [wanted.key for wanted in it.wanted(0)] == [OTHER, KEY]


def test_it_cuts_where_the_same_epoch_ends_in_both_logs() -> None:
    it = following(where(30, epoch=3, high_watermark=20))
    outcome = Diverged(epoch=3, end_offset=25, own_epoch=3, own_end_offset=30)
    (cut,) = fetched(it, outcome)
    assert cut == Truncate(key=KEY, leader_epoch=EPOCH, offset=25, below_high_watermark=False)
    assert it.wanted(0) == []
    it.moved(KEY, EPOCH, where(25, epoch=3))
    assert offsets(it) == [25]


def test_without_the_leaders_epoch_it_cuts_to_its_earlier_one_and_asks_again() -> None:
    # the leader's largest epoch up to ours is 2, which never reached us; we have 1 up to 12, then 3 (KIP-279)
    it = following(where(30, epoch=3))
    (cut,) = fetched(it, Diverged(epoch=2, end_offset=20, own_epoch=1, own_end_offset=12))
    assert isinstance(cut, Truncate)
    assert cut.offset == 12


def test_a_cut_below_the_high_watermark_is_told() -> None:
    it = following(where(30, epoch=3, high_watermark=28))
    (cut,) = fetched(it, Diverged(epoch=3, end_offset=25, own_epoch=3, own_end_offset=30))
    assert isinstance(cut, Truncate)
    assert cut.below_high_watermark


def test_an_epoch_in_which_nothing_was_appended_is_forgotten() -> None:
    # it led in epoch 4 and was replaced before anything came; the leader knows of epoch 3 only
    it = following(where(30, epoch=4, high_watermark=30))
    outcome = Diverged(epoch=3, end_offset=30, own_epoch=3, own_end_offset=30)
    cut = Truncate(key=KEY, leader_epoch=EPOCH, offset=30, below_high_watermark=False)
    assert fetched(it, outcome) == [cut]
    it.moved(KEY, EPOCH, where(30, epoch=3, high_watermark=30))
    (wanted,) = it.wanted(0)
    assert (wanted.fetch_offset, wanted.last_fetched_epoch) == (30, 3)


def test_an_epoch_that_cannot_be_forgotten_is_tried_once() -> None:
    it = following(where(30, epoch=4))
    outcome = Diverged(epoch=3, end_offset=30, own_epoch=3, own_end_offset=30)
    assert len(fetched(it, outcome)) == 1
    it.moved(KEY, EPOCH, where(30, epoch=4))
    assert fetched(it, outcome) == []
    assert offsets(it) == []
    assert offsets(it, BACKOFF_MS) == [30]


def test_a_difference_with_nothing_to_cut_is_asked_about_again_later() -> None:
    it = following(where(30, epoch=3))
    assert fetched(it, Diverged(epoch=3, end_offset=40, own_epoch=3, own_end_offset=30)) == []
    assert offsets(it, BACKOFF_MS - 1) == []
    assert offsets(it, BACKOFF_MS) == [30]


@pytest.mark.parametrize(
    "outcome",
    [
        Failed(code=OffsetOutOfRangeError.code),
        Failed(code=OffsetMovedToTieredStorageError.code),
        Diverged(epoch=-1, end_offset=-1, own_epoch=-1, own_end_offset=-1),
    ],
)
def test_out_of_range_it_asks_where_the_leaders_log_lies(outcome: Outcome) -> None:
    it = following(where(30))
    assert fetched(it, outcome) == [AskOffsets(key=KEY, leader_epoch=EPOCH)]
    assert it.wanted(0) == []


def test_behind_the_leaders_start_it_begins_anew_there() -> None:
    it = following(where(30, high_watermark=30))
    fetched(it, Failed(code=OffsetOutOfRangeError.code))
    effects = it.leader_offsets(KEY, EPOCH, lies(100, 200), 0)
    assert effects == [RestartAt(key=KEY, leader_epoch=EPOCH, offset=100, below_high_watermark=False)]
    it.moved(KEY, EPOCH, where(100, epoch=-1, start=100))
    assert offsets(it) == [100]


@pytest.mark.parametrize("start", [0, 40])
def test_before_the_leaders_disk_it_begins_where_the_object_store_ends(start: int) -> None:
    it = following(where(30, high_watermark=30))
    fetched(it, Failed(code=OffsetMovedToTieredStorageError.code))
    begin = BeginAfterTier(key=KEY, leader_epoch=EPOCH, local_start_offset=100, log_start_offset=start)
    assert it.leader_offsets(KEY, EPOCH, lies(start, 200, local_start=100), 0) == [begin]
    assert offsets(it, BACKOFF_MS) == []
    # what it needs is on its way from the store
    it.not_yet(KEY, EPOCH, 0, is_coming=True)
    assert offsets(it) == []
    assert offsets(it, FollowerSettings().unheard_ms) == [30]
    fetched(it, Failed(code=OffsetMovedToTieredStorageError.code), now_ms=BACKOFF_MS)
    assert it.leader_offsets(KEY, EPOCH, lies(start, 200, local_start=100), BACKOFF_MS) == [begin]
    # or the store is away
    it.not_yet(KEY, EPOCH, BACKOFF_MS, is_coming=False)
    assert offsets(it, 2 * BACKOFF_MS - 1) == []
    fetched(it, Failed(code=OffsetMovedToTieredStorageError.code), now_ms=2 * BACKOFF_MS)
    it.leader_offsets(KEY, EPOCH, lies(start, 200, local_start=100), 2 * BACKOFF_MS)
    it.moved(KEY, EPOCH, where(110, start=start))
    assert offsets(it, 2 * BACKOFF_MS) == [110]


def test_what_the_leaders_disk_has_by_now_is_fetched_from_there() -> None:
    it = following(where(30))
    fetched(it, Failed(code=OffsetMovedToTieredStorageError.code))
    assert it.leader_offsets(KEY, EPOCH, lies(0, 200, local_start=30), 0) == []
    assert offsets(it, BACKOFF_MS) == [30]


def test_beyond_the_leaders_end_it_cuts_there() -> None:
    it = following(where(30, high_watermark=25))
    fetched(it, Failed(code=OffsetOutOfRangeError.code))
    (cut,) = it.leader_offsets(KEY, EPOCH, lies(0, 10), 0)
    assert cut == Truncate(key=KEY, leader_epoch=EPOCH, offset=10, below_high_watermark=True)


@pytest.mark.parametrize("answer", [lies(0, 50), None])
def test_where_it_is_in_range_after_all_or_nobody_answers_it_fetches_again_later(
    answer: LeaderOffsets | None,
) -> None:
    it = following(where(30))
    fetched(it, Failed(code=OffsetOutOfRangeError.code))
    assert it.leader_offsets(KEY, EPOCH, answer, 0) == []
    assert offsets(it, BACKOFF_MS) == [30]


def test_a_leader_that_moved_is_not_asked_until_the_next_state() -> None:
    it = following(where(30))
    assert fetched(it, Failed(code=FencedLeaderEpochError.code)) == []
    assert offsets(it, 10**9) == []
    it.follow(KEY, EPOCH + 1, where(30))
    assert offsets(it) == [30]


@pytest.mark.parametrize(
    "error", [NotLeaderOrFollowerError, StaleBrokerEpochError, UnknownLeaderEpochError, UnknownTopicIdError]
)
def test_a_leader_that_has_not_heard_yet_that_it_is_one_is_asked_again_soon_and_then_less_often(
    error: type[KafkaError],
) -> None:
    it = following(where(30))
    pauses, now_ms = [], 0
    for _ in range(7):
        fetched(it, Failed(code=error.code), now_ms=now_ms)
        next_ms = it.next_ms(now_ms)
        assert next_ms is not None
        pauses.append(next_ms - now_ms)
        now_ms = next_ms
    assert pauses == [50, 100, 200, 400, 800, BACKOFF_MS, BACKOFF_MS]
    fetched(it, Appended(where=where(31)), now_ms=now_ms)
    fetched(it, Failed(code=error.code), now_ms=now_ms)
    assert it.next_ms(now_ms) == now_ms + 50


def test_after_another_error_a_partition_rests() -> None:
    it = following(where(30), KEY, OTHER)
    fetched(it, Failed(code=KafkaStorageError.code), now_ms=50)
    assert [wanted.key for wanted in it.wanted(50)] == [OTHER]
    assert it.next_ms(50) == 50 + BACKOFF_MS
    assert len(it.wanted(50 + BACKOFF_MS)) == 2


def test_a_leader_that_cannot_be_reached_rests_with_all_its_partitions() -> None:
    it = following(where(30), KEY, OTHER)
    fetched(it, Failed(code=OffsetOutOfRangeError.code))
    it.lost(100)
    assert it.wanted(100) == []
    assert len(it.wanted(100 + BACKOFF_MS)) == 2


def test_a_cut_goes_on_though_the_leader_is_lost() -> None:
    it = following(where(30, epoch=3))
    fetched(it, Diverged(epoch=3, end_offset=25, own_epoch=3, own_end_offset=30))
    it.lost(0)
    assert it.wanted(BACKOFF_MS) == []
    it.moved(KEY, EPOCH, where(25, epoch=3))
    assert offsets(it, BACKOFF_MS) == [25]


def test_a_disk_that_refuses_ends_it_until_the_partition_is_opened_again() -> None:
    it = following(where(30, epoch=3))
    fetched(it, Diverged(epoch=3, end_offset=25, own_epoch=3, own_end_offset=30))
    it.moved(KEY, EPOCH, None)
    assert it.wanted(10**9) == []
    assert it.next_ms(0) is None


def test_a_log_that_cannot_be_cut_for_now_is_asked_about_again_after_a_rest() -> None:
    it = following(where(30, epoch=3))
    diverged = Diverged(epoch=3, end_offset=25, own_epoch=3, own_end_offset=30)
    (cut,) = fetched(it, diverged)
    it.not_cut(KEY, EPOCH, 50)
    assert (offsets(it, 50), it.next_ms(50)) == ([], 50 + BACKOFF_MS)
    assert offsets(it, 50 + BACKOFF_MS) == [30]
    assert fetched(it, diverged) == [cut]
    it.not_cut(KEY, EPOCH - 1, 50)
    assert offsets(it, 10**9) == [], "that was another leader"


def test_an_epoch_that_could_not_be_forgotten_for_now_is_to_be_again() -> None:
    it = following(where(30, epoch=3))
    diverged = Diverged(epoch=2, end_offset=30, own_epoch=2, own_end_offset=30)
    (cut,) = fetched(it, diverged)
    it.not_cut(KEY, EPOCH, 0)
    assert fetched(it, diverged) == [cut]


def test_what_is_told_of_an_earlier_epoch_changes_nothing() -> None:
    it = following(where(30))
    it.follow(KEY, EPOCH + 1, where(30))
    assert fetched(it, Appended(where=where(99))) == []
    assert fetched(it, Diverged(epoch=3, end_offset=5, own_epoch=3, own_end_offset=30)) == []
    it.moved(KEY, EPOCH, where(5))
    assert offsets(it) == [30]
    it.follow(KEY, EPOCH, where(7))
    assert offsets(it) == [30]


def test_a_partition_that_is_left_is_asked_for_no_more() -> None:
    it = following(where(30), KEY, OTHER)
    it.leave(KEY)
    assert [wanted.key for wanted in it.wanted(0)] == [OTHER]
    assert len(it) == 1
