"""The group coordinator of this broker: one thread, to which the groups and offsets of the partitions led here belong.

Requests are taken in bursts: each is decided at once, the records of a burst are appended together, and who committed
is answered when that is acknowledged. Every method that names no other is for its own thread, which is where the
handlers of the lane `groups` run.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

from fastlog.broker.groups.complaints import Complaints
from fastlog.broker.groups.shards import Shards
from fastlog.broker.groups.topics import KnownTopics
from fastlog.broker.inbox import Inbox
from fastlog.broker.later import Later
from fastlog.errors import CoordinatorLoadInProgressError, NotCoordinatorError
from fastlog.state.coordinator import Coordinator
from fastlog.state.deadlines import Deadlines
from fastlog.state.memory import Memory
from fastlog.state.moment import Moment
from fastlog.state.topic_names import OFFSETS_TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    from fastlog.broker.groups.log import GroupLog
    from fastlog.broker.groups.shard import Shard
    from fastlog.broker.serving import ControlRequest, Serving
    from fastlog.ports import Clock, Random, Topic
    from fastlog.state.consumer_group.settings import ConsumerGroupSettings
    from fastlog.state.effects import Effects
    from fastlog.state.group.settings import GroupSettings
    from fastlog.state.offsets.settings import OffsetSettings

EXPIRY = ("expiry",)
# requests that are taken together, and whose records are appended together
BURST = 256
# how often a thread that is waited for is looked at, whether it is there at all
ALIVE_SECONDS = 0.1


class GroupSource(Protocol):
    """The engine's queue of requests of groups."""

    def groups_fd(self) -> int:
        """Readable when there is something to drain."""
        ...

    def drain_groups(self, limit: int) -> Sequence[ControlRequest]:
        """Takes requests, at most `limit`."""
        ...


