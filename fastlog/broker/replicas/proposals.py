"""Proposals of in-sync replicas on their way to the controller: those of one moment together (AlterPartition)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.peers.ports import REPLICATION
from fastlog.state.controller.effects import Reply
from fastlog.state.controller.events import IsrAsked, Proposed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.broker.peers.messages import Answer
    from fastlog.broker.peers.ports import Peers
    from fastlog.broker.replicas.settings import ReplicaSettings
    from fastlog.ports import PartitionKey, PartitionState
    from fastlog.state.replica.isr import Proposal

    Answered = tuple[PartitionKey, Proposal, int, PartitionState | None]


class Proposals:
    """Sends proposals and deals the answers out, on the thread that `put` hands over to."""

    def __init__(
        self, node_id: int, peers: Peers, put: Callable[..., None], settings: ReplicaSettings
    ) -> None:
        self._node_id = node_id
        self._peers = peers
        self._put = put
        self._timeout_ms = settings.proposal_timeout_ms
        self.count = 0
        """How many were sent."""

    def send(
        self,
        controller_id: int,
        broker_epoch: int,
        proposals: Sequence[tuple[PartitionKey, Proposal]],
        answered: Callable[[Sequence[Answered]], None],
    ) -> None:
        """Sends them to the controller, if one is known; one whose answer is lost is proposed again by its leader."""
        if controller_id < 0:
            return
        self.count += len(proposals)
        command = IsrAsked(
            token=None,
            broker_id=self._node_id,
            broker_epoch=broker_epoch,
            proposals=tuple(
                Proposed(key, it.leader_epoch, it.partition_epoch, it.isr, it.isr_epochs)
                for key, it in proposals
            ),
        )

        def hand_over(answer: Answer) -> None:
            reply = answer.body if isinstance(answer.body, Reply) else None
            code = answer.code or (reply.code if reply is not None else 0)
            items = reply.items if reply is not None else ()
            if code:
                dealt: list[Answered] = [(key, it, code, None) for key, it in proposals]
            else:
                dealt = [
                    (key, it, item.code, item.state)
                    for (key, it), item in zip(proposals, items, strict=False)
                    if item.key == key
                ]
            self._put(answered, dealt)

        self._peers.ask(controller_id, command, hand_over, timeout_ms=self._timeout_ms, lane=REPLICATION)
