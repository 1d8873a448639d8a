"""Settings of a cluster: the controller keeps them, and its notices tell what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.configs import Configs, Make, names_in
from fastlog.broker.forwarding.ports import KNOWN_MS
from fastlog.broker.patience import TimeLeft
from fastlog.broker.peers.messages import SetConfigs, Settings
from fastlog.broker.topic_directory import TIMEOUT_MS
from fastlog.errors import InvalidUpdateVersionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.broker.forwarding.controller_link import ControllerLink
    from fastlog.broker.forwarding.ports import Image
    from fastlog.config import Config
    from fastlog.ports import ConfigResource, StoredConfigs

# others change the same settings at the same moment, each of them on a thread of its own here too: one succeeds in each
# round
TRIES_MAX = 100


class ClusterConfigs(Configs):
    """The Configs of a cluster. Who changes settings waits until that is known here."""

    def __init__(self, *, image: Image, controller: ControllerLink) -> None:
        self._image = image
        self._controller = controller

    @property
    def config(self) -> Config:
        """See Configs."""
        return self._image.config

    def stored(self, resource: ConfigResource) -> StoredConfigs:
        """See Configs."""
        return self._image.stored(resource)

    def names(self, kind: str) -> list[str]:
        """See Configs."""
        return names_in(self._image.settings, kind)

    def subscribe(self, changed: Callable[[str | None], None]) -> Callable[[], None]:
        """See Configs; `changed` is called on the thread that takes notices, where it may not block."""
        return self._image.subscribe_settings(changed)

    def _put(self, resource: ConfigResource, make: Make, values: dict[str, str], version: int) -> None:
        time_left = TimeLeft(TIMEOUT_MS, is_bounded=True)
        for left in reversed(range(TRIES_MAX)):
            command = SetConfigs(resource=resource, values=values, expected_version=version)
            outcome = self._controller.ask(command, timeout_ms=time_left.ms())
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
        self._image.wait_until(lambda _: self.stored(resource).version >= version, KNOWN_MS)
