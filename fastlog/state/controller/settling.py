"""Partitions that something happened to, each decided when it has no write on its way; requests wait behind that."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from fastlog.errors import KafkaError, RequestTimedOutError, UnknownTopicIdError, UnknownTopicOrPartitionError
from fastlog.state.controller.decide.election import NO_LEADER, elect_by_log, settle
from fastlog.state.controller.effects import Item, Reply
from fastlog.state.controller.log_ends import is_stuck
from fastlog.state.controller.writes import Flight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastlog.ports import PartitionKey, PartitionState, TopicId
    from fastlog.state.controller.asks import Ask
    from fastlog.state.controller.log_ends import LogEnds
    from fastlog.state.controller.offline import OfflineReplicas
    from fastlog.state.controller.partitions import Partitions
    from fastlog.state.controller.writes import Landed, Writes


class Settling:
    """Decides marked partitions and the requests about them, and gathers what is to be answered and published."""

    def __init__(
        self,
        *,
        partitions: Partitions,
        brokers: OfflineReplicas,
        writes: Writes,
        log_ends: LogEnds,
        asks_max: int,
    ) -> None:
        self._partitions = partitions
        self._brokers = brokers
        self._writes = writes
        self._log_ends = log_ends
        self._asks_max = asks_max
        self._marked: set[PartitionKey] = set()
        self._asks: dict[PartitionKey, deque[Ask]] = {}
        self.replies: list[Reply] = []
        self.changed: dict[PartitionKey, PartitionState] = {}

    def mark(self, keys: Iterable[PartitionKey]) -> None:
        """Something happened that may concern these partitions."""
        self._marked.update(keys)

    def is_quiet(self, keys: Iterable[PartitionKey]) -> bool:
        """Whether all of them are settled and written."""
        return not any(it in self._writes or it in self._marked or it in self._asks for it in keys)

    # --- requests ---

    def ask(self, ask: Ask) -> None:
        """Takes a request; it is decided by `run`, now or when its partition is free."""
        topic = self._partitions.topic(ask.key.topic_id)
        if topic is None:
            self._refuse(ask, UnknownTopicIdError(f"no topic has the id {ask.key.topic_id}"))
            return
        if ask.key not in self._partitions:
            refusal = UnknownTopicOrPartitionError(
                f"topic {topic.name!r} has no partition {ask.key.partition}"
            )
            self._refuse(ask, refusal)
            return
        waiting = self._asks.setdefault(ask.key, deque())
        if len(waiting) >= self._asks_max:
            self._refuse(ask, RequestTimedOutError("too many requests wait for the partition: ask again"))
            return
        waiting.append(ask)
        self._marked.add(ask.key)

    def _refuse(self, ask: Ask, error: KafkaError) -> None:
        self._answer(ask, Item(ask.key, error.code, error.message))

    def _answer(self, ask: Ask, item: Item) -> None:
        if ask.pending is not None:
            reply = ask.pending.answer(ask.index, item)
            if reply is not None:
                self.replies.append(reply)

    def refuse_all(self, error: KafkaError) -> list[Reply]:
        """The answers to everybody who still waits."""
        asks = [*self._writes.asks(), *(it for key in sorted(self._asks) for it in self._asks[key])]
        refused = (it.pending.refused(error) for it in asks if it.pending is not None)
        return [it for it in refused if it is not None]

    # --- decisions ---

    def run(self, now_ms: int) -> None:
        """Decides what is marked; whatever has a write on its way stays until that has landed."""
        marked, self._marked = sorted(self._marked), set()
        for key in marked:
            if key in self._partitions and key not in self._writes:
                self._decide(key, self._partitions[key], now_ms)

    def _decide(self, key: PartitionKey, state: PartitionState, now_ms: int) -> None:
        after = self._settled(key, state, now_ms)
        if after != state:
            self._writes.begin(Flight(key, state, after, None))
            return
        waiting = self._asks.get(key)
        while waiting:
            ask = waiting.popleft()
            try:
                after = ask.decide(state, self._brokers.view_of(key), self._partitions.facts(key.topic_id))
            except KafkaError as error:
                self._refuse(ask, error)
                continue
            if after != state:
                self._writes.begin(Flight(key, state, after, ask))
                break
            self._answer(ask, ask.answer(state))
        if waiting is not None and not waiting:
            del self._asks[key]

    def _settled(self, key: PartitionKey, state: PartitionState, now_ms: int) -> PartitionState:
        brokers = self._brokers.view_of(key)
        after = settle(state, brokers, self._partitions.facts(key.topic_id))
        if after != state or not is_stuck(state):
            self._log_ends.forget(key)
            return after
        leader = self._log_ends.decide(key, state, brokers, now_ms)
        return state if leader is None else elect_by_log(state, leader, brokers)

    # --- what became of it ---

    def landed(self, landed: Iterable[Landed]) -> None:
        """Takes in what is stored; a request whose write met something else is decided again."""
        for it in landed:
            flight = it.flight
            ask = flight.ask
            if it.actual is None:
                # nothing to write to, and no reason to try again: the topic is being deleted
                self._refuse_waiting(flight.key, ask, UnknownTopicOrPartitionError("the partition is gone"))
                continue
            if flight.key not in self._partitions:
                continue
            self._partitions.put(flight.key, it.actual)
            self.changed[flight.key] = it.actual
            self._marked.add(flight.key)
            if ask is not None and it.applied:
                self._answer(ask, ask.answer(it.actual))
            elif ask is not None:
                self._asks.setdefault(flight.key, deque()).appendleft(ask)

    def accepted(self, broker: int) -> None:
        """A broker may lead now: marks what waits for a leader."""
        hosted = self._partitions.hosted_by(broker)
        self.mark(it for it in hosted if self._partitions[it].leader == NO_LEADER)

    def drop(self, topic_id: TopicId) -> None:
        """A topic is deleted: whoever asked about its partitions is told."""
        gone = UnknownTopicIdError(f"no topic has the id {topic_id} any more")
        for key in self._partitions.keys_of(topic_id):
            flight = self._writes.drop(key)
            self._refuse_waiting(key, None if flight is None else flight.ask, gone)
            self._marked.discard(key)
            self._log_ends.forget(key)
            self.changed.pop(key, None)

    def _refuse_waiting(self, key: PartitionKey, first: Ask | None, error: KafkaError) -> None:
        for ask in (first, *self._asks.pop(key, ())):
            if ask is not None:
                self._refuse(ask, error)
