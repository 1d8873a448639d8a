"""What forwarding asks of what is known of the cluster; `fastlog.broker.replicas` keeps the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastlog.broker.ports import Publisher
    from fastlog.config import Config
    from fastlog.ports import ConfigResource, Registration, StoredConfigs

#: how long a change that the controller has made may take to be known here; a lost notice is asked for after 1 s
KNOWN_MS = 3_000


class Image(Protocol):
    """The cluster as this broker was told; read from any thread."""

    @property
    def config(self) -> Config:
        """This broker's settings, by layer."""
        ...

    @property
    def brokers(self) -> Mapping[int, Registration]:
        """The live brokers, by id."""
        ...

    @property
    def controller_id(self) -> int:
        """Who told what is known, -1 for nobody."""
        ...

    @property
    def position(self) -> tuple[int, int]:
        """In which epoch, and the number of the last that was told in it."""
        ...

    @property
    def settings(self) -> Mapping[ConfigResource, StoredConfigs]:
        """Everything that is set, by resource."""
        ...

    def stored(self, resource: ConfigResource) -> StoredConfigs:
        """What was set for `resource` itself."""
        ...

    def wait_until(self, reached: Callable[[Any], bool], timeout_ms: int) -> bool:
        """Blocks until `reached`, which is called after each change; whether it is so in time."""
        ...

    def subscribe(self, changed: Publisher) -> Callable[[], None]:
        """Has `changed` told of topics, first of all that there are; returns what ends that."""
        ...

    def subscribe_settings(self, changed: Callable[[str | None], None]) -> Callable[[], None]:
        """Has `changed` called after settings changed, with a topic's name or None; returns what ends that."""
        ...
