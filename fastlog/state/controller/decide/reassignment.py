"""New replicas for a partition: those that come are added, and when they are in sync those that go are removed.

Kafka's PartitionReassignmentReplicas and PartitionReassignmentRevert; the end of a reassignment is `complete` in
`election`, since any change of the ISR may bring it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.errors import (
    InvalidReplicaAssignmentError,
    NoReassignmentInProgressError,
)
from fastlog.state.controller.decide.election import members_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.ports import PartitionState


def is_reassigning(state: PartitionState) -> bool:
    """Whether replicas are being added or removed."""
    return bool(state.adding or state.removing)


def reassigned(state: PartitionState, target: Sequence[int], brokers: Sequence[int]) -> PartitionState:
    """The state on its way to the replicas `target`, the preferred leader first.

    A reassignment that is going on is replaced; what it was adding and is still wanted stays on its way. Raises
    InvalidReplicaAssignmentError where `target` is empty, names a broker twice or one that is not in `brokers`.
    """
    check_target(target, brokers)
    original = [it for it in state.replicas if it not in state.adding]
    removing = tuple(it for it in state.replicas if it not in target)
    return msgspec.structs.replace(
        state,
        replicas=(*target, *removing),
        adding=tuple(it for it in target if it not in original),
        removing=removing,
    )


def check_target(target: Sequence[int], brokers: Sequence[int]) -> None:
    """Raises InvalidReplicaAssignmentError where these cannot be a partition's replicas."""
    if not target:
        raise InvalidReplicaAssignmentError("a partition needs at least one replica")
    if len(set(target)) != len(target):
        raise InvalidReplicaAssignmentError(f"the replicas {list(target)} name a broker twice")
    if unknown := sorted(set(target) - set(brokers)):
        raise InvalidReplicaAssignmentError(
            f"the replicas {list(target)} name brokers that are not there: {unknown}"
        )


def cancelled(state: PartitionState) -> PartitionState:
    """The state with the replicas of before its reassignment.

    Raises NoReassignmentInProgressError, and InvalidReplicaAssignmentError where only replicas that were being added
    are in sync or eligible: to drop them would lose what was committed. Kafka allows that where unclean election is on.
    """
    if not is_reassigning(state):
        raise NoReassignmentInProgressError("no reassignment of this partition is in progress")
    isr = [it for it in members_of(state) if it[0] not in state.adding]
    if not isr and (state.isr or not set(state.elr) - set(state.adding)):
        raise InvalidReplicaAssignmentError(
            f"only replicas that are being added have what was committed: let the reassignment to "
            f"{list(state.adding)} end, or bring the others back"
        )
    return msgspec.structs.replace(
        state,
        replicas=tuple(it for it in state.replicas if it not in state.adding),
        adding=(),
        removing=(),
        isr=tuple(it[0] for it in isr),
        isr_epochs=tuple(it[1] for it in isr),
    )
