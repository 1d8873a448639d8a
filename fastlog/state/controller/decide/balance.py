"""Which leaders are to be given back to the replicas that the assignment prefers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state.controller.decide.reassignment import is_reassigning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.ports import PartitionKey, PartitionState
    from fastlog.state.controller.decide.election import View


def imbalanced(states: Mapping[PartitionKey, PartitionState], view: View, percent: int) -> list[PartitionKey]:
    """The partitions to move, of the brokers that lead too few of those that prefer them.

    Kafka's `leader.imbalance.per.broker.percentage`: more than so many per cent of a broker's preferred partitions are
    led by others. Left alone are those whose preferred replica is not in sync, and those being reassigned.
    """
    preferred: dict[int, int] = {}
    elsewhere: dict[int, list[PartitionKey]] = {}
    for key, state in states.items():
        broker = state.replicas[0]
        preferred[broker] = preferred.get(broker, 0) + 1
        if state.leader != broker:
            elsewhere.setdefault(broker, []).append(key)
    return sorted(
        key
        for broker, keys in elsewhere.items()
        if len(keys) * 100 > percent * preferred[broker] and view.may_lead(broker)
        for key in keys
        if broker in states[key].isr and not is_reassigning(states[key])
    )
