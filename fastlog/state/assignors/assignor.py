"""What all assignors have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlog.state.assignors.consumer_protocol import Subscription
    from fastlog.state.assignors.order import Partition

    #: the number of partitions of each topic that exists
    Counts = Mapping[str, int]
    #: by member id
    Subscriptions = Mapping[str, Subscription]
    Assignment = dict[str, list[Partition]]
else:
    Counts = Subscriptions = Assignment = dict


class Assignor(Protocol):
    """Decides over the partitions of a group. Without state: what it remembers travels in the subscriptions."""

    @property
    def name(self) -> str:
        """What members agree on."""

    @property
    def cooperative(self) -> bool:
        """Whether members keep their partitions while they join (KIP-429)."""

    def user_data(self, owned: Sequence[Partition], generation: int) -> bytes | None:
        """What a member adds to its subscription: it was last given `owned` in `generation` (-1: never)."""

    def assign(self, counts: Counts, subscriptions: Subscriptions) -> Assignment:
        """The partitions of every member; topics that are not in `counts` are passed over."""