class GroupCoordinator:
    """Serves groups from `start` to `stop`."""

    def __init__(
        self,
        log: GroupLog,
        clock: Clock,
        random: Random,
        *,
        node_id: int,
        topic_exists: Callable[[str], bool],
        groups: GroupSettings,
        consumer_groups: ConsumerGroupSettings,
        offsets: OffsetSettings,
        retention_check_interval_ms: int,
        expiry_clock: Clock | None = None,
    ) -> None:
        """`expiry_clock` says which offsets are too old, where another than `clock` does."""
        self._clock = clock
        self._expiry_clock = expiry_clock or clock
        self._random = random
        self._topics = KnownTopics()
        self._memory = Memory(groups.memory_bytes_max)
        self._retention_check_interval_ms = retention_check_interval_ms
        self._complaints = Complaints()
        self._deadlines = Deadlines()
        self._shards = Shards(
            log,
            node_id,
            self._deadlines,
            self._complaints,
            self._moment(),
            # no method of ours: a broker that is over is to be freed at once
            make=partial(
                Coordinator, self._deadlines, groups, offsets, self._memory, consumer_groups, self._topics
            ),
            topic_exists=topic_exists,
        )
        self._expiring: list[Shard] = []
        self._deadlines.set(EXPIRY, self.now.monotonic_ms + retention_check_interval_ms)
        self._is_stopped = False
        self._inbox = Inbox()
        self._inbox.watch(log.completions_fd())
        self._requests: tuple[GroupSource, Serving] | None = None
        self._thread: threading.Thread | None = None

    # --- from any thread ---

    def start(self, source: GroupSource, serving: Serving) -> None:
        """Starts the thread, which serves the requests of `source`."""
        self._requests = source, serving
        self._inbox.watch(source.groups_fd())
        self._thread = threading.Thread(target=self._run, name="fastlog-groups", daemon=True)
        self._thread.start()

    def put(self, work: Callable[..., object], *arguments: object) -> None:
        """Has the call made on the coordinator's thread."""
        self._inbox.put(work, *arguments)

    def topics_changed(self, put: Sequence[Topic], removed: Sequence[str]) -> None:
        """Topics were made, changed or deleted: serves the groups of partitions led here, forgets offsets.

        `removed` are topics that were deleted, not some that only nothing is known of now.
        """
        self.put(self._topics_told, put, removed)
        for name in removed:
            self.put(self._shards.topic_removed, name)
        for topic in put:
            if topic.name == OFFSETS_TOPIC:
                self.put(self._shards.lead, topic)

    def resign(self) -> None:
        """Gives up all leaderships: this broker's registration is over. Those that are told afterwards are new ones."""
        self.put(self._shards.end_all)

    def finish_waiting(self) -> None:
        """Sends all members to look for another coordinator, and serves no more groups. Blocks until that is done."""
        if self._thread is not None:
            done = threading.Event()
            self.put(self._shards.close)
            self.put(done.set)
            # one that failed does nothing any more
            while self._thread.is_alive() and not done.wait(ALIVE_SECONDS):
                pass

    def stop(self) -> None:
        """Ends the thread; what was appended and not acknowledged by then is not answered. Again is harmless."""
        if self._thread is not None:
            self.put(self._stop)
            self._thread.join()
            self._thread = None
        self._inbox.close()
        # the handlers know it, so what it knows of them would keep all of it alive
        self._requests = None

    # --- what handlers work with ---

    def ask(self, group_id: str, call: Callable[[Coordinator, Later, Moment], Effects]) -> Later:
        """Has the group's coordinator decide; the answer that it gives to the reply in the middle.

        Raises NOT_COORDINATOR where the group is not served here, COORDINATOR_LOAD_IN_PROGRESS until it is.
        """
        later = Later()
        shard = self._shards.of(group_id)
        self._shards.carry_out(shard, call(shard.coordinator(), later, self.now))
        return later

    def coordinator_of(self, group_id: str) -> Coordinator:
        """The group's coordinator, to be asked what changes nothing but sessions; raises as `ask`."""
        return self._shards.of(group_id).coordinator()

    @property
    def now(self) -> Moment:
        """The time of this burst."""
        return self._shards.now

    def fresh_id(self, name: str) -> str:
        """A member id that nobody has, with a name in front for who reads logs."""
        return f"{name}-{self._random.uuid()}"

    def fresh_uuid(self) -> UUID:
        """Some UUID that nobody has."""
        return self._random.uuid()

    def coordinators(self) -> Iterator[Coordinator]:
        """Those that are served here, by partition; COORDINATOR_LOAD_IN_PROGRESS where one is not ready."""
        for shard in self._shards:
            yield shard.coordinator()

    # --- the thread ---

    def _moment(self) -> Moment:
        return Moment(self._clock.monotonic_ms(), self._clock.now_ms())

    def _run(self) -> None:
        while not self._is_stopped:
            self.turn(self._timeout_ms())

    def turn(self, timeout_ms: int | None = 0) -> None:
        """Waits for something to do, at most `timeout_ms`, and does it; None waits for ever."""
        shards, guarded = self._shards, self._complaints.guarded
        work = self._inbox.wait(timeout_ms)
        shards.now = self._moment()
        for call, arguments in work:
            guarded(call, *arguments)
        if self._requests is not None:
            self._serve(*self._requests)
        if shards.has_in_flight:
            guarded(shards.take_completions)
        due_ms = self._deadlines.next_ms()
        if due_ms is not None and due_ms <= self.now.monotonic_ms:
            guarded(self._take_deadlines)
        if shards.is_loading:
            guarded(shards.load_page)
        if self._expiring:
            guarded(self._expire_offsets)
        if shards.has_waiting:
            guarded(shards.flush)
        if self._memory.refusals:
            guarded(self._tell_refusals)

    @staticmethod
    def _serve(source: GroupSource, serving: Serving) -> None:
        for request in source.drain_groups(BURST):
            api = serving.api_of(request)
            if api is not None:
                serving.serve(api, request)

    def _timeout_ms(self) -> int | None:
        if self._shards.is_loading or self._expiring:
            return 0
        due_ms = self._deadlines.next_ms()
        return None if due_ms is None else max(0, due_ms - self._clock.monotonic_ms())

    def _stop(self) -> None:
        self._is_stopped = True

    def _take_deadlines(self) -> None:
        while (key := self._deadlines.pop(self.now.monotonic_ms)) is not None:
            if key == EXPIRY:
                self._deadlines.set(EXPIRY, self.now.monotonic_ms + self._retention_check_interval_ms)
                self._expiring = list(self._shards)
            elif not self._shards.due(key):
                with suppress(NotCoordinatorError, CoordinatorLoadInProgressError):
                    shard = self._shards.of(key[1])
                    self._shards.carry_out(shard, shard.coordinator().deadline(key, self.now))

    def _tell_refusals(self) -> None:
        memory = self._memory
        if self._complaints.may_complain(self.now):
            self._complaints.log.warning(
                "groups hold all the memory that they may, and what is new is refused: delete groups, or raise "
                "fastlog.groups.memory.bytes",
                held_bytes=memory.held_bytes,
                bytes_max=memory.bytes_max,
                refused=memory.refusals,
            )
            memory.refusals = 0

    def _expire_offsets(self) -> None:
        # a partition in each turn: 3 us for each group, for which members are not to wait all together
        shard = self._expiring.pop()
        if shard.is_loaded and shard in self._shards:
            now = Moment(self.now.monotonic_ms, self._expiry_clock.now_ms())
            self._shards.carry_out(shard, shard.coordinator().expire_offsets(now))

    # --- what shards are told ---

    def _topics_told(self, put: Sequence[Topic], removed: Sequence[str]) -> None:
        changed = self._topics.tell(put, removed)
        if not changed:
            return
        for shard in self._shards:
            # one that is not loaded looks at all topics when it is
            if shard.is_loaded:
                shard.coordinator().topics_changed(changed)
