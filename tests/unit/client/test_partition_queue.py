"""Sequences and order of one partition, step by step: what is sent, what comes of it, what is sent next."""

from __future__ import annotations

import pytest

from fastlog.client.producer.batch import Batch
from fastlog.client.producer.partition_queue import Action, PartitionQueue
from fastlog.errors import error_for
from fastlog.native._sending import Delivery, Lock

LOCK = Lock()


class Records:
    """Stands in for a batch builder."""

    size_bytes = 100


def new_queue(*, idempotent: bool = True) -> PartitionQueue:
    queue = PartitionQueue(
        "t",
        0,
        idempotent=idempotent,
        in_flight_max=5,
        retriable=lambda code: error_for(code).retriable,
        retry_delay_ms=lambda attempt: 100.0 * attempt,
    )
    if idempotent:
        queue.adopt(7, 0)
    return queue


def add(queue: PartitionQueue, *counts: int) -> list[Batch]:
    batches = []
    for count in counts:
        batch = Batch("t", 0, Records(), LOCK, created_ms=0)
        batch.count = count
        queue.waiting.append(batch)
        batches.append(batch)
    return batches


def take(queue: PartitionQueue, now_ms: float = 0) -> Batch:
    assert queue.may_send(now_ms)
    return queue.take()


def confirmed_queue() -> PartitionQueue:
    """A queue whose first batch (one record, sequence 0) is acknowledged."""
    queue = new_queue()
    (batch,) = add(queue, 1)
    assert queue.answered(take(queue), 0, 0).action is Action.COMPLETE
    assert batch.identity == (7, 0, 0)
    return queue


def test_nothing_is_sent_before_a_producer_id_is_there() -> None:
    queue = new_queue()
    queue.wants_producer_id = True
    add(queue, 1)
    assert not queue.may_send(0)
    queue.adopt(9, 3)
    assert take(queue).identity == (9, 3, 0)


def test_without_idempotence_there_are_no_sequences() -> None:
    queue = new_queue(idempotent=False)
    add(queue, 2, 3)
    assert take(queue).identity == (-1, -1, -1)
    assert take(queue).identity == (-1, -1, -1)


def test_sequences_count_records_and_the_first_batch_goes_alone() -> None:
    queue = new_queue()
    add(queue, 2, 3, 4)
    first = take(queue)
    assert not queue.may_send(0)
    queue.answered(first, 0, 0)
    assert [take(queue).base_sequence, take(queue).base_sequence] == [2, 5]


def test_no_more_than_five_are_in_flight() -> None:
    queue = confirmed_queue()
    add(queue, *[1] * 7)
    for _ in range(5):
        take(queue)
    assert not queue.may_send(0)
    queue.answered(queue.in_flight[0], 0, 0)
    assert queue.may_send(0)


def test_the_oldest_batch_may_wait_to_be_sent_again() -> None:
    queue = confirmed_queue()
    batches = add(queue, 1, 1, 1)
    for number, batch in enumerate(batches):
        batch.created_ms = number
    assert queue.oldest() is batches[0]
    for batch in batches[:2]:
        assert take(queue) is batch
    assert queue.oldest() is batches[0]
    queue.lost(batches[0], 0)
    assert queue.in_flight == [batches[1]]
    assert queue.oldest() is batches[0]


def test_a_batch_is_acknowledged_in_short_where_nobody_is_to_be_told() -> None:
    heard = []
    told, plain, waited = (Batch("t", 0, Records(), LOCK, created_ms=0) for _ in range(3))
    told.add_callback(heard.append, Delivery(told, 0, 0))
    assert not waited.wait(0)
    for batch in (told, waited):
        assert not batch.acknowledge(5, -1)
        assert not batch.done
        batch.complete(5, -1)
        assert batch.wait(0)
    assert len(heard) == 1
    assert plain.acknowledge(5, -1)
    assert plain.done
    assert plain.wait(0)
    plain.add_callback(heard.append, Delivery(plain, 0, 0))
    assert len(heard) == 2
    assert Delivery(plain, 2, 9).result(0).offset == 7


