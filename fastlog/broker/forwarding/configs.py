"""Settings of a cluster: the controller keeps them, and its notices tell what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.configs import Configs, Make
from fastlog.broker.peers.messages import SetConfigs, Settings
from fastlog.broker.ports import TIMEOUT_MS
from fastlog.errors import InvalidUpdateVersionError
from fastlog.ports import ConfigResource, StoredConfigs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlog.broker.forwarding.controller_link import ControllerLink
    from fastlog.broker.forwarding.image import ClusterImage
    from fastlog.config import Config

# somebody else changes the same settings at the same moment
TRIES_MAX = 5


class ClusterConfigs(Configs):
    """The Configs of a cluster. Changed by notices only, on their thread; who changes settings waits for the notice."""

    def __init__(
        self, static: Config, *, node_id: int, image: ClusterImage, controller: ControllerLink
    ) -> None:
        super().__init__(static, _Empty(), node_id)
        self._image = image
        self._controller = controller

    def told(self, settings: Sequence[Settings]) -> None:
        """Settings that were changed, or came with a new topic."""
        for each in settings:
            stored = StoredConfigs(each.values, each.version)
            if stored != self.stored(each.resource):
                self._take(each.resource, stored)
        self._image.tell()

    def told_all(self, settings: Sequence[Settings]) -> None:
        """All that there are: what is not among them is gone."""
        there = {each.resource for each in settings}
        self._stored = {resource: it for resource, it in self._stored.items() if resource in there}
        self.told(settings)

    def _put(self, resource: ConfigResource, make: Make, values: dict[str, str], version: int) -> None:
        for left in reversed(range(TRIES_MAX)):
            command = SetConfigs(resource=resource, values=values, expected_version=version)
            outcome = self._controller.ask(command, timeout_ms=TIMEOUT_MS)
            if outcome.error is None:
                self._await(resource, version + 1)
                return
            now = outcome.answer.body
            is_old = isinstance(outcome.error, InvalidUpdateVersionError) and isinstance(now, Settings)
            if not is_old or not left:
                raise outcome.error
            if outcome.is_uncertain and now.version == version + 1 and now.values == values:
                # an earlier attempt, whose answer was lost
                return
            version, values = now.version, make(now.values)
            self.check(resource, {key: it for key, it in values.items() if now.values.get(key) != it})
            if values == now.values:
                return

    def _await(self, resource: ConfigResource, version: int) -> None:
        self._image.wait(lambda: self.stored(resource).version >= version)


class _Empty:
    """What a broker knows before it was told anything."""

    def configs(self) -> dict[ConfigResource, StoredConfigs]:
        """Nothing."""
        return {}

    def put_configs(self, resource: ConfigResource, values: Mapping[str, str], expected_version: int) -> int:
        """Is never asked."""
        raise NotImplementedError
