"""The group coordinator of this broker: one thread, to which the groups and offsets of the partitions led here belong.

Groups move with the leadership of their partition: they are read from its log when one begins, and given up when it is
over. Requests are taken in bursts: each is decided at once, the records of a burst are appended together, one request
to the data plane for all partitions, and who committed is answered when that is acknowledged. Every method that names
no other is for its own thread, which is where the handlers of the lane `groups` run.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from fastlog.broker.groups.appends import Appends
from fastlog.broker.groups.leaderships import Leadership, Leaderships
from fastlog.broker.groups.loading import LOAD, Loading, is_passing
from fastlog.broker.groups.offsets_topic import partition_of
from fastlog.broker.groups.shard import Shard
from fastlog.broker.groups.topics import KnownTopics
from fastlog.broker.inbox import Inbox
from fastlog.broker.later import Later
from fastlog.errors import (
    CoordinatorLoadInProgressError,
    KafkaError,
    NotCoordinatorError,
    NotLeaderOrFollowerError,
)
from fastlog.events import EventLog
from fastlog.state.coordinator import Coordinator
from fastlog.state.deadlines import Deadlines
from fastlog.state.effects import STORED, UNKNOWN_SERVER_ERROR, Effects, Outcome, failed
from fastlog.state.memory import Memory
from fastlog.state.moment import Moment
from fastlog.state.records import encode
from fastlog.state.topic_names import OFFSETS_TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    from fastlog.broker.groups.log import GroupLog
    from fastlog.broker.serving import ControlRequest, Serving
    from fastlog.ports import Clock, Random, Topic
    from fastlog.state.consumer_group.settings import ConsumerGroupSettings
    from fastlog.state.effects import Write
    from fastlog.state.group.settings import GroupSettings
    from fastlog.state.offsets.settings import OffsetSettings

EXPIRY = ("expiry",)
# requests that are taken together, and whose records are appended together
BURST = 256
COMPLAIN_INTERVAL_MS = 1_000
# how often a thread that is waited for is looked at, whether it is there at all
ALIVE_SECONDS = 0.1
# before groups are read again after a refused append: as a rule another leadership comes first
RELOAD_MS = 1_000
UNLOADED = Outcome(NotCoordinatorError.code, is_in_log=False)


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
    ) -> None:
        self._offsets_log = log
        self._clock = clock
        self._random = random
        self._topic_exists = topic_exists
        self._settings = groups, offsets
        self._consumer_settings = consumer_groups
        self._topics = KnownTopics()
        self._memory = Memory(groups.memory_bytes_max)
        self._retention_check_interval_ms = retention_check_interval_ms
        self._log = EventLog("groups")
        self._deadlines = Deadlines()
        self._leaderships = Leaderships(node_id)
        self._shards: dict[int, Shard] = {}
        self._loading = Loading(self._deadlines)
        self._expiring: list[Shard] = []
        self._appends = Appends(log)
        self._now = self._moment()
        self._deadlines.set(EXPIRY, self._now.monotonic_ms + retention_check_interval_ms)
        self._is_closing = self._is_stopped = False
        self._silent_until_ms = 0
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
            self.put(self._topic_removed, name)
        for topic in put:
            if topic.name == OFFSETS_TOPIC:
                self.put(self._lead, topic)

    def resign(self) -> None:
        """Gives up all leaderships: this broker's registration is over. Those that are told afterwards are new ones."""
        self.put(self._end_all)

    def finish_waiting(self) -> None:
        """Sends all members to look for another coordinator, and serves no more groups. Blocks until that is done."""
        if self._thread is not None:
            done = threading.Event()
            self.put(self._unload)
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
        shard = self._shard(group_id)
        self._carry_out(shard, call(shard.coordinator(), later, self._now))
        return later

    def coordinator_of(self, group_id: str) -> Coordinator:
        """The group's coordinator, to be asked what changes nothing but sessions; raises as `ask`."""
        return self._shard(group_id).coordinator()

    @property
    def now(self) -> Moment:
        """The time of this burst."""
        return self._now

    def fresh_id(self, name: str) -> str:
        """A member id that nobody has, with a name in front for who reads logs."""
        return f"{name}-{self._random.uuid()}"

    def fresh_uuid(self) -> UUID:
        """Some UUID that nobody has."""
        return self._random.uuid()

    def coordinators(self) -> Iterator[Coordinator]:
        """Those that are served here, by partition; COORDINATOR_LOAD_IN_PROGRESS where one is not ready."""
        for _, shard in sorted(self._shards.items()):
            yield shard.coordinator()

    def _shard(self, group_id: str) -> Shard:
        shard = None
        if partition_count := self._leaderships.partition_count:
            shard = self._shards.get(partition_of(group_id, partition_count))
        if shard is None:
            raise NotCoordinatorError(f"group {group_id!r} is not coordinated by this broker")
        return shard

    def _carry_out(self, shard: Shard, effects: Effects) -> None:
        """Sends the answers; has the records appended at the end of the burst."""
        for reply, response in effects.answers:
            reply.answer(response)
        for write in effects.writes:
            if self._shards.get(shard.partition) is not shard:
                self._told(shard, write, UNLOADED)
                continue
            try:
                pairs = [encode(record) for record in write.records]
            except ValueError as error:
                self._log.warning("a record of a group cannot be written", reason=str(error))
                self._told(shard, write, failed(UNKNOWN_SERVER_ERROR))
                continue
            self._appends.add(shard, write, pairs)

    # --- the thread ---

    def _moment(self) -> Moment:
        return Moment(self._clock.monotonic_ms(), self._clock.now_ms())

    def _run(self) -> None:
        while not self._is_stopped:
            self.turn(self._timeout_ms())

    def turn(self, timeout_ms: int | None = 0) -> None:
        """Waits for something to do, at most `timeout_ms`, and does it; None waits for ever."""
        work = self._inbox.wait(timeout_ms)
        self._now = self._moment()
        for call, arguments in work:
            self._guarded(call, *arguments)
        if self._requests is not None:
            self._serve(*self._requests)
        if self._appends.has_in_flight:
            self._guarded(self._take_completions)
        due_ms = self._deadlines.next_ms()
        if due_ms is not None and due_ms <= self._now.monotonic_ms:
            self._guarded(self._take_deadlines)
        if self._loading:
            self._guarded(self._load_page)
        if self._expiring:
            self._guarded(self._expire_offsets)
        if self._appends.has_waiting:
            self._guarded(self._flush)
        if self._memory.refusals:
            self._guarded(self._tell_refusals)

    @staticmethod
    def _serve(source: GroupSource, serving: Serving) -> None:
        for request in source.drain_groups(BURST):
            api = serving.api_of(request)
            if api is not None:
                serving.serve(api, request)

    def _guarded(self, call: Callable[..., object], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception:
            # a fault of ours with one group is not to end the others
            self._log.exception("the group coordinator failed at something and goes on")

    def _timeout_ms(self) -> int | None:
        if self._loading or self._expiring:
            return 0
        due_ms = self._deadlines.next_ms()
        return None if due_ms is None else max(0, due_ms - self._clock.monotonic_ms())

    def _stop(self) -> None:
        self._is_stopped = True

    def _take_deadlines(self) -> None:
        while (key := self._deadlines.pop(self._now.monotonic_ms)) is not None:
            if key == EXPIRY:
                self._deadlines.set(EXPIRY, self._now.monotonic_ms + self._retention_check_interval_ms)
                self._expiring = list(self._shards.values())
                continue
            if key[0] == LOAD:
                self._loading.due(key)
                continue
            with suppress(NotCoordinatorError, CoordinatorLoadInProgressError):
                shard = self._shard(key[1])
                self._carry_out(shard, shard.coordinator().deadline(key, self._now))

    def _tell_refusals(self) -> None:
        memory = self._memory
        if self._may_complain():
            self._log.warning(
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
        if shard.is_loaded and self._shards.get(shard.partition) is shard:
            self._carry_out(shard, shard.coordinator().expire_offsets(self._now))

    # --- partitions ---

    def _lead(self, topic: Topic) -> None:
        if self._is_closing:
            return
        over, begun = self._leaderships.told(topic)
        for partition in over:
            self._end(partition)
        for leadership in begun:
            self._loading.add(self._begin(leadership))

    def _begin(self, leadership: Leadership) -> Shard:
        shard = Shard(leadership, self._coordinator())
        self._shards[shard.partition] = shard
        return shard

    def _coordinator(self) -> Coordinator:
        return Coordinator(
            self._deadlines, *self._settings, self._memory, self._consumer_settings, self._topics
        )

    def _end(self, partition: int, *, with_appended: bool = True) -> None:
        """The groups of the partition are not served here any more, and nothing that was decided on them counts."""
        shard = self._shards.pop(partition, None)
        if shard is None:
            return
        self._loading.remove(shard)
        # first those whose writes are not known to last, then whoever else waits: their deadlines end with that
        for write in shard.give_up(with_appended=with_appended):
            self._guarded(self._told, shard, write, UNLOADED)
        if shard.is_loaded:
            self._guarded(self._carry_out, shard, shard.coordinator().unload())

    def _end_all(self, *, with_appended: bool = True) -> None:
        for partition in list(self._shards):
            self._end(partition, with_appended=with_appended)

    def _read_again(self, shard: Shard) -> None:
        """What is in the log of it is not known any more; in the same leadership, should that go on."""
        self._end(shard.partition)
        again = self._begin(Leadership(shard.partition, shard.leader_epoch))
        self._loading.wait(again, self._now.monotonic_ms + RELOAD_MS)

    def _load_page(self) -> None:
        shard = self._loading.next()
        try:
            effects = shard.load_page(self._offsets_log, self._now)
        except Exception as error:
            if is_passing(error):
                self._loading.again(shard, self._now.monotonic_ms)
                return
            # its groups get NOT_COORDINATOR, the others are served
            shard.fail()
            if not isinstance(error, KafkaError):
                self._log.exception("groups cannot be read", partition=shard.partition, reason=str(error))
            elif self._may_complain():
                self._log.error("groups cannot be read", partition=shard.partition, reason=str(error))
        else:
            if effects is not None:
                self._loaded(shard, effects)
        if not shard.is_loading:
            self._loading.remove(shard)

    def _loaded(self, shard: Shard, effects: Effects) -> None:
        self._carry_out(shard, effects)
        coordinator = shard.coordinator()
        for topic in coordinator.topics():
            # it was deleted, and a stop, or another leader, came before the offsets were
            if topic in shard.removed_topics or not self._topic_exists(topic):
                self._carry_out(shard, coordinator.topic_deleted(topic))

    def _topics_told(self, put: Sequence[Topic], removed: Sequence[str]) -> None:
        changed = self._topics.tell(put, removed)
        if not changed:
            return
        for shard in self._shards.values():
            # one that is not loaded looks at all topics when it is
            if shard.is_loaded:
                shard.coordinator().topics_changed(changed)

    def _topic_removed(self, name: str) -> None:
        if name == OFFSETS_TOPIC:
            self._leaderships.forget()
            self._end_all()
            return
        for shard in self._shards.values():
            if shard.is_loaded:
                self._carry_out(shard, shard.coordinator().topic_deleted(name))
            else:
                shard.removed_topics.add(name)

    def _unload(self) -> None:
        self._flush()
        self._is_closing = True
        # who waits for what is being appended is still told what comes of it
        self._end_all(with_appended=False)

    # --- appends ---

    def _flush(self) -> None:
        for shard, writes, code in self._appends.flush(self._now.wall_ms):
            self._written(shard, writes, code)

    def _take_completions(self) -> None:
        for shard, writes, code in self._appends.take_completions():
            self._written(shard, writes, code)

    def _may_complain(self) -> bool:
        """Whether to log a failure: a failing disk refuses every partition and commit, and a line a second says so."""
        if self._now.monotonic_ms < self._silent_until_ms:
            return False
        self._silent_until_ms = self._now.monotonic_ms + COMPLAIN_INTERVAL_MS
        return True

    def _written(self, shard: Shard, writes: list[Write], code: int) -> None:
        outcome = failed(code) if code else STORED
        if code and self._may_complain():
            self._log.warning("records of groups cannot be written", partition=shard.partition, code=code)
        for write in writes:
            self._guarded(self._told, shard, write, outcome)
        if code == NotLeaderOrFollowerError.code and self._shards.get(shard.partition) is shard:
            # the leadership is over, or in doubt: then it may be in the log all the same
            self._read_again(shard)

    def _told(self, shard: Shard, write: Write, outcome: Outcome) -> None:
        effects = Effects()
        if write.then is not None:
            write.then(outcome, self._now, effects)
        self._carry_out(shard, effects)
