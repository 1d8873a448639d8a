"""The partitions that this broker leads: who is in sync, as `LeaderIsr` decides and the controller confirms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import KafkaError
from fastlog.events import EventLog
from fastlog.state.replica.isr import (
    AskState,
    Count,
    Follower,
    IsrSettings,
    LeaderIsr,
    Positions,
    Proposal,
    Propose,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastlog.broker.replicas.engine import ReplicaEngine
    from fastlog.ports import PartitionKey, PartitionState
    from fastlog.state.replica.isr import Effect

NO_POSITIONS = Positions(high_watermark=0, epoch_start_offset=0, followers=())


class Leaders:
    """The leaderships here, by partition. Of one thread; times are monotonic, in milliseconds."""

    def __init__(self, node_id: int, engine: ReplicaEngine, settings: IsrSettings) -> None:
        self._node_id = node_id
        self._engine = engine
        self._settings = settings
        self._log = EventLog("replicas")
        self._led: dict[PartitionKey, LeaderIsr] = {}
        self._topics: dict[PartitionKey, str] = {}
        self._keys: dict[tuple[str, int], PartitionKey] = {}
        self._epochs: Mapping[int, int] = {}
        #: a follower is about to join, a proposal is under way, or the leader has to say that it has recovered
        self._restless: set[PartitionKey] = set()
        self._proposals: list[tuple[PartitionKey, Proposal]] = []
        self._wants_state = False

    def __len__(self) -> int:
        """Number of partitions led."""
        return len(self._led)

    def state(self, key: PartitionKey) -> PartitionState | None:
        """The newest state of a partition that is led, None for another."""
        leader = self._led.get(key)
        return None if leader is None else leader.state

    @property
    def is_restless(self) -> bool:
        """Whether something is to be looked at again soon."""
        return bool(self._restless)

    # --- what is told ---

    def begin(self, key: PartitionKey, topic: str, state: PartitionState, now_ms: int) -> None:
        """This broker leads the partition as of `state`, and the engine does already."""
        leader = LeaderIsr(
            self._node_id, state, broker_epochs=self._epochs, now_ms=now_ms, settings=self._settings
        )
        self._led[key] = leader
        self._topics[key], self._keys[topic, key.partition] = topic, key
        if state.recovering:
            self._restless.add(key)
        self._carry_out(key, leader, leader.began())

    def told(self, key: PartitionKey, state: PartitionState) -> None:
        """A newer state of the same leader epoch was published."""
        leader = self._led.get(key)
        if leader is not None:
            self._carry_out(key, leader, leader.told(state))

    def drop(self, keys: Iterable[PartitionKey]) -> None:
        """Partitions are led no more, or in another epoch."""
        for key in keys:
            if self._led.pop(key, None) is not None:
                topic = self._topics.pop(key)
                # a topic of the same name may have come since
                if self._keys.get((topic, key.partition)) == key:
                    del self._keys[topic, key.partition]
                self._restless.discard(key)

    def brokers(self, broker_epochs: Mapping[int, int]) -> None:
        """Who is registered, as the controller published it."""
        self._epochs = broker_epochs
        for leader in self._led.values():
            leader.brokers(broker_epochs)

    def joinable(self, topic: str, index: int) -> None:
        """A follower has what it needs to join; `look` sees to it."""
        key = self._keys.get((topic, index))
        if key is not None:
            self._restless.add(key)

    def answered(
        self, key: PartitionKey, proposal: Proposal, code: int, state: PartitionState | None, now_ms: int
    ) -> None:
        """The controller's answer to a proposal."""
        leader = self._led.get(key)
        if leader is not None and leader.state.leader_epoch == proposal.leader_epoch:
            self._carry_out(key, leader, leader.answered(proposal, code, state, now_ms))

    # --- time ---

    def look(self, now_ms: int, *, at_all: bool) -> None:
        """Looks where the followers are, of all partitions or of those that are restless."""
        wanted = self._led.keys() if at_all else self._restless
        if not wanted:
            return
        looked = dict.fromkeys(wanted, NO_POSITIONS)
        for row in self._engine.replica_positions():
            topic, index, leader_epoch, end, high_watermark, start, followers = row
            key = self._keys.get((topic, index))
            if key in looked and self._led[key].state.leader_epoch == leader_epoch:
                looked[key] = _positions(end, high_watermark, start, followers)
        for key, positions in looked.items():
            # without positions there is no other replica, or the engine leads it no more
            leader = self._led[key]
            if positions is not NO_POSITIONS or len(leader.state.replicas) == 1:
                self._carry_out(key, leader, leader.looked(positions, now_ms))
            if self._is_at_rest(leader, positions):
                self._restless.discard(key)

    def take_proposals(self) -> list[tuple[PartitionKey, Proposal]]:
        """What is to be proposed to the controller now, together."""
        proposals, self._proposals = self._proposals, []
        return proposals

    def take_wants_state(self) -> bool:
        """Whether the controller is to be asked for what it knows."""
        wants, self._wants_state = self._wants_state, False
        return wants

    # --- the way out ---

    def _is_at_rest(self, leader: LeaderIsr, positions: Positions) -> bool:
        """Whether nobody could join who has not, and nothing is proposed."""
        state = leader.state
        if state.recovering or len(leader.maximal) > len(state.isr) or leader.is_proposing:
            return False
        outside = (it for it in positions.followers if it.broker_id not in state.isr)
        return not any(
            it.log_end_offset >= max(positions.high_watermark, positions.epoch_start_offset) for it in outside
        )

    def _carry_out(self, key: PartitionKey, leader: LeaderIsr, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Count):
                self._count(key, leader.state, effect)
            elif isinstance(effect, Propose):
                self._restless.add(key)
                self._proposals.append((key, effect.proposal))
            elif isinstance(effect, AskState):
                self._wants_state = True

    def _count(self, key: PartitionKey, state: PartitionState, count: Count) -> None:
        topic = self._topics[key]
        try:
            self._engine.set_isr(
                topic,
                key.partition,
                state.leader_epoch,
                count.committed,
                count.maximal,
                count.partition_epoch,
                held=bool(state.elr),
            )
        except KafkaError as error:
            # the next state has the engine and this agree again
            self._log.warning(
                "in-sync replicas were not counted", topic=topic, partition=key.partition, reason=str(error)
            )


def _positions(
    log_end_offset: int,
    high_watermark: int,
    epoch_start_offset: int,
    followers: Sequence[tuple[int, int, int, int, int]],
) -> Positions:
    """Of those that have fetched in this epoch; who has everything is not behind, however long nothing came."""
    return Positions(
        high_watermark=high_watermark,
        epoch_start_offset=epoch_start_offset,
        followers=tuple(
            Follower(
                broker_id=it,
                broker_epoch=broker_epoch,
                log_end_offset=end,
                behind_ms=0 if end >= log_end_offset else behind_ms,
            )
            for it, broker_epoch, end, _, behind_ms in followers
            if end >= 0
        ),
    )
