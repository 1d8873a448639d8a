"""Partitions of which nobody is left who surely has all that was committed: the best log among them is what remains.

That is every in-sync replica lost to a power cut, or the only one killed. The rule is to wait for all of them, ask
where their logs end, and take the largest (last epoch, log end offset). Replicas that were not in sync are asked too,
and win where they plainly have more: a longer log of the same last epoch, records of the last leadership where the
others lost theirs, or any log where the others were wiped.

What is below a log's start was committed before it was deleted, so a log that ends there lacks something, whatever its
last epoch. A log of which all was deleted has no last epoch, and has everything up to its end all the same.

Any other later last epoch proves nothing: a leader may commit records of former epochs before it has any of its own, so
an uncommitted tail that a former leader left behind can look newer than what was committed (Raft, figure 8). Behind the
last leader's records there is no later leader: who has some has all that was committed before them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fastlog.state.controller.decide.election import NO_LEADER
from fastlog.state.controller.effects import AskLogEnds, Effect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlog.ports import PartitionKey, PartitionState
    from fastlog.state.controller.brokers import Brokers
    from fastlog.state.controller.decide.election import View
    from fastlog.state.controller.events import LogEndsTold


class LogEndAt(NamedTuple):
    """What a broker tells of a log; the larger of the first two is the better log."""

    last_epoch: int
    """-1 where there is no record."""
    end: int
    start: int = 0


class Question(msgspec.Struct):
    """What was asked about one partition, and answered."""

    asked_ms: int
    asked: dict[int, int] = {}
    """Broker epoch by broker."""
    told: dict[int, LogEndAt] = {}
    """By broker, of those in `asked`."""


def is_stuck(state: PartitionState) -> bool:
    """Whether only a comparison of logs can give the partition a leader."""
    return state.leader == NO_LEADER and not state.isr and not state.elr


def who_must_answer(state: PartitionState) -> tuple[int, ...]:
    """Those of which one must have all that was committed and was not lost; all replicas where that is not known."""
    return state.last_known_elr or state.replicas


def best(state: PartitionState, told: Mapping[int, LogEndAt]) -> int | None:
    """The replica to elect, None while that is not certain."""
    sure = who_must_answer(state)
    if not set(sure) <= told.keys():
        return None
    # the first in the order of assignment, of equal ones
    winner = _longest([it for it in state.replicas if it in sure], told)
    others = [it for it in state.replicas if it in told and it not in sure]
    if told[winner].end == 0:
        # wiped: a replica that is away may have what this one had
        everybody = set(state.replicas) <= told.keys()
        winner = _longest([winner, *others], told)
        return winner if told[winner].end or everybody else None
    # it went with the step of the epoch that left the partition without a leader
    last_leadership = state.leader_epoch - 1
    comparable = (it for it in others if told[it].last_epoch in (told[winner].last_epoch, last_leadership))
    return _longest([winner, *comparable], told)


def _longest(brokers: Sequence[int], told: Mapping[int, LogEndAt]) -> int:
    """The best log of these, none of which may end before another starts."""
    start = max(told[it].start for it in brokers)
    return max((it for it in brokers if told[it].end >= start), key=lambda it: told[it][:2])


class LogEnds:
    """What is asked and told of stuck partitions. An answer counts while its broker is the same process."""

    def __init__(self, wait_ms: int) -> None:
        self._wait_ms = wait_ms
        self._questions: dict[PartitionKey, Question] = {}
        self._to_ask: dict[int, set[PartitionKey]] = {}

    def forget(self, key: PartitionKey) -> None:
        """The partition is not stuck any more."""
        self._questions.pop(key, None)

    def told(self, event: LogEndsTold) -> list[PartitionKey]:
        """Takes in answers, and answers about which partitions."""
        found = []
        for end in event.ends:
            question = self._questions.get(end.key)
            if question is not None and question.asked.get(event.broker_id) == event.broker_epoch:
                question.told[event.broker_id] = LogEndAt(
                    end.last_epoch, end.log_end_offset, end.log_start_offset
                )
                found.append(end.key)
        return found

    def decide(self, key: PartitionKey, state: PartitionState, brokers: View, now_ms: int) -> int | None:
        """The replica to elect, or None; has those asked that were not yet."""
        here = [it for it in state.replicas if brokers.may_lead(it)]
        if not set(who_must_answer(state)) <= set(here):
            self.forget(key)
            return None
        question = self._questions.setdefault(key, Question(asked_ms=now_ms))
        for broker, epoch in list(question.asked.items()):
            if broker not in here or brokers.epoch_of(broker) != epoch:
                del question.asked[broker]
                question.told.pop(broker, None)
        for broker in here:
            if broker not in question.asked:
                question.asked[broker] = brokers.epoch_of(broker)
                self._to_ask.setdefault(broker, set()).add(key)
        everybody = set(question.told) >= set(question.asked)
        if not everybody and now_ms - question.asked_ms < self._wait_ms:
            return None
        return best(state, question.told)

    def ask_again(self) -> list[PartitionKey]:
        """Has those asked again that have not answered, with the next `decide` of each of these partitions."""
        for question in self._questions.values():
            question.asked = {it: epoch for it, epoch in question.asked.items() if it in question.told}
        return sorted(self._questions)

    def effects(self, brokers: Brokers) -> list[Effect]:
        """The questions that came up."""
        found: list[Effect] = [
            AskLogEnds(broker_id=it, broker_epoch=brokers.epoch_of(it), keys=tuple(sorted(keys)))
            for it, keys in sorted(self._to_ask.items())
        ]
        self._to_ask = {}
        return found