def test_sequences_wrap_to_zero() -> None:
    queue = confirmed_queue()
    queue._next_sequence = 2**31 - 2
    add(queue, 2, 1)
    assert [take(queue).base_sequence, take(queue).base_sequence] == [2**31 - 2, 0]


def test_batches_stay_on_one_connection() -> None:
    queue = confirmed_queue()
    add(queue, 1, 1)
    queue.take("old leader")
    assert not queue.may_send(0, "new leader")
    assert queue.may_send(0, "old leader")


def test_lost_batches_go_again_one_by_one_with_their_sequences() -> None:
    queue = confirmed_queue()
    batches = add(queue, 2, 2, 2)
    for _ in batches:
        take(queue)
    for batch in list(queue.in_flight):
        assert queue.lost(batch, 0).action is Action.RETRY
    assert not queue.may_send(99)
    assert take(queue, 200) is batches[0]
    assert not queue.may_send(1000)
    queue.answered(batches[0], 0, 200)
    assert take(queue, 1000) is batches[1]
    assert [batch.base_sequence for batch in batches] == [1, 3, 5]


def test_a_batch_behind_a_retried_one_is_refused_and_waits_for_it() -> None:
    queue = confirmed_queue()
    first, second = add(queue, 1, 1)
    take(queue)
    take(queue)
    assert queue.answered(first, 6, 0).action is Action.RETRY
    assert queue.answered(second, 45, 0).action is Action.RETRY
    assert list(queue.waiting) == [first, second]
    assert take(queue, 1000) is first
    queue.answered(first, 0, 1000)
    assert take(queue, 1000) is second
    assert second.base_sequence == 2


def test_a_duplicate_counts_as_written() -> None:
    queue = confirmed_queue()
    add(queue, 1)
    assert queue.answered(take(queue), 46, 0).action is Action.COMPLETE


def test_after_a_refused_batch_the_rest_is_numbered_anew_under_the_next_epoch() -> None:
    queue = confirmed_queue()
    refused, behind, unsent = add(queue, 1, 2, 3)
    take(queue)
    take(queue)
    assert queue.answered(refused, 87, 0).action is Action.FAIL
    assert not queue.may_send(1000)
    assert queue.answered(behind, 45, 0).action is Action.RETRY
    assert take(queue, 1000).identity == (7, 1, 0)
    assert not queue.may_send(1000)
    queue.answered(behind, 0, 1000)
    assert take(queue, 1000) is unsent
    assert unsent.identity == (7, 1, 2)


def test_a_batch_of_unknown_fate_behind_an_expired_one_is_asked_about_under_its_old_number() -> None:
    queue = confirmed_queue()
    expired, behind = add(queue, 1, 1)
    take(queue)
    take(queue)
    queue.lost(expired, 0)
    queue.lost(behind, 0)
    queue.expired(expired)
    assert take(queue, 1000).identity == (7, 0, 2)


def test_it_is_written_if_the_broker_says_so() -> None:
    queue = confirmed_queue()
    expired, behind, later = add(queue, 1, 1, 1)
    for batch in (take(queue), take(queue)):
        queue.lost(batch, 0)
    queue.expired(expired)
    assert queue.answered(take(queue, 1000), 0, 1000).action is Action.COMPLETE
    assert behind.identity == (7, 0, 2)
    assert take(queue, 1000) is later
    assert later.identity == (7, 0, 3)


def test_it_fails_clearly_if_the_expired_one_may_still_arrive() -> None:
    queue = confirmed_queue()
    expired, _, later = add(queue, 1, 1, 1)
    for batch in (take(queue), take(queue)):
        queue.lost(batch, 0)
    queue.expired(expired)
    verdict = queue.answered(take(queue, 1000), 45, 1000)
    assert verdict.action is Action.FAIL
    assert "may or may not be in the log" in verdict.reason
    assert take(queue, 1000) is later
    assert later.identity == (7, 1, 0)


def test_it_is_sent_anew_if_the_one_before_it_was_refused_for_good() -> None:
    queue = confirmed_queue()
    refused, behind = add(queue, 1, 1)
    take(queue)
    take(queue)
    queue.answered(refused, 87, 0)
    queue.lost(behind, 0)
    assert queue.answered(take(queue, 1000), 45, 1000).action is Action.RETRY
    assert take(queue, 2000).identity == (7, 1, 0)


