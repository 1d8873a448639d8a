"""A broker that was stopped or cut off must not act on its own word when another may lead (cluster rules, 3.4)."""

from __future__ import annotations

from fastlog.state.replica.lease import Lease

SESSION_MS = 6_000


def lease() -> Lease:
    return Lease(broker_epoch=7, session_ms=SESSION_MS)


def test_there_is_none_before_the_store_took_a_write() -> None:
    assert not lease().holds(0)
    assert lease().until_ms is None


def test_it_counts_from_when_the_write_was_sent_and_is_shorter_than_the_session() -> None:
    it = lease()
    it.renewed(sent_ms=1_000, broker_epoch=7)
    assert it.until_ms == 1_000 + 4_000
    assert it.holds(4_999)
    assert not it.holds(5_000)


def test_an_answer_that_was_overtaken_shortens_nothing() -> None:
    it = lease()
    it.renewed(sent_ms=2_000, broker_epoch=7)
    it.renewed(sent_ms=1_000, broker_epoch=7)
    assert it.until_ms == 6_000


def test_it_survives_three_lost_writes() -> None:
    it = lease()
    it.renewed(sent_ms=0, broker_epoch=7)
    assert it.holds(3 * it.interval_ms)


def test_a_registration_of_another_epoch_ends_it_for_ever() -> None:
    it = lease()
    it.renewed(sent_ms=0, broker_epoch=7)
    it.renewed(sent_ms=100, broker_epoch=8)
    assert not it.holds(100)
    it.renewed(sent_ms=200, broker_epoch=7)
    assert not it.holds(200)


def test_a_session_that_is_over_ends_it_at_once() -> None:
    it = lease()
    it.renewed(sent_ms=0, broker_epoch=7)
    it.lost()
    assert it.until_ms is None
