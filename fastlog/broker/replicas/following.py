"""What is followed on one leader, and asked of it next: a fetcher, but for the thread and the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.replicas.fetching import Counts, Followed, nobody_hears
from fastlog.broker.replicas.session import FetchSession
from fastlog.broker.replicas.throttle import Throttle
from fastlog.errors import FetchSessionIdNotFoundError, InvalidFetchSessionEpochError, KafkaError
from fastlog.protocol.messages.fetch import ReplicaState
from fastlog.state.replica.follower import Fetcher, FollowerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fastlog.broker.data_plane import ReplicationPlane
    from fastlog.broker.replicas.fetching import Corrupt
    from fastlog.broker.replicas.settings import ReplicaSettings
    from fastlog.ports import PartitionKey
    from fastlog.protocol.messages.fetch import FetchRequest
    from fastlog.state.replica.follower import Effect, Wanted

FETCH_VERSION = 18
SESSION_ERRORS = frozenset({FetchSessionIdNotFoundError.code, InvalidFetchSessionEpochError.code})


class Following:
    """The partitions that one leader is followed in, and the fetch session with it. Of one thread, but for `followed`'s
    `forbid`; the engine's calls block on the disk.
    """

    def __init__(
        self,
        node_id: int,
        engine: ReplicationPlane,
        settings: ReplicaSettings,
        now_ms: Callable[[], int],
        corrupt: Corrupt = nobody_hears,
    ) -> None:
        """`now_ms` is a monotonic clock; `corrupt` as in Followed."""
        self._node_id = node_id
        self._settings = settings
        self._now_ms = now_ms
        self.counts = Counts()
        self._fetcher = Fetcher(FollowerSettings(backoff_ms=settings.backoff_ms))
        self.followed = Followed(node_id, engine, self._fetcher, self.counts, corrupt)
        self._session = FetchSession()
        self._throttle = Throttle(engine, now_ms)
        self._epochs: dict[PartitionKey, int] = {}
        self._keys: dict[tuple[bytes, int], PartitionKey] = {}
        self._broker_epoch: int | None = None

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to fetch, or no broker epoch to do it under."""
        return self._broker_epoch is None or not self._epochs

    @property
    def awaits_sync(self) -> bool:
        """Whether a log here is to be synced before it is fetched further."""
        return bool(self.followed.unsynced)

    # --- what is told ---

    def follow(self, partitions: Sequence[tuple[PartitionKey, str, int]]) -> None:
        """Follows the leader in partitions: key, topic, leader epoch."""
        for key, topic, leader_epoch in partitions:
            if self.followed.hold(key, topic, leader_epoch):
                self._epochs[key] = leader_epoch
                self._keys[key.topic_id.bytes, key.partition] = key
                self._session.touch([key])

    def leave(self, keys: Sequence[PartitionKey]) -> None:
        """Follows it in these no more."""
        self._session.drop(key for key in keys if key in self.followed)
        for key in keys:
            self.followed.release(key)
            self._epochs.pop(key, None)
            self._keys.pop((key.topic_id.bytes, key.partition), None)

    def synced(self, keys: Iterable[PartitionKey]) -> None:
        """Logs here that waited for a sync may have been synced."""
        waiting = [key for key in keys if key in self.followed.unsynced]
        self.followed.look_again(waiting, self._epochs, self._now_ms())
        self._session.touch(waiting)

    def registered(self, broker_epoch: int | None) -> None:
        """Under which broker epoch this broker fetches."""
        self._broker_epoch = broker_epoch

    # --- fetching ---

    def request(self) -> FetchRequest | None:
        """The next fetch; None where no partition is to be asked for now, or this is idle."""
        if self._broker_epoch is None or not self._epochs:
            return None
        self._throttle.look()
        replica = ReplicaState(replica_id=self._node_id, replica_epoch=self._broker_epoch)
        return self._session.request(self._wanted_of, replica, self._settings)

    def next_ms(self) -> int | None:
        """When a partition that rests is to be asked for again; None where none rests."""
        return self._throttle.next_ms(self._fetcher.next_ms(self._now_ms()))

    def take_in(self, answer: bytes) -> Sequence[Effect]:
        """Appends what came; what is to be done about it, by `followed.repair`.

        Raises a KafkaError where the leader refused the whole fetch for another reason than its session.
        """
        self.counts.fetches += 1
        try:
            named, effects = self.followed.take_in(
                answer, FETCH_VERSION, self._session.asked, self._keys, self._now_ms()
            )
        except KafkaError as error:
            if error.code not in SESSION_ERRORS:
                raise
            self._session.forget()
            return ()
        self._session.answered(_session_id(answer))
        self._session.touch(key for key in named if key in self.followed)
        return effects

    def forget_session(self) -> None:
        """The connection is over: the next fetch names everything."""
        self._session.forget()

    def lost(self) -> None:
        """The leader cannot be reached, or did not answer: all rest for a while."""
        self.counts.lost_connections += 1
        self._session.forget()
        self._fetcher.lost(self._now_ms())
        self._session.touch(self.followed.keys())

    def _wanted_of(self, key: PartitionKey) -> Wanted | None:
        if key in self.followed.unsynced or self._throttle.holds_back(key):
            return None
        return self._fetcher.wanted_of(key, self._now_ms())


def _session_id(answer: bytes) -> int:
    """Of an answer without an error: correlation id, no tags, throttle time, error code, session id."""
    return int.from_bytes(answer[11:15], "big")
