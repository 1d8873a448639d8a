"""The follower's side of an incremental fetch session (KIP-227): a fetch names only what it asks for differently.

What did not change costs nothing, on either side, as long as the leader keeps the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.protocol.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchTopic,
    ForgottenTopic,
    ReplicaState,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from fastlog.broker.replicas.settings import ReplicaSettings
    from fastlog.ports import PartitionKey
    from fastlog.state.replica.follower import Wanted

INITIAL_EPOCH = 0
EPOCH_MAX = 2**31 - 1


class FetchSession:
    """What the leader at the other end of a connection was asked for. Of one thread."""

    def __init__(self) -> None:
        self._id = 0
        self._epoch = INITIAL_EPOCH
        self._named: dict[PartitionKey, Wanted] = {}
        #: leader epoch and offset by topic id and partition, as `append_fetched` takes them
        self.asked: dict[tuple[bytes, int], tuple[int, int]] = {}
        self._touched: set[PartitionKey] = set()
        self._resting: set[PartitionKey] = set()
        self._dropped: set[PartitionKey] = set()

    def touch(self, keys: Iterable[PartitionKey]) -> None:
        """Partitions are followed, and may be wanted differently from now on."""
        self._touched.update(keys)
        self._dropped -= self._touched

    def drop(self, keys: Iterable[PartitionKey]) -> None:
        """Partitions are followed no more."""
        self._dropped.update(keys)
        self._touched -= self._dropped
        self._resting -= self._dropped

    def named(self, key: PartitionKey) -> Wanted | None:
        """What a partition was asked for with."""
        return self._named.get(key)

    def is_resting(self) -> bool:
        """Whether a partition is not asked for now that may be later."""
        return bool(self._resting)

    def forget(self) -> None:
        """The connection is over, or the leader knows the session no more: the next fetch names everything."""
        self._touched.update(self._named)
        self._named.clear()
        self.asked.clear()
        # the id stays: the next session replaces this one, where the leader has it still
        self._epoch = INITIAL_EPOCH

    def request(
        self,
        wanted_of: Callable[[PartitionKey], Wanted | None],
        replica: ReplicaState,
        settings: ReplicaSettings,
    ) -> FetchRequest | None:
        """The next fetch; None where no partition is to be asked for."""
        put: list[Wanted] = []
        forgotten: list[PartitionKey] = []
        for key in self._dropped:
            self._unname(key, forgotten)
        candidates = self._touched | self._resting
        self._touched, self._resting, self._dropped = set(), set(), set()
        for key in candidates:
            wanted, known = wanted_of(key), self._named.get(key)
            if wanted is None:
                self._resting.add(key)
                self._unname(key, forgotten)
            elif known is None or _differs(known, wanted):
                put.append(wanted)
                # to the end: where the leader keeps no session, the order of the fetch is the order of service
                self._named.pop(key, None)
                self._named[key] = wanted
                self.asked[key.topic_id.bytes, key.partition] = (wanted.leader_epoch, wanted.fetch_offset)
        is_full = self._epoch == INITIAL_EPOCH
        if not self._named:
            # a session without partitions is none
            self.forget()
            return None
        return FetchRequest(
            replica_state=replica,
            max_wait_ms=settings.fetch_wait_ms,
            min_bytes=settings.fetch_min_bytes,
            max_bytes=settings.response_bytes_max,
            session_id=self._id,
            session_epoch=self._epoch,
            topics=_topics(self._named.values() if is_full else put, settings.fetch_bytes_max),
            forgotten_topics_data=[] if is_full else _forgotten(forgotten),
        )

    def answered(self, session_id: int) -> None:
        """The fetch was answered: with the session's id, or 0 where the leader keeps none."""
        if session_id:
            self._epoch = 1 if self._epoch == EPOCH_MAX else self._epoch + 1
        else:
            self._epoch = INITIAL_EPOCH
        self._id = session_id

    def _unname(self, key: PartitionKey, forgotten: list[PartitionKey]) -> None:
        if self._named.pop(key, None) is not None:
            del self.asked[key.topic_id.bytes, key.partition]
            forgotten.append(key)


def _differs(known: Wanted, wanted: Wanted) -> bool:
    """Whether the leader has to be told; what it knows of the high watermark it told itself."""
    return (known.leader_epoch, known.fetch_offset, known.last_fetched_epoch, known.log_start_offset) != (
        wanted.leader_epoch,
        wanted.fetch_offset,
        wanted.last_fetched_epoch,
        wanted.log_start_offset,
    )


def _topics(wanted: Iterable[Wanted], bytes_max: int) -> list[FetchTopic]:
    topics: dict[UUID, FetchTopic] = {}
    for it in wanted:
        topic = topics.get(it.key.topic_id)
        if topic is None:
            topic = topics[it.key.topic_id] = FetchTopic(topic_id=it.key.topic_id.bytes)
        topic.partitions.append(
            FetchPartition(
                partition=it.key.partition,
                current_leader_epoch=it.leader_epoch,
                fetch_offset=it.fetch_offset,
                last_fetched_epoch=it.last_fetched_epoch,
                log_start_offset=it.log_start_offset,
                partition_max_bytes=bytes_max,
                high_watermark=it.high_watermark,
            )
        )
    return list(topics.values())


def _forgotten(keys: Iterable[PartitionKey]) -> list[ForgottenTopic]:
    topics: dict[UUID, ForgottenTopic] = {}
    for key in keys:
        topic = topics.setdefault(key.topic_id, ForgottenTopic(topic_id=key.topic_id.bytes))
        topic.partitions.append(key.partition)
    return list(topics.values())
