"""A follower's log that is to be cut and cannot be for now, as while a copy on a disk that hangs takes its place."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from fastlog.broker.replicas.fetching import Counts, Followed
from fastlog.errors import InvalidRequestError, KafkaError, KafkaStorageError
from fastlog.ports import PartitionKey
from fastlog.state.replica.follower import Diverged, Effect, Fetcher, FollowerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = PartitionKey(UUID(int=1), 0)
EPOCH = 5
BACKOFF_MS = FollowerSettings().backoff_ms


class Log:
    """The engine, with one log of 30 records of epoch 3, 28 of them committed; its leader has 25."""

    def __init__(self) -> None:
        self.end = 30
        self.refuses: KafkaError | None = None

    def fetch_positions(self, partitions: Sequence[tuple[str, int]]) -> list[tuple[int, int, int, int, int]]:
        assert list(partitions) == [("t", 0)]
        return [(self.end, 3, self.end, 0, 28)]

    def truncate(self, topic: str, index: int, leader_epoch: int, offset: int) -> bool:
        assert (topic, index, leader_epoch) == ("t", 0, EPOCH)
        if self.refuses is not None:
            raise self.refuses
        self.end = offset
        return True


class Follower:
    """What follows it."""

    def __init__(self) -> None:
        self.log = Log()
        engine: Any = self.log
        self.counts = Counts()
        self.fetcher = Fetcher()
        self.followed = Followed(1, engine, self.fetcher, self.counts)
        assert self.followed.hold(KEY, "t", EPOCH)

    def is_told(self, now_ms: int) -> None:
        """The leader's answer comes, where it was asked."""
        assert [it.key for it in self.fetcher.wanted(now_ms)] == [KEY]
        diverged = Diverged(epoch=3, end_offset=25, own_epoch=3, own_end_offset=30)
        effects: Sequence[Effect] = self.fetcher.fetched([(KEY, EPOCH, diverged)], now_ms)
        assert effects
        self.followed.repair(effects, lambda _: pytest.fail("nothing is asked"), now_ms)


def test_it_is_cut_once_it_can_be(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    it = Follower()
    it.log.refuses = KafkaStorageError("the replica is being moved, whose disk is slow")
    for times in range(3):
        it.is_told(times * BACKOFF_MS)
        assert it.fetcher.wanted(times * BACKOFF_MS) == [], "it rests"
    it.log.refuses = None
    it.is_told(3 * BACKOFF_MS)
    assert it.log.end == 25
    assert [wanted.fetch_offset for wanted in it.fetcher.wanted(3 * BACKOFF_MS)] == [25]
    said = [record.getMessage() for record in caplog.records]
    for what in ("is tried again", "committed records are cut", "was cut to its leader's"):
        assert sum(what in line for line in said) == 1, (what, said)
    assert it.counts.below_high_watermark == 1


def test_what_would_fail_again_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    it = Follower()
    it.log.refuses = InvalidRequestError("it has no segment")
    it.is_told(0)
    assert it.fetcher.wanted(10 * BACKOFF_MS) == []
    assert "not fetched any more" in caplog.text
