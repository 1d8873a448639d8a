"""Requests about partitions, each waiting its turn: decided on the state as it then is, answered when it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from fastlog.errors import (
    ElectionNotNeededError,
    EligibleLeadersNotAvailableError,
    KafkaError,
    NewLeaderElectedError,
    PreferredLeaderNotAvailableError,
    StaleBrokerEpochError,
)
from fastlog.state.controller.decide.alter_partition import altered
from fastlog.state.controller.decide.election import NO_LEADER, settle
from fastlog.state.controller.decide.reassignment import cancelled, reassigned
from fastlog.state.controller.effects import Item, Reply

if TYPE_CHECKING:
    from fastlog.ports import PartitionKey, PartitionState
    from fastlog.state.controller.decide.election import Candidates
    from fastlog.state.controller.events import Proposed
    from fastlog.state.controller.settings import TopicFacts


class Pending:
    """A request of several items, answered when the last of them is."""

    def __init__(self, token: Any, keys: list[PartitionKey], leave_out: int | None = None) -> None:
        self._token = token
        self._keys = keys
        self._items: list[Item | None] = [None] * len(keys)
        self._left = len(keys)
        # a code of which a request for everything is not told
        self._leave_out = leave_out

    def answer(self, index: int, item: Item) -> Reply | None:
        """Takes an item's answer; the whole one if it was the last."""
        self._items[index] = item
        self._left -= 1
        return None if self._left else self.reply()

    def reply(self) -> Reply:
        """The answer as it stands."""
        items = tuple(it for it in self._items if it is not None and it.code != self._leave_out)
        return Reply(token=self._token, items=items)

    def refused(self, error: KafkaError) -> Reply | None:
        """The answer to a request that is not decided any more; None where it has been given."""
        if not self._left:
            return None
        self._left = 0
        return Reply(token=self._token, code=error.code, message=error.message)


class Ask:
    """One item of a request; `pending` is None where nobody waits for the answer."""

    def __init__(self, key: PartitionKey, pending: Pending | None, index: int) -> None:
        self.key = key
        self.pending = pending
        self.index = index

    def decide(self, state: PartitionState, brokers: Candidates, facts: TopicFacts) -> PartitionState:
        """The state to be written; an equal one where nothing is to do. Raises the KafkaError of the answer."""
        raise NotImplementedError

    def answer(self, state: PartitionState) -> Item:
        """The answer once `state` is what stands."""
        return Item(self.key, state=state)


class IsrAsk(Ask):
    """A leader's proposal."""

    def __init__(
        self, pending: Pending, index: int, broker_id: int, broker_epoch: int, proposed: Proposed
    ) -> None:
        super().__init__(proposed.key, pending, index)
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch
        self._proposed = proposed

    def decide(self, state: PartitionState, brokers: Candidates, facts: TopicFacts) -> PartitionState:
        """See `altered`; then what follows of it, the end of a reassignment too."""
        if not brokers.is_registered(self._broker_id, self._broker_epoch):
            raise StaleBrokerEpochError(
                f"broker {self._broker_id} is not registered with the broker epoch {self._broker_epoch}"
            )
        target = altered(state, self._broker_id, self._proposed, brokers)
        return settle(state, brokers, facts, target)

    def answer(self, state: PartitionState) -> Item:
        """The new state, or that the end of a reassignment gave the partition another leader."""
        if state.leader != self._broker_id:
            error = NewLeaderElectedError(f"broker {state.leader} leads the partition now")
            return Item(self.key, error.code, error.message)
        return Item(self.key, state=state)


class ReassignAsk(Ask):
    """New replicas, or None to cancel."""

    def __init__(
        self, key: PartitionKey, pending: Pending, index: int, replicas: tuple[int, ...] | None
    ) -> None:
        super().__init__(key, pending, index)
        self._replicas = replicas

    def decide(self, state: PartitionState, brokers: Candidates, facts: TopicFacts) -> PartitionState:
        """See `reassigned` and `cancelled`."""
        wanted = self._replicas
        target = cancelled(state) if wanted is None else reassigned(state, wanted, brokers.ids())
        return settle(state, brokers, facts, target)


class ElectAsk(Ask):
    """A preferred or unclean election."""

    def __init__(
        self, key: PartitionKey, pending: Pending | None, index: int, kind: Literal["preferred", "unclean"]
    ) -> None:
        super().__init__(key, pending, index)
        self._kind = kind

    def decide(self, state: PartitionState, brokers: Candidates, facts: TopicFacts) -> PartitionState:
        """Raises what Kafka answers: 84 where none is needed, 80 or 83 where nobody can be elected."""
        if self._kind == "preferred":
            return _preferred(state, brokers, facts)
        if state.leader != NO_LEADER:
            raise ElectionNotNeededError(f"broker {state.leader} leads the partition")
        after = settle(state, brokers, msgspec.structs.replace(facts, unclean=True))
        if after.leader == NO_LEADER:
            raise EligibleLeadersNotAvailableError(f"none of the replicas {list(state.replicas)} is alive")
        return after


def _preferred(state: PartitionState, brokers: Candidates, facts: TopicFacts) -> PartitionState:
    preferred = state.replicas[0]
    if state.leader == preferred:
        raise ElectionNotNeededError(f"broker {preferred} leads the partition")
    if preferred not in state.isr or not brokers.may_lead(preferred):
        raise PreferredLeaderNotAvailableError(
            f"broker {preferred} is not in sync, or not alive, or shutting down"
        )
    return settle(state, brokers, facts, msgspec.structs.replace(state, leader=preferred))
