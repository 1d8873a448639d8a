"""The partitions of `__consumer_offsets` that this broker leads: begun, read, written to, given up.

Groups move with the leadership of their partition: they are read from its log when one begins, and given up when it is
over. All is of the coordinator's thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.groups.appends import Appends
from fastlog.broker.groups.leaderships import Leadership, Leaderships
from fastlog.broker.groups.loading import LOAD, Loading, is_passing
from fastlog.broker.groups.offsets_topic import partition_of
from fastlog.broker.groups.shard import Shard
from fastlog.errors import KafkaError, NotCoordinatorError, NotLeaderOrFollowerError
from fastlog.state.effects import STORED, UNKNOWN_SERVER_ERROR, Effects, Outcome, failed
from fastlog.state.records import encode
from fastlog.state.topic_names import OFFSETS_TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastlog.broker.groups.complaints import Complaints
    from fastlog.broker.groups.log import GroupLog
    from fastlog.ports import Topic
    from fastlog.state.coordinator import Coordinator
    from fastlog.state.deadlines import Deadlines, Key
    from fastlog.state.effects import Write
    from fastlog.state.moment import Moment

# before groups are read again after a refused append: as a rule another leadership comes first
RELOAD_MS = 1_000
UNLOADED = Outcome(NotCoordinatorError.code, is_in_log=False)


class Shards:
    """One for each leadership; what one of them fails at does not end the others."""

    def __init__(
        self,
        log: GroupLog,
        node_id: int,
        deadlines: Deadlines,
        complaints: Complaints,
        now: Moment,
        *,
        make: Callable[[], Coordinator],
        topic_exists: Callable[[str], bool],
    ) -> None:
        """`make` makes the coordinator of a leadership that begins."""
        self._offsets_log = log
        self._leaderships = Leaderships(node_id)
        self._complaints = complaints
        self._make = make
        self._topic_exists = topic_exists
        self._shards: dict[int, Shard] = {}
        self._loading = Loading(deadlines)
        self._appends = Appends(log)
        self._is_closing = False
        self.now = now
        """The time of this turn."""

    def __iter__(self) -> Iterator[Shard]:
        """Those that are led here, by partition."""
        return iter([shard for _, shard in sorted(self._shards.items())])

    def __contains__(self, shard: Shard) -> bool:
        """Whether its leadership lasts."""
        return self._shards.get(shard.partition) is shard

    def of(self, group_id: str) -> Shard:
        """The one that a group belongs to; NOT_COORDINATOR where it is not led here."""
        shard = None
        if partition_count := self._leaderships.partition_count:
            shard = self._shards.get(partition_of(group_id, partition_count))
        if shard is None:
            raise NotCoordinatorError(f"group {group_id!r} is not coordinated by this broker")
        return shard

    def carry_out(self, shard: Shard, effects: Effects) -> None:
        """Sends the answers; has the records appended at the end of the turn."""
        for reply, response in effects.answers:
            reply.answer(response)
        for write in effects.writes:
            if shard not in self:
                self._told(shard, write, UNLOADED)
                continue
            try:
                pairs = [encode(record) for record in write.records]
            except ValueError as error:
                self._complaints.log.warning("a record of a group cannot be written", reason=str(error))
                self._told(shard, write, failed(UNKNOWN_SERVER_ERROR))
                continue
            self._appends.add(shard, write, pairs)

    # --- leaderships ---

    def lead(self, topic: Topic) -> None:
        """Takes in who leads the partitions of `__consumer_offsets`."""
        if self._is_closing:
            return
        over, begun = self._leaderships.told(topic)
        for partition in over:
            self._end(partition)
        for leadership in begun:
            self._loading.add(self._begin(leadership))

    def end_all(self, *, with_appended: bool = True) -> None:
        """Gives up all leaderships; without `with_appended`, what is being appended is still told what comes of it."""
        for partition in list(self._shards):
            self._end(partition, with_appended=with_appended)

    def close(self) -> None:
        """Writes what is decided, gives up all, and leads no more."""
        self.flush()
        self._is_closing = True
        self.end_all(with_appended=False)

    def topic_removed(self, name: str) -> None:
        """A topic was deleted: what groups committed in it is forgotten, and all of them with their own topic."""
        if name == OFFSETS_TOPIC:
            self._leaderships.forget()
            self.end_all()
            return
        for shard in self._shards.values():
            if shard.is_loaded:
                self.carry_out(shard, shard.coordinator().topic_deleted(name))
            else:
                shard.removed_topics.add(name)

    def _begin(self, leadership: Leadership) -> Shard:
        shard = Shard(leadership, self._make())
        self._shards[shard.partition] = shard
        return shard

    def _end(self, partition: int, *, with_appended: bool = True) -> None:
        """The groups of the partition are not served here any more, and nothing that was decided on them counts."""
        shard = self._shards.pop(partition, None)
        if shard is None:
            return
        self._loading.remove(shard)
        # first those whose writes are not known to last, then whoever else waits: their deadlines end with that
        for write in shard.give_up(with_appended=with_appended):
            self._complaints.guarded(self._told, shard, write, UNLOADED)
        if shard.is_loaded:
            self._complaints.guarded(self.carry_out, shard, shard.coordinator().unload())

    def _read_again(self, shard: Shard) -> None:
        """What is in the log of it is not known any more; in the same leadership, should that go on."""
        self._end(shard.partition)
        again = self._begin(Leadership(shard.partition, shard.leader_epoch))
        self._loading.wait(again, self.now.monotonic_ms + RELOAD_MS)

    # --- loading ---

    @property
    def is_loading(self) -> bool:
        """Whether there is something for `load_page`."""
        return bool(self._loading)

    def due(self, key: Key) -> bool:
        """Takes a deadline that is reached, if it is one of loading."""
        if key[0] != LOAD:
            return False
        self._loading.due(key)
        return True

    def load_page(self) -> None:
        """Reads on in one of the logs."""
        shard = self._loading.next()
        try:
            effects = shard.load_page(self._offsets_log, self.now)
        except Exception as error:
            if is_passing(error):
                self._loading.again(shard, self.now.monotonic_ms)
                return
            # its groups get NOT_COORDINATOR, the others are served
            shard.fail()
            log = self._complaints.log
            if not isinstance(error, KafkaError):
                log.exception("groups cannot be read", partition=shard.partition, reason=str(error))
            elif self._complaints.may_complain(self.now):
                log.error("groups cannot be read", partition=shard.partition, reason=str(error))
        else:
            if effects is not None:
                self._loaded(shard, effects)
        if not shard.is_loading:
            self._loading.remove(shard)

    def _loaded(self, shard: Shard, effects: Effects) -> None:
        self.carry_out(shard, effects)
        coordinator = shard.coordinator()
        for topic in coordinator.topics():
            # it was deleted, and a stop, or another leader, came before the offsets were
            if topic in shard.removed_topics or not self._topic_exists(topic):
                self.carry_out(shard, coordinator.topic_deleted(topic))

    # --- appends ---

    @property
    def has_waiting(self) -> bool:
        """Whether there is something for `flush`."""
        return self._appends.has_waiting

    @property
    def has_in_flight(self) -> bool:
        """Whether something will be there for `take_completions`."""
        return self._appends.has_in_flight

    def flush(self) -> None:
        """Has appended what waits: one request to the data plane for all partitions."""
        for shard, writes, code in self._appends.flush(self.now.wall_ms):
            self._written(shard, writes, code)

    def take_completions(self) -> None:
        """Tells what is appended by now."""
        for shard, writes, code in self._appends.take_completions():
            self._written(shard, writes, code)

    def _written(self, shard: Shard, writes: list[Write], code: int) -> None:
        outcome = failed(code) if code else STORED
        if code and self._complaints.may_complain(self.now):
            self._complaints.log.warning(
                "records of groups cannot be written", partition=shard.partition, code=code
            )
        for write in writes:
            self._complaints.guarded(self._told, shard, write, outcome)
        if code == NotLeaderOrFollowerError.code and shard in self:
            # the leadership is over, or in doubt: then it may be in the log all the same
            self._read_again(shard)

    def _told(self, shard: Shard, write: Write, outcome: Outcome) -> None:
        effects = Effects()
        if write.then is not None:
            write.then(outcome, self.now, effects)
        self.carry_out(shard, effects)
