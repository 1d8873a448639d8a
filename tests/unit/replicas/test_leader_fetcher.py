"""The thread that follows a leader: what interrupts a long poll, what begins a session anew."""

from __future__ import annotations

import os
import struct
import threading
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from fastlog.broker.replicas.leader_fetcher import FETCH_VERSION, LeaderFetcher
from fastlog.broker.replicas.settings import ReplicaSettings
from fastlog.errors import FetchSessionIdNotFoundError
from fastlog.ports import PartitionKey
from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import decode_request, decode_request_header
from tests.support.replica_wiring import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ME, LEADER, EPOCH = 1, 2, 5
KEYS = [PartitionKey(UUID(int=1), index) for index in range(3)]


class Scripted:
    """A connection on which the test answers; the engine has empty logs and takes no records."""

    def __init__(self) -> None:
        self.opened = 0
        self.requests: list[Any] = []
        self.ids: list[int] = []
        self.fails_with: Exception | None = None
        self.appended = 0
        self.throttled: Sequence[PartitionKey] = ()
        self.looked = 0
        self.connected = True
        self.address = "zmq://leader"
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._answers: list[bytes] = []
        self._lock = threading.Lock()

    # --- the channel ---

    def open(self, host: str, port: int) -> Scripted:
        self.opened += 1
        return self

    def descriptors(self) -> list[tuple[int, int]]:
        return [(self._bell, 1)]

    def noticed(self, ready: Sequence[int]) -> None:
        if self._bell in ready:
            os.eventfd_read(self._bell)

    def advance(self) -> None:
        pass

    def send(self, *parts: bytes) -> None:
        frame = b"".join(parts)
        key, version, correlation_id, _, body = decode_request_header(frame)
        assert (key, version) == (ApiKey.FETCH, FETCH_VERSION)
        self.ids.append(correlation_id)
        self.requests.append(decode_request(key, version, frame, body))

    def receive(self) -> list[bytes]:
        with self._lock:
            answers, self._answers = self._answers, []
        return answers

    def pending(self) -> bool:
        return bool(self._answers)

    def backlog(self) -> int:
        return 0

    def close(self) -> None:
        with self._lock:
            self._answers.clear()

    # --- the test ---

    def answer(self, session_id: int) -> None:
        """Answers the last request: nothing new."""
        with self._lock:
            self._answers.append(struct.pack(">ibihi", self.ids[-1], 0, 0, 0, session_id) + b"\1\0")
        os.eventfd_write(self._bell, 1)

    def asked(self, count: int) -> Any:
        """The last of so many requests."""
        wait_until(lambda: len(self.requests) >= count, f"{count} requests")
        assert len(self.requests) == count
        return self.requests[-1]

    # --- the engine ---

    def fetch_positions(self, partitions: Sequence[tuple[str, int]]) -> list[tuple[int, int, int, int, int]]:
        return [(0, -1, 0, 0, 0)] * len(partitions)

    def held_back(self) -> list[tuple[bytes, int]]:
        self.looked += 1
        return [(it.topic_id.bytes, it.partition) for it in self.throttled]

    def append_fetched(self, answer: bytes, version: int, asked: dict[Any, Any]) -> list[Any]:
        self.appended += 1
        if self.fails_with is not None:
            error, self.fails_with = self.fails_with, None
            raise error
        return []


@pytest.fixture
def leader() -> Iterator[tuple[Scripted, LeaderFetcher]]:
    scripted = Scripted()
    settings = ReplicaSettings()
    fetcher = LeaderFetcher(LEADER, ME, scripted, scripted.open, settings)  # type: ignore[arg-type]
    fetcher.is_at(("127.0.0.1", 1))
    fetcher.registered(11)
    fetcher.start()
    yield scripted, fetcher
    fetcher.stop()


def named(request: Any) -> list[int]:
    return sorted(it.partition for topic in request.topics for it in topic.partitions)


