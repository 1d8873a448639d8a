"""Whether a leader may have the in-sync replicas that it proposes; AlterPartition (56).

The order of the checks is Kafka's (ReplicationControlManager.validateAlterPartitionData). Two differences: a repeated
proposal that is what stands is answered with it whatever partition epoch it names, since its first answer was lost; and
a leader that is shutting down may let others in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.errors import (
    FencedLeaderEpochError,
    IneligibleReplicaError,
    InvalidRequestError,
    InvalidUpdateVersionError,
    NotControllerError,
)
from fastlog.state.controller.decide.election import members_of

if TYPE_CHECKING:
    from fastlog.ports import PartitionState
    from fastlog.state.controller.decide.election import Candidates
    from fastlog.state.controller.events import Proposed


def altered(state: PartitionState, broker: int, proposed: Proposed, brokers: Candidates) -> PartitionState:
    """The state with the members that its leader proposes; an equal one where they are what stands.

    Raises the KafkaError that the leader is answered with. `broker` has its present broker epoch.
    """
    if proposed.leader_epoch > state.leader_epoch or proposed.partition_epoch > state.version:
        # whoever knows more than this controller has heard from a later one
        raise NotControllerError("the partition is known with a later epoch than this controller has written")
    if proposed.leader_epoch < state.leader_epoch:
        raise FencedLeaderEpochError(f"the leader epoch is {state.leader_epoch}, not {proposed.leader_epoch}")
    if broker != state.leader:
        raise InvalidRequestError(f"the leader is broker {state.leader}, not {broker}")
    members = tuple(zip(proposed.isr, proposed.isr_epochs, strict=False))
    if sorted(members) == sorted(members_of(state)):
        # unless it says that it has recovered from an unclean election
        return msgspec.structs.replace(state, recovering=False) if state.recovering else state
    if proposed.partition_epoch < state.version:
        raise InvalidUpdateVersionError(
            f"the partition epoch is {state.version}, not {proposed.partition_epoch}"
        )
    _check_members(state, proposed, brokers)
    return msgspec.structs.replace(state, isr=proposed.isr, isr_epochs=proposed.isr_epochs, recovering=False)


def _check_members(state: PartitionState, proposed: Proposed, brokers: Candidates) -> None:
    isr = proposed.isr
    if (
        len(set(isr)) != len(isr)
        or len(isr) != len(proposed.isr_epochs)
        or not set(isr) <= set(state.replicas)
    ):
        raise InvalidRequestError(
            f"{list(isr)} are not replicas of {list(state.replicas)}, each once, with an epoch"
        )
    if state.leader not in isr:
        raise InvalidRequestError(f"{list(isr)} lacks the leader, broker {state.leader}")
    ineligible = [
        it
        for it, epoch in zip(isr, proposed.isr_epochs, strict=True)
        # a leader that is leaving may still let others in: that is how its partition gets another leader
        if not brokers.may_join(it, epoch) and not (it == state.leader and brokers.is_registered(it, epoch))
    ]
    if ineligible:
        raise IneligibleReplicaError(
            f"brokers {ineligible} are not registered with that epoch, or are shutting down"
        )
