"""The leader's side of the in-sync replicas: whom it proposes to add and to take out (KIP-497, KIP-841, KIP-903).

The controller decides. While a proposal is under way its fate is not known, so acknowledgements and the high watermark
count with the *maximal* set: who is committed, and who is proposed. One proposal at a time; one whose answer is lost is
sent again as it was, and one that was refused because our view is old counts until a newer state comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from fastlog.errors import (
    FencedLeaderEpochError,
    IneligibleReplicaError,
    InvalidRequestError,
    InvalidUpdateVersionError,
    NewLeaderElectedError,
    OperationNotAttemptedError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.ports import PartitionState

#: the proposal was not made for sure, and another may be: `Partition.handleAlterPartitionError` of Kafka
NOT_MADE = frozenset({IneligibleReplicaError.code, OperationNotAttemptedError.code})
#: our view of the partition is old or wrong: only a newer state helps
OUT_OF_DATE = frozenset(
    {
        FencedLeaderEpochError.code,
        InvalidRequestError.code,
        InvalidUpdateVersionError.code,
        NewLeaderElectedError.code,
        UnknownTopicIdError.code,
        UnknownTopicOrPartitionError.code,
    }
)


class IsrSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in milliseconds."""

    lag_ms: int = 30_000
    """`replica.lag.time.max.ms`: a follower that has not reached the log's end for so long is out of sync."""
    retry_ms: int = 1_000
    """When a proposal without an answer is sent again."""
    barred_ms: int = 1_000
    """For how long a follower is not proposed again that the controller found ineligible."""
    watchdog_ms: int = 30_000
    """When the controller is asked for the state, where a newer one was announced by a refusal and never came."""


class Follower(msgspec.Struct, frozen=True, kw_only=True):
    """What the leader knows of a follower from its fetches."""

    broker_id: int
    broker_epoch: int
    """The one that it fetches with."""
    log_end_offset: int
    """It has everything below."""
    behind_ms: int
    """How long ago it had all that the leader had then; 0 for one that has everything now."""


class Positions(msgspec.Struct, frozen=True, kw_only=True):
    """Where the leader and those who fetch from it are."""

    high_watermark: int
    epoch_start_offset: int
    """Where the log ended when this leader was elected."""
    followers: tuple[Follower, ...]
    """Those that have fetched in this epoch."""


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """AlterPartition, for one partition."""

    leader_epoch: int
    partition_epoch: int
    isr: tuple[int, ...]
    isr_epochs: tuple[int, ...]


class Propose(msgspec.Struct, frozen=True, kw_only=True):
    """Effect: send the proposal to the controller; the answer is `answered`."""

    proposal: Proposal


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """Effect: from now on acknowledgements and the high watermark count with these. Carried out before what follows."""

    partition_epoch: int
    committed: tuple[int, ...]
    maximal: tuple[int, ...]


class AskState(msgspec.Struct, frozen=True, kw_only=True):
    """Effect: ask the controller what the partition's state is; the answer is `told`."""


Effect = Propose | Count | AskState


