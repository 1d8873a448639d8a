"""A thread that fetches from one leader, over a connection of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from fastlog.broker.replicas.fetching import nobody_hears
from fastlog.broker.replicas.following import FETCH_VERSION, Following
from fastlog.broker.replicas.link import Bell, InterruptedLinkError, Link, wait_for
from fastlog.errors import KafkaError
from fastlog.events import EventLog
from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import decode_response_frame, encode_request_frame
from fastlog.transport.channel import ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.broker.data_plane import ReplicationPlane
    from fastlog.broker.replicas.fetching import Corrupt, Counts
    from fastlog.broker.replicas.settings import ReplicaSettings
    from fastlog.ports import PartitionKey
    from fastlog.transport.channel import Channel

LIST_OFFSETS_VERSION = 8
#: what is to be followed anew waits so long for the answer of a fetch that is under way, then the fetch is given up
PATIENCE_MS = 50.0
#: how long other partitions wait for the sync of one before they are fetched without it
SYNC_WAIT_MS = 100.0
COMPLAIN_MS = 10_000

Command = tuple["Callable[..., None]", tuple[Any, ...]]


class LeaderFetcher:
    """Follows one leader, from `start` to `stop`. The methods may be called from any thread, and do not block."""

    def __init__(
        self,
        leader: int,
        node_id: int,
        engine: ReplicationPlane,
        open_channel: Callable[[str, int], Channel],
        settings: ReplicaSettings,
        corrupt: Corrupt = nobody_hears,
    ) -> None:
        """`corrupt` is told of a partition and an offset from which the leader sent what has a wrong checksum."""
        self._leader = leader
        self._node_id = node_id
        self._settings = settings
        self._log = EventLog("replicas")
        self._following = Following(node_id, engine, settings, _now_ms, corrupt)
        self._at: tuple[str, int] | None = None
        self._commands: deque[Command] = deque()
        self._bell = Bell()
        self._link = Link(open_channel, self._bell)
        self._is_urgent = self._is_stopped = False
        self._complained_ms = -COMPLAIN_MS
        self._thread = threading.Thread(target=self._run, name=f"fastlog-fetcher-{leader}", daemon=True)

    @property
    def counts(self) -> Counts:
        """What happened so far."""
        return self._following.counts

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread: what it has begun to append is appended."""
        self._is_stopped = True
        self._bell.ring()
        self._thread.join()
        self._bell.close()

    def follow(self, partitions: Sequence[tuple[PartitionKey, str, int]]) -> None:
        """Follows the leader in partitions: key, topic, leader epoch."""
        self._put(self._following.follow, partitions, is_urgent=True)

    def leave(self, keys: Sequence[PartitionKey], *, is_deleted: bool) -> None:
        """Follows it in these no more. Of a topic that is deleted no log is cut after this returns."""
        if is_deleted:
            self._following.followed.forbid(keys)
        self._put(self._following.leave, keys)

    def synced(self, keys: Sequence[PartitionKey]) -> None:
        """Logs here that waited for a sync may have been synced."""
        self._put(self._following.synced, keys, is_urgent=True)

    def registered(self, broker_epoch: int | None) -> None:
        """Under which broker epoch this broker fetches; None stops it from that."""
        self._put(self._following.registered, broker_epoch, is_urgent=True)

    def is_at(self, endpoint: tuple[str, int] | None) -> None:
        """Where the leader listens; None where it is not there."""
        self._put(self._move, endpoint, is_urgent=True)

    def _put(self, command: Callable[..., None], *arguments: Any, is_urgent: bool = False) -> None:
        self._commands.append((command, arguments))
        if is_urgent:
            self._is_urgent = True
        self._bell.ring()

    # --- of the thread ---

    def _take_commands(self) -> None:
        # before they are taken: one that comes meanwhile is taken too, or seen the next time
        self._is_urgent = False
        while self._commands:
            command, arguments = self._commands.popleft()
            command(*arguments)

    def _move(self, endpoint: tuple[str, int] | None) -> None:
        self._at = endpoint

    def _run(self) -> None:
        while not self._is_stopped:
            try:
                self._take_commands()
                self._round()
            except InterruptedLinkError:
                self._link.close()
                self._following.forget_session()
            except ConnectionLostError as error:
                self._lost(str(error))
            except Exception as error:
                self._log.exception(
                    "following a leader failed, it is tried again", error, leader=self._leader
                )
                self._lost("a fault of ours")
        self._link.close()

    def _round(self) -> None:
        """A fetch and what comes of it, or a pause."""
        if self._at is None or self._following.is_idle:
            self._link.close()
            self._following.forget_session()
            self._pause(None)
            return
        if self._following.awaits_sync and self._await_sync():
            return
        if self._link.connect(self._at):
            self._following.forget_session()
        request = self._following.request()
        if request is None:
            next_ms = self._following.next_ms()
            self._pause(None if next_ms is None else max(0, next_ms - _now_ms()))
            return
        frame = encode_request_frame(
            request, FETCH_VERSION, self._link.next_correlation_id(), f"broker-{self._node_id}"
        )
        timeout_ms = self._settings.fetch_wait_ms + self._settings.request_timeout_ms
        answer = self._link.ask(frame, timeout_ms, self._is_interrupted)
        try:
            effects = self._following.take_in(answer)
        except KafkaError as error:
            raise ConnectionLostError(f"its leader refused a fetch: {error}") from error
        self._following.followed.repair(effects, self._list_offsets, _now_ms())

    def _await_sync(self) -> bool:
        """Waits for the syncs that are under way; whether commands came meanwhile."""
        self._pause(SYNC_WAIT_MS)
        if self._commands:
            return True
        # nobody said so, which a busy control plane may be the reason for
        self._following.synced(list(self._following.followed.unsynced))
        return False

    def _pause(self, timeout_ms: float | None) -> None:
        # a command between the last look and this one has rung the bell
        if not self._commands and not self._is_stopped:
            wait_for(self._bell, timeout_ms)

    def _is_interrupted(self, passed_ms: float) -> bool:
        return self._is_stopped or (self._is_urgent and passed_ms >= PATIENCE_MS)

    def _list_offsets(self, request: Any) -> Any:
        frame = encode_request_frame(
            request, LIST_OFFSETS_VERSION, self._link.next_correlation_id(), f"broker-{self._node_id}"
        )
        answer = self._link.ask(frame, self._settings.request_timeout_ms, lambda _: self._is_stopped)
        return decode_response_frame(ApiKey.LIST_OFFSETS, LIST_OFFSETS_VERSION, answer)[1]

    def _lost(self, reason: str) -> None:
        self._link.close()
        self._following.lost()
        now_ms = _now_ms()
        if now_ms - self._complained_ms >= COMPLAIN_MS:
            self._complained_ms = now_ms
            self._log.warning(
                "a leader is not reached, it is tried again", leader=self._leader, reason=reason
            )


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
