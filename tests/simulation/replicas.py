"""The replicas of a broker, led and following: the real deciding parts over a model of the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastlog.errors import (
    FencedLeaderEpochError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderOrFollowerError,
    OffsetNotAvailableError,
    OffsetOutOfRangeError,
    OutOfOrderSequenceNumberError,
    RequestTimedOutError,
    StaleBrokerEpochError,
    UnknownLeaderEpochError,
)
from fastlog.ports import PartitionKey, PartitionState
from fastlog.state.controller import effects as ef
from fastlog.state.controller import events as ev
from fastlog.state.replica import follower as fo
from fastlog.state.replica import isr as li
from tests.simulation.model_log import Leadership, Log, Parked, Record, Waiting
from tests.simulation.network import CLIENTS
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.broker import Broker

LAG_MS = 3_000
FETCH_WAIT_MS = 500
FETCH_TIMEOUT_MS = 1_500
PRODUCE_TIMEOUT_MS = 2_000
#: small, so that catching up takes a while
FETCH_RECORDS = 3


class Replicas(Process):
    """The replicas of one process."""

    # -- roles -----------------------------------------------------------------------------------------------------

    def log(self, key: PartitionKey) -> Log:
        """The replica here, made where there is none."""
        return self.disk.logs.setdefault(key, Log())

    def _is_mine(self, state: PartitionState) -> bool:
        """Whether the state means this process, and not one of the same id before it (KIP-380)."""
        if state.leader != self.id or self.registration is None:
            return False
        return state.isr_epochs[state.isr.index(self.id)] == self.registration.broker_epoch

    def _become(self, key: PartitionKey, state: PartitionState) -> None:
        known = self.states.get(key)
        if self.id not in state.replicas or (known is not None and state.version <= known.version):
            return
        if known is not None and state.leader_epoch == known.leader_epoch:
            self.states[key] = state
            if key in self.isrs:
                self._count(key, self.isrs[key].told(state))
            elif state.leader == self.id and self._is_mine(state):
                self._lead(key, state)
            return
        self._step_down(key)
        self.states[key] = state
        if self._is_mine(state):
            self._lead(key, state)
        elif state.leader not in (-1, self.id):
            self._follow(key, state)

    def _step_down(self, key: PartitionKey) -> None:
        self.led.pop(key, None)
        self.isrs.pop(key, None)
        for fetcher in self._fetchers.values():
            fetcher.leave(key)
        self._answer_waiting(key)
        self._answer_parked(key)

    def _lead(self, key: PartitionKey, state: PartitionState) -> None:
        log = self.log(key)
        assert self.registration is not None
        is_current = self._store.states[key].leader_epoch == state.leader_epoch and not state.recovering
        process = (self.id, self.registration.broker_epoch)
        self._judge.leads(key, state.leader_epoch, process, log, is_current=is_current)
        log.start_epoch(state.leader_epoch)
        self.led[key] = Leadership(
            epoch=state.leader_epoch,
            start_offset=log.end,
            committed=(),
            maximal=(),
            min_isr=self._bugs.min_isr,
        )
        self.isrs[key] = li.LeaderIsr(
            self.id,
            state,
            broker_epochs=self._epochs,
            now_ms=self.clock_ms,
            settings=self._bugs.isr_settings(LAG_MS),
        )
        self._count(key, self.isrs[key].began())

    def _follow(self, key: PartitionKey, state: PartitionState) -> None:
        log = self.log(key)
        if self._bugs.truncates_to_high_watermark:
            log.truncate(log.high_watermark)
        self._fetching.pop(key, None)
        fetcher = self._fetchers.setdefault(state.leader, self._bugs.fetcher())
        fetcher.follow(key, state.leader_epoch, self._where(log))
        self._fetch(state.leader)

    @staticmethod
    def _where(log: Log) -> fo.Where:
        return fo.Where(
            end_offset=log.end, last_epoch=log.last_epoch, start_offset=0, high_watermark=log.high_watermark
        )

    # -- following -------------------------------------------------------------------------------------------------

    def _fetch(self, leader: int) -> None:
        """Asks for every partition that is not asked for already."""
        registration = self.registration
        if registration is None:
            return
        for wanted in self._fetchers[leader].wanted(self.clock_ms):
            if wanted.key not in self._fetching:
                self._fetch_one(leader, wanted, registration.broker_epoch)

    def _fetch_one(self, leader: int, wanted: fo.Wanted, broker_epoch: int) -> None:
        self._fetch_number += 1
        number = self._fetching[wanted.key] = self._fetch_number
        told = self.log(wanted.key).high_watermark

        def asked(peer: Broker) -> None:
            def answer(found: Any) -> None:
                peer._back(self, lambda: self._fetched(leader, number, wanted, found))

            peer._serve_fetch(wanted, self.id, broker_epoch, told, answer)

        self._to(leader, asked)
        self.later(FETCH_TIMEOUT_MS, lambda: self._fetch_lost(leader, number, wanted.key))

    def _fetch_lost(self, leader: int, number: int, key: PartitionKey) -> None:
        if self._fetching.get(key) == number:
            del self._fetching[key]
            self._fetch(leader)

    def _fetched(self, leader: int, number: int, wanted: fo.Wanted, answer: Any) -> None:
        if self._fetching.get(wanted.key) != number:
            return
        del self._fetching[wanted.key]
        outcome = self._take_in(wanted, answer)
        if outcome is not None:
            outcomes = [(wanted.key, wanted.leader_epoch, outcome)]
            for effect in self._fetchers[leader].fetched(outcomes, self.clock_ms):
                self._repair(leader, effect)
        self._fetch(leader)

    def _take_in(self, wanted: fo.Wanted, answer: Any) -> fo.Outcome | None:
        """What the engine does with an answer; None where the partition has moved on."""
        key, log = wanted.key, self.log(wanted.key)
        state = self.states.get(key)
        if state is None or state.leader_epoch != wanted.leader_epoch or log.end != wanted.fetch_offset:
            return None
        if isinstance(answer, int):
            return fo.Failed(code=answer)
        records, high_watermark, diverging = answer
        if diverging is not None:
            own = log.end_offset_for(diverging[0])
            return fo.Diverged(
                epoch=diverging[0], end_offset=diverging[1], own_epoch=own[0], own_end_offset=own[1]
            )
        since = log.end
        log.append(records)
        log.high_watermark = max(log.high_watermark, min(high_watermark, log.end))
        self._judge.follows(key, log, self.id, since)
        return fo.Appended(where=self._where(log))

    def _repair(self, leader: int, effect: fo.Effect) -> None:
        log = self.log(effect.key)
        if isinstance(effect, fo.AskOffsets):
            self._ask_offsets(leader, effect)
            return
        self._judge.require(
            not effect.below_high_watermark,
            f"lost: {self.id} is to cut {effect.key.partition} to {effect.offset}, below its high watermark "
            f"{log.high_watermark}",
        )
        log.truncate(effect.offset)
        self._fetchers[leader].moved(effect.key, effect.leader_epoch, self._where(log))

    def _ask_offsets(self, leader: int, effect: fo.AskOffsets) -> None:
        def asked(peer: Broker) -> None:
            leadership = peer.led.get(effect.key)
            known = leadership is not None and leadership.epoch == effect.leader_epoch
            offsets = (0, peer.log(effect.key).end) if known else None
            peer._back(self, lambda: self._offsets_told(leader, effect, offsets))

        self._to(leader, asked)
        self.later(FETCH_TIMEOUT_MS, lambda: self._offsets_told(leader, effect, None))

    def _offsets_told(self, leader: int, effect: fo.AskOffsets, offsets: tuple[int, int] | None) -> None:
        found = self._fetchers[leader].leader_offsets(effect.key, effect.leader_epoch, offsets, self.clock_ms)
        for it in found:
            self._repair(leader, it)

    # -- leading ---------------------------------------------------------------------------------------------------

    def _serve_fetch(
        self, wanted: fo.Wanted, broker: int, broker_epoch: int, told: int, answer: Callable[[Any], None]
    ) -> None:
        key, now_ms = wanted.key, self.clock_ms
        leadership = self.led.get(key)
        if leadership is None:
            answer(NotLeaderOrFollowerError.code)
            return
        if wanted.leader_epoch != leadership.epoch:
            newer = wanted.leader_epoch > leadership.epoch
            answer((UnknownLeaderEpochError if newer else FencedLeaderEpochError).code)
            return
        if self._epochs.get(broker) != broker_epoch:
            answer(StaleBrokerEpochError.code)
            return
        log, offset = self.log(key), wanted.fetch_offset
        if offset > log.end:
            answer(OffsetOutOfRangeError.code)
            return
        if wanted.last_fetched_epoch >= 0:
            epoch, end = log.end_offset_for(wanted.last_fetched_epoch)
            if epoch < 0:
                answer(OffsetOutOfRangeError.code)
                return
            if epoch < wanted.last_fetched_epoch or end < offset:
                answer(([], 0, (epoch, end)))
                return
        leadership.note(broker, broker_epoch, offset, log.end, now_ms)
        self._advance(key)
        self._look(key)
        if offset < log.end or log.high_watermark > told:
            answer((log.records[offset : offset + FETCH_RECORDS], log.high_watermark, None))
            return
        parked = Parked(key, leadership.epoch, offset, told, answer)
        self._parked.append(parked)
        self.later(FETCH_WAIT_MS, lambda: self._unpark(parked))

    def _unpark(self, parked: Parked) -> None:
        if parked not in self._parked:
            return
        self._parked.remove(parked)
        leadership = self.led.get(parked.key)
        if leadership is None or leadership.epoch != parked.epoch:
            parked.answer(NotLeaderOrFollowerError.code)
            return
        log = self.log(parked.key)
        parked.answer((log.records[parked.offset : parked.offset + FETCH_RECORDS], log.high_watermark, None))

    def _answer_parked(self, key: PartitionKey) -> None:
        log = self.log(key)
        for parked in [it for it in self._parked if it.key == key]:
            leads = key in self.led and self.led[key].epoch == parked.epoch
            if not leads or parked.offset < log.end or parked.told_high_watermark < log.high_watermark:
                self._unpark(parked)

    def _count(self, key: PartitionKey, effects: list[li.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, li.Count):
                self.led[key].committed, self.led[key].maximal = effect.committed, effect.maximal
                self._advance(key)
            elif isinstance(effect, li.Propose):
                self._propose(key, effect.proposal)
            else:
                self._ask_snapshot()

    def _propose(self, key: PartitionKey, proposal: li.Proposal) -> None:
        if self._controller_at is None or self.registration is None:
            return
        epoch = self.registration.broker_epoch
        self.proposed(key, proposal)
        self.on_proposal(self.id, proposal)
        proposed = ev.Proposed(
            key, proposal.leader_epoch, proposal.partition_epoch, proposal.isr, proposal.isr_epochs
        )

        def asked(peer: Broker) -> None:
            def answer(reply: ef.Reply) -> None:
                item = reply.items[0] if reply.items else ef.Item(key, code=reply.code)
                code = reply.code or item.code
                peer._back(self, lambda: self._proposal_answered(key, proposal, code, item.state))

            peer._decide(
                ev.IsrAsked(token=answer, broker_id=self.id, broker_epoch=epoch, proposals=(proposed,))
            )

        self._to(self._controller_at, asked)

    def _proposal_answered(
        self, key: PartitionKey, proposal: li.Proposal, code: int, state: PartitionState | None
    ) -> None:
        leader = self.isrs.get(key)
        if leader is None or proposal.leader_epoch != self.led[key].epoch:
            return
        if state is not None and state.version > self.states[key].version:
            if state.leader_epoch != proposal.leader_epoch:
                return
            self.states[key] = state
        self._count(key, leader.answered(proposal, code, state, self.clock_ms))

    def _look(self, key: PartitionKey) -> None:
        leadership, now_ms = self.led[key], self.clock_ms
        followers = tuple(
            li.Follower(
                broker_id=broker,
                broker_epoch=it.broker_epoch,
                log_end_offset=it.log_end_offset,
                behind_ms=self._bugs.behind_ms(
                    now_ms - it.caught_up_ms, is_member=broker in self.states[key].isr
                ),
            )
            for broker, it in sorted(leadership.positions.items())
        )
        positions = li.Positions(
            high_watermark=self.log(key).high_watermark,
            epoch_start_offset=self._bugs.epoch_start(leadership.start_offset),
            followers=followers,
        )
        self._count(key, self.isrs[key].looked(positions, now_ms))

    def _advance(self, key: PartitionKey) -> None:
        leadership, log = self.led[key], self.log(key)
        high_watermark = leadership.committed_below(self.id, log.end)
        if self._bugs.acknowledges_alone(self.lease, self.clock_ms):
            high_watermark = log.end
        elif leadership.maximal == (self.id,) and not self._holds_lease():
            # alone in its ISR it has nobody to tell it that it is not the leader any more
            high_watermark = None
        if high_watermark is not None and high_watermark > log.high_watermark:
            log.high_watermark = high_watermark
            self._judge.exposes(key, log, self.id)
            self._answer_parked(key)
        self._answer_waiting(key)

    def _holds_lease(self) -> bool:
        return self.lease is not None and self.lease.holds(self.clock_ms)

    # -- clients ---------------------------------------------------------------------------------------------------

    def produce(self, key: PartitionKey, values: list[int], answer: Callable[[int, int], None]) -> None:
        """acks=all of an idempotent producer: `answer` gets Kafka's error code and the first offset."""
        leadership = self.led.get(key)
        if leadership is None:
            answer(NotLeaderOrFollowerError.code, -1)
            return
        if not leadership.has_enough():
            answer(NotEnoughReplicasError.code, -1)
            return
        log = self.log(key)
        base = None if self._bugs.forgets_producers else log.offsets.get(values[0])
        if base is None:
            if values[0] and values[0] - 1 not in log.offsets:
                # a producer gives up on this error: who may not be the leader any more must not say so
                error = OutOfOrderSequenceNumberError if self._holds_lease() else NotLeaderOrFollowerError
                answer(error.code, -1)
                return
            base = log.end
            log.append([(leadership.epoch, value) for value in values])
            self._answer_parked(key)
        waiting = Waiting(key, leadership.epoch, base + len(values), base, answer)
        self._waiting.append(waiting)
        self.later(PRODUCE_TIMEOUT_MS, lambda: self._produce_over(waiting))
        self._advance(key)

    def _produce_over(self, waiting: Waiting) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            waiting.answer(RequestTimedOutError.code, -1)

    def _answer_waiting(self, key: PartitionKey) -> None:
        leadership, log = self.led.get(key), self.log(key)
        for waiting in [it for it in self._waiting if it.key == key]:
            if leadership is None or leadership.epoch != waiting.epoch:
                code = NotLeaderOrFollowerError.code
            elif log.high_watermark < waiting.end:
                continue
            else:
                code = 0 if leadership.has_enough() else NotEnoughReplicasAfterAppendError.code
            self._waiting.remove(waiting)
            waiting.answer(code, waiting.offset)

    def read(self, key: PartitionKey, offset: int) -> tuple[int, int, list[Record]]:
        """A consumer's fetch with the end of the log: error code, end, records."""
        leadership, log = self.led.get(key), self.log(key)
        if leadership is None or not self._holds_lease():
            return NotLeaderOrFollowerError.code, -1, []
        if log.high_watermark < leadership.start_offset:
            return OffsetNotAvailableError.code, -1, []
        return 0, log.high_watermark, log.records[offset : min(log.high_watermark, offset + 20)]

    def reply_to_clients(self, deliver: Callable[[], None]) -> None:
        """Sends an answer to a client."""
        self._network.send(self.id, CLIENTS, deliver)
