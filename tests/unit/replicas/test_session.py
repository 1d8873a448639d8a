"""What the fetches of an incremental session name (KIP-227)."""

from __future__ import annotations

from uuid import UUID

from fastlog.broker.replicas.session import FetchSession
from fastlog.broker.replicas.settings import ReplicaSettings
from fastlog.ports import PartitionKey
from fastlog.protocol.messages.fetch import ReplicaState
from fastlog.state.replica.follower import Wanted

KEYS = [PartitionKey(UUID(int=1), 0), PartitionKey(UUID(int=1), 1), PartitionKey(UUID(int=2), 0)]
REPLICA = ReplicaState(replica_id=2, replica_epoch=12)
SETTINGS = ReplicaSettings()


class Follower:
    """Partitions that are wanted, and the session that asks for them."""

    def __init__(self, *keys: PartitionKey) -> None:
        self.session = FetchSession()
        self.wanted: dict[PartitionKey, Wanted] = {}
        for key in keys:
            self.want(key, 0)

    def want(self, key: PartitionKey, offset: int, *, high_watermark: int = 0, epoch: int = 1) -> None:
        self.wanted[key] = Wanted(
            key=key,
            leader_epoch=epoch,
            fetch_offset=offset,
            last_fetched_epoch=-1,
            log_start_offset=0,
            high_watermark=high_watermark,
        )
        self.session.touch([key])

    def fetch(
        self, session_id: int | None = 7
    ) -> tuple[tuple[int, int], list[PartitionKey], list[PartitionKey]]:
        """(session id, epoch), partitions that are named, partitions that are forgotten; then it is answered."""
        request = self.session.request(self.wanted.get, REPLICA, SETTINGS)
        assert request is not None
        if session_id is not None:
            self.session.answered(session_id)
        named = [
            PartitionKey(UUID(bytes=topic.topic_id), it.partition)
            for topic in request.topics
            for it in topic.partitions
        ]
        forgotten = [
            PartitionKey(UUID(bytes=topic.topic_id), index)
            for topic in request.forgotten_topics_data
            for index in topic.partitions
        ]
        return (request.session_id, request.session_epoch), sorted(named), sorted(forgotten)


def test_the_first_fetch_names_all_and_the_next_ones_what_changed() -> None:
    it = Follower(*KEYS)
    assert it.fetch() == ((0, 0), KEYS, [])
    assert it.fetch() == ((7, 1), [], [])
    it.want(KEYS[1], 5)
    assert it.fetch() == ((7, 2), [KEYS[1]], [])
    assert it.session.asked[KEYS[1].topic_id.bytes, 1] == (1, 5)


def test_a_high_watermark_that_the_leader_told_is_not_told_back() -> None:
    it = Follower(*KEYS)
    it.fetch()
    it.want(KEYS[0], 0, high_watermark=3)
    assert it.fetch() == ((7, 1), [], [])


def test_what_rests_is_forgotten_and_comes_back_by_itself() -> None:
    it = Follower(*KEYS)
    it.fetch()
    resting = it.wanted.pop(KEYS[0])
    it.session.touch([KEYS[0]])
    assert it.fetch() == ((7, 1), [], [KEYS[0]])
    assert (KEYS[0].topic_id.bytes, 0) not in it.session.asked
    it.wanted[KEYS[0]] = resting
    assert it.fetch() == ((7, 2), [KEYS[0]], [])


def test_what_is_left_is_forgotten_for_good() -> None:
    it = Follower(*KEYS)
    it.fetch()
    it.session.drop([KEYS[2]])
    assert it.fetch() == ((7, 1), [], [KEYS[2]])
    assert it.fetch() == ((7, 2), [], [])


def test_what_is_left_and_followed_again_in_another_epoch_is_named_anew() -> None:
    it = Follower(*KEYS)
    it.fetch()
    it.session.drop([KEYS[2]])
    it.want(KEYS[2], 0, epoch=2)
    assert it.fetch() == ((7, 1), [KEYS[2]], [])


def test_a_lost_session_is_replaced_by_one_that_names_all() -> None:
    it = Follower(*KEYS)
    it.fetch()
    it.fetch(session_id=None)
    it.session.forget()
    assert it.fetch(8) == ((7, 0), KEYS, []), "the former one is named, so that it does not stay"
    assert it.fetch(8) == ((8, 1), [], [])


def test_a_leader_without_room_for_a_session_is_asked_for_all_each_time() -> None:
    it = Follower(*KEYS)
    assert it.fetch(0) == ((0, 0), KEYS, [])
    assert it.fetch(0) == ((0, 0), KEYS, [])


def test_without_partitions_nothing_is_asked() -> None:
    it = Follower(KEYS[0])
    it.fetch()
    it.wanted.clear()
    it.session.touch([KEYS[0]])
    assert it.session.request(it.wanted.get, REPLICA, SETTINGS) is None
    it.want(KEYS[0], 4)
    assert it.fetch() == ((7, 0), [KEYS[0]], [])