def test_a_broker_that_lost_acknowledged_records_starts_a_new_epoch() -> None:
    queue = confirmed_queue()
    add(queue, 1)
    assert queue.answered(take(queue), 45, 0).action is Action.RETRY
    assert take(queue, 1000).identity == (7, 1, 0)


@pytest.mark.parametrize("code", [45, 47, 59])
def test_but_not_where_the_batch_may_be_in_the_log(code: int) -> None:
    queue = confirmed_queue()
    add(queue, 1)
    queue.lost(take(queue), 0)
    verdict = queue.answered(take(queue, 1000), code, 1000)
    assert (verdict.action, verdict.code) == (Action.FAIL, code)


def test_a_stale_epoch_needs_a_new_producer_id() -> None:
    queue = confirmed_queue()
    add(queue, 1)
    assert queue.answered(take(queue), 47, 0).action is Action.RETRY
    assert queue.wants_producer_id
    assert not queue.may_send(1000)
    queue.adopt(8, 0)
    assert take(queue, 1000).identity == (8, 0, 0)


def test_a_forgotten_producer_id_starts_a_new_epoch() -> None:
    queue = confirmed_queue()
    add(queue, 1)
    assert queue.answered(take(queue), 59, 0).action is Action.RETRY
    assert take(queue, 1000).identity == (7, 1, 0)


def test_epochs_that_are_used_up_need_a_new_producer_id() -> None:
    queue = new_queue()
    queue.adopt(7, 2**15 - 1)
    add(queue, 1, 1)
    queue.answered(take(queue), 87, 0)
    assert not queue.may_send(0)
    assert queue.wants_producer_id
    queue.adopt(8, 0)
    assert take(queue).identity == (8, 0, 0)


def test_a_batch_that_expires_in_flight_keeps_its_place_until_it_is_answered() -> None:
    queue = confirmed_queue()
    expired, behind = add(queue, 1, 1)
    take(queue)
    queue.expired(expired)
    assert queue.in_flight == [expired]
    assert queue.answered(expired, 0, 0).action is Action.DROP
    assert take(queue).identity == (7, 0, 2)
    assert behind.base_sequence == 2


def test_halves_take_the_place_and_the_sequence_of_the_whole() -> None:
    queue = confirmed_queue()
    whole, behind = add(queue, 5, 1)
    take(queue)
    take(queue)
    assert queue.answered(whole, 10, 0).action is Action.SPLIT
    left, right = Batch("t", 0, Records(), LOCK, created_ms=0), Batch("t", 0, Records(), LOCK, created_ms=0)
    left.count, right.count = 2, 3
    queue.replace(whole, [left, right])
    queue.answered(behind, 45, 0)
    assert list(queue.waiting) == [left, right, behind]
    for batch, sequence in ((left, 1), (right, 3), (behind, 6)):
        assert take(queue, 1000).identity == (7, 0, sequence)
        queue.answered(batch, 0, 1000)


def test_one_record_that_is_too_large_fails() -> None:
    queue = confirmed_queue()
    add(queue, 1)
    assert queue.answered(take(queue), 10, 0).action is Action.FAIL


def test_a_stale_epoch_behind_a_batch_of_unknown_fate_does_not_number_that_one_anew() -> None:
    queue = confirmed_queue()
    unknown, behind = add(queue, 1, 1)
    take(queue)
    take(queue)
    queue.answered(unknown, 7, 0)
    assert queue.answered(behind, 47, 0).action is Action.RETRY
    assert not queue.wants_producer_id
    assert take(queue, 1000).identity == (7, 0, 1)


def test_a_retry_that_goes_to_another_broker_does_not_wait() -> None:
    queue = confirmed_queue()
    add(queue, 1)
    batch = take(queue)
    assert queue.answered(batch, 6, 1000, elsewhere=True).action is Action.RETRY
    assert queue.may_send(1000, "another connection")
    queue.take("another connection")
    queue.answered(batch, 6, 1000)
    assert not queue.may_send(1000)
