"""Leaders and replicas of a cluster's partitions, which the controller decides on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fastlog.broker.placement import check_factors, found, reassigning
from fastlog.errors import KafkaError, UnknownServerError, error_for
from fastlog.ports import PartitionKey
from fastlog.state.controller.effects import Item, Reply
from fastlog.state.controller.events import ElectAsked, ReassignAsked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlog.broker.forwarding.controller_link import ControllerLink
    from fastlog.broker.forwarding.ports import Image
    from fastlog.broker.ports import Place
    from fastlog.broker.topic_directory import TopicDirectory
    from fastlog.ports import PartitionState, Registration


class ClusterBrokers:
    """The Brokers of a cluster."""

    def __init__(self, image: Image, node_id: int) -> None:
        self._image = image
        self._node_id = node_id

    @property
    def controller_id(self) -> int:
        """See Brokers."""
        return self._image.controller_id

    @property
    def position(self) -> tuple[int, int]:
        """See Brokers."""
        return self._image.position

    def registration(self, broker_id: int) -> Registration | None:
        """See Brokers."""
        return self._image.brokers.get(broker_id)

    def ids(self) -> Sequence[int]:
        """See Brokers."""
        return sorted({*self._image.brokers, self._node_id})


class ClusterPlacement:
    """The Placement of a cluster."""

    def __init__(self, *, topics: TopicDirectory, controller: ControllerLink) -> None:
        self._topics = topics
        self._controller = controller

    def elect(
        self, kind: Literal["preferred", "unclean"], places: Sequence[Place] | None, *, timeout_ms: int
    ) -> dict[Place, KafkaError | None]:
        """See Placement."""
        keys, errors = (None, {}) if places is None else self._keys(places)
        if keys is not None and not keys:
            return errors
        command = ElectAsked(token=None, kind=kind, keys=None if keys is None else tuple(keys.values()))
        return errors | self._ask(command, timeout_ms)

    def reassign(
        self, targets: Mapping[Place, tuple[int, ...] | None], *, keep_factor: bool, timeout_ms: int
    ) -> dict[Place, KafkaError | None]:
        """See Placement."""
        keys, errors = self._keys(list(targets))
        if keep_factor:
            errors |= check_factors(self._topics, {place: targets[place] for place in keys})
        wanted = tuple((key, targets[place]) for place, key in keys.items() if place not in errors)
        if not wanted:
            return errors
        return errors | self._ask(ReassignAsked(token=None, targets=wanted), timeout_ms)

    def reassigning(self, places: Sequence[Place] | None) -> dict[Place, PartitionState]:
        """See Placement; as it is known here."""
        return reassigning(self._topics, places)

    def _keys(
        self, places: Sequence[Place]
    ) -> tuple[dict[Place, PartitionKey], dict[Place, KafkaError | None]]:
        states, errors = found(self._topics, places)
        return {
            (name, partition): PartitionKey(self._topics.named(name).topic_id, partition)
            for name, partition in states
        }, errors

    def _ask(self, command: object, timeout_ms: int) -> dict[Place, KafkaError | None]:
        outcome = self._controller.ask(command, timeout_ms=timeout_ms)
        if outcome.error is not None:
            raise outcome.error
        if not isinstance(outcome.answer.body, Reply):
            raise UnknownServerError("the controller answered without saying what became of the partitions")
        return dict(self._named(item) for item in outcome.answer.body.items)

    def _named(self, item: Item) -> tuple[Place, KafkaError | None]:
        try:
            name = self._topics.identified(item.key.topic_id).name
        except KafkaError:
            # it was deleted meanwhile, or is not known here yet
            name = str(item.key.topic_id)
        return (name, item.key.partition), error_for(item.code, item.message) if item.code else None