def follow(fetcher: LeaderFetcher, *keys: PartitionKey) -> None:
    fetcher.follow([(key, "t", EPOCH) for key in keys])


def test_it_fetches_under_its_broker_epoch_in_one_session(leader: tuple[Scripted, LeaderFetcher]) -> None:
    scripted, fetcher = leader
    follow(fetcher, *KEYS)
    request = scripted.asked(1)
    assert (request.replica_state.replica_id, request.replica_state.replica_epoch) == (ME, 11)
    assert (named(request), request.session_epoch) == ([0, 1, 2], 0)
    scripted.answer(7)
    request = scripted.asked(2)
    assert (named(request), request.session_id, request.session_epoch) == ([], 7, 1)


def test_what_is_to_be_followed_does_not_wait_for_the_end_of_a_long_poll(
    leader: tuple[Scripted, LeaderFetcher],
) -> None:
    scripted, fetcher = leader
    follow(fetcher, KEYS[0])
    scripted.asked(1)
    scripted.answer(7)
    scripted.asked(2)
    follow(fetcher, KEYS[1])
    request = scripted.asked(3)
    assert (named(request), request.session_id, request.session_epoch) == ([0, 1], 7, 0)
    assert scripted.opened == 2


def test_what_is_left_waits_for_the_next_fetch(leader: tuple[Scripted, LeaderFetcher]) -> None:
    scripted, fetcher = leader
    follow(fetcher, *KEYS)
    scripted.asked(1)
    scripted.answer(7)
    scripted.asked(2)
    fetcher.leave([KEYS[2]], is_deleted=True)
    scripted.answer(7)
    request = scripted.asked(3)
    assert [it.partitions for it in request.forgotten_topics_data] == [[2]]
    assert scripted.opened == 1


def test_a_session_that_the_leader_has_not_any_more_is_begun_anew(
    leader: tuple[Scripted, LeaderFetcher],
) -> None:
    scripted, fetcher = leader
    follow(fetcher, *KEYS)
    scripted.asked(1)
    scripted.answer(7)
    scripted.asked(2)
    scripted.fails_with = FetchSessionIdNotFoundError("gone")
    scripted.answer(0)
    request = scripted.asked(3)
    assert (named(request), request.session_epoch, scripted.opened) == ([0, 1, 2], 0, 1)


def test_a_broker_without_a_registration_fetches_nothing(leader: tuple[Scripted, LeaderFetcher]) -> None:
    scripted, fetcher = leader
    follow(fetcher, KEYS[0])
    scripted.asked(1)
    fetcher.registered(None)
    fetcher.registered(21)
    request = scripted.asked(2)
    assert request.replica_state.replica_epoch == 21
    assert fetcher.counts.lost_connections == 0


def test_an_answer_to_an_earlier_request_is_passed_over(leader: tuple[Scripted, LeaderFetcher]) -> None:
    scripted, fetcher = leader
    follow(fetcher, KEYS[0])
    scripted.asked(1)
    scripted.ids[-1] -= 1
    scripted.answer(7)
    follow(fetcher, KEYS[1])
    scripted.asked(2)
    assert scripted.appended == 0


def test_what_is_throttled_is_left_out_and_asked_for_again(leader: tuple[Scripted, LeaderFetcher]) -> None:
    scripted, fetcher = leader
    scripted.throttled = KEYS[:1]
    follow(fetcher, *KEYS[:2])
    assert named(scripted.asked(1)) == [1]
    scripted.throttled = []
    scripted.answer(7)
    assert named(scripted.asked(2)) == [0]


def test_a_follower_of_throttled_partitions_alone_looks_again_soon(
    leader: tuple[Scripted, LeaderFetcher],
) -> None:
    scripted, fetcher = leader
    scripted.throttled = KEYS
    follow(fetcher, *KEYS)
    wait_until(lambda: scripted.looked > 2, "it looks again")
    assert not scripted.requests
    scripted.throttled = []
    assert named(scripted.asked(1)) == [0, 1, 2]
