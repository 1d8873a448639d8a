"""What a broker of a cluster was told: topics, settings, brokers; for whoever asks, and for who waits for a change."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fastlog.broker.topic_directory import TopicDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastlog.ports import Registration, Topic

#: how long a change that the controller has made may take to be known here
KNOWN_SECONDS = 1.0


class ClusterImage:
    """Read from any thread, changed on the one that takes the controller's notices."""

    def __init__(self, broker_id: int) -> None:
        self._broker_id = broker_id
        self.topics = TopicDirectory()
        self._brokers: Mapping[int, Registration] = {}
        self._controller_id = -1
        self._changed = threading.Condition()

    # --- Brokers ---

    @property
    def controller_id(self) -> int:
        """See Brokers."""
        return self._controller_id

    def registration(self, broker_id: int) -> Registration | None:
        """See Brokers."""
        return self._brokers.get(broker_id)

    def ids(self) -> Sequence[int]:
        """See Brokers."""
        return sorted({*self._brokers, self._broker_id})

    def others(self) -> list[Registration]:
        """The registrations of all other live brokers, sorted by id."""
        return [it for key, it in sorted(self._brokers.items()) if key != self._broker_id]

    # --- notices ---

    def publish_topics(self, put: Sequence[Topic], removed: Sequence[str]) -> None:
        """Topics are made, changed or gone."""
        self.topics.publish(put, removed)
        self.tell()

    def publish_brokers(self, brokers: Sequence[Registration], controller_id: int) -> None:
        """All live brokers, and which of them controls."""
        self._brokers = {it.broker_id: it for it in brokers}
        self._controller_id = controller_id
        self.tell()

    def tell(self) -> None:
        """Something that is waited for may be so now."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, known: Callable[[], bool], seconds: float = KNOWN_SECONDS) -> bool:
        """Blocks until `known`, which looks at what was told; whether it is in time."""
        with self._changed:
            return self._changed.wait_for(known, seconds)