class LeaderIsr:
    """The in-sync replicas of one partition, in one epoch of its leader. Times are monotonic, in milliseconds."""

    def __init__(
        self,
        broker_id: int,
        state: PartitionState,
        *,
        broker_epochs: Mapping[int, int],
        now_ms: int,
        settings: IsrSettings | None = None,
    ) -> None:
        """`broker_id`, this broker, leads the partition as of `state`; `broker_epochs` are those of live brokers."""
        self._broker_id = broker_id
        self._state = state
        self._epochs = dict(broker_epochs)
        self._settings = settings or IsrSettings()
        self._since_ms = now_ms
        self._proposal: Proposal | None = None
        #: when the proposal, or the question after the state, is sent again
        self._again_ms = now_ms
        #: what became of the proposal: nobody knows yet, or it was refused and a newer state is to tell
        self._stage: Literal["none", "sent", "refused"] = "none"
        #: until when a broker with that epoch is not proposed
        self._barred: dict[tuple[int, int], int] = {}

    @property
    def state(self) -> PartitionState:
        """The newest state that was told."""
        return self._state

    @property
    def maximal(self) -> tuple[int, ...]:
        """Whom acknowledgements count with, in the order of the replicas."""
        proposed = () if self._proposal is None else self._proposal.isr
        return self._in_order({*self._state.isr, *proposed})

    @property
    def is_proposing(self) -> bool:
        """Whether a proposal is under way, or was refused for a state that has not come yet."""
        return self._stage != "none"

    def began(self) -> list[Effect]:
        """The effects of having become leader."""
        return [self._count()]

    def told(self, state: PartitionState) -> list[Effect]:
        """A state was published or asked for. One that is not newer, or of another leader epoch, says nothing."""
        if state.leader_epoch != self._state.leader_epoch or state.version <= self._state.version:
            return []
        self._adopt(state)
        return [self._count()]

    def brokers(self, broker_epochs: Mapping[int, int]) -> None:
        """Other brokers are alive, or with other epochs."""
        self._epochs = dict(broker_epochs)
        self._barred = {
            key: until for key, until in self._barred.items() if self._epochs.get(key[0]) == key[1]
        }

    def looked(self, positions: Positions, now_ms: int) -> list[Effect]:
        """Time has passed, or a follower has come closer: proposes what is to change, or goes on proposing."""
        if self._stage != "none":
            return self._go_on(now_ms)
        members = self._wanted(positions, now_ms)
        # after an unclean election the same members too: that says that it has recovered
        if now_ms < self._again_ms or (members == self._members() and not self._state.recovering):
            return []
        self._proposal = Proposal(
            leader_epoch=self._state.leader_epoch,
            partition_epoch=self._state.version,
            isr=tuple(members),
            isr_epochs=tuple(members.values()),
        )
        self._stage = "sent"
        self._again_ms = now_ms + self._settings.retry_ms
        return [self._count(), Propose(proposal=self._proposal)]

    def answered(
        self, proposal: Proposal, code: int, state: PartitionState | None, now_ms: int
    ) -> list[Effect]:
        """The controller's answer: Kafka's error code, and where that is 0 the state as it is now.

        An answer to an earlier proposal says nothing but what its state does.
        """
        if code == 0 and state is not None:
            return self.told(state) or self._settled(proposal, state)
        if proposal != self._proposal or self._stage != "sent":
            return []
        if code in NOT_MADE:
            for member, epoch in self._added(proposal):
                self._barred[member, epoch] = now_ms + self._settings.barred_ms
            self._drop()
            # a member that stays may be the reason too: what would be proposed now is the same
            self._again_ms = now_ms + self._settings.retry_ms
            return [self._count()]
        if code in OUT_OF_DATE:
            self._stage = "refused"
            self._again_ms = now_ms + self._settings.watchdog_ms
        return []

    # -- decisions -------------------------------------------------------------------------------------------------

    def _wanted(self, positions: Positions, now_ms: int) -> dict[int, int]:
        """The in-sync replicas as they should be, each with its broker epoch, in the order of the replicas."""
        followers = {follower.broker_id: follower for follower in positions.followers}
        admitted = self._members()
        wanted: dict[int, int] = {}
        for replica in self._state.replicas:
            follower = followers.get(replica)
            if replica in admitted and self._stays(replica, admitted[replica], follower, now_ms):
                wanted[replica] = admitted[replica]
            elif follower is not None and self._may_join(follower, positions, now_ms):
                wanted[replica] = follower.broker_epoch
        return wanted

    def _stays(self, member: int, epoch: int, follower: Follower | None, now_ms: int) -> bool:
        if member == self._broker_id:
            return True
        if follower is None:
            # it has had since the election to fetch
            return now_ms - self._since_ms <= self._settings.lag_ms
        # one that came back with another broker epoch may have lost everything: it has to join anew
        return follower.broker_epoch == epoch and follower.behind_ms <= self._settings.lag_ms

    def _may_join(self, follower: Follower, positions: Positions, now_ms: int) -> bool:
        """Semantics row 58: it has all that may be committed, and it is the broker that is registered.

        One that would be taken out for its lag does not join: who hangs in the ISR is never behind the high watermark.
        """
        member, epoch = follower.broker_id, follower.broker_epoch
        return (
            member != self._broker_id
            and self._epochs.get(member) == epoch
            and self._barred.get((member, epoch), now_ms) <= now_ms
            and follower.behind_ms <= self._settings.lag_ms
            and follower.log_end_offset >= positions.high_watermark
            and follower.log_end_offset >= positions.epoch_start_offset
        )

    def _go_on(self, now_ms: int) -> list[Effect]:
        if now_ms < self._again_ms or self._proposal is None:
            return []
        if self._stage == "refused":
            self._again_ms = now_ms + self._settings.watchdog_ms
            return [AskState()]
        self._again_ms = now_ms + self._settings.retry_ms
        return [Propose(proposal=self._proposal)]

    # -- bookkeeping -----------------------------------------------------------------------------------------------

    def _settled(self, proposal: Proposal, state: PartitionState) -> list[Effect]:
        """The answer has the state that we know already: the proposal changed nothing, or was published before."""
        if proposal != self._proposal or state.version != self._state.version:
            return []
        self._drop()
        return [self._count()]

    def _adopt(self, state: PartitionState) -> None:
        self._state = state
        self._again_ms = self._since_ms
        # conditional on the older partition epoch, the proposal was taken with this state or never will be
        self._drop()

    def _drop(self) -> None:
        self._proposal, self._stage = None, "none"

    def _count(self) -> Count:
        return Count(
            partition_epoch=self._state.version,
            committed=self._in_order(set(self._state.isr)),
            maximal=self.maximal,
        )

    def _in_order(self, members: set[int]) -> tuple[int, ...]:
        return tuple(sorted(members, key=self._state.replicas.index))

    def _members(self) -> dict[int, int]:
        """The committed members with the broker epochs that they were admitted with, in the order of the replicas."""
        admitted = dict(zip(self._state.isr, self._state.isr_epochs, strict=True))
        return {replica: admitted[replica] for replica in self._state.replicas if replica in admitted}

    def _added(self, proposal: Proposal) -> list[tuple[int, int]]:
        admitted = self._members()
        members = zip(proposal.isr, proposal.isr_epochs, strict=True)
        return [(member, epoch) for member, epoch in members if admitted.get(member) != epoch]
