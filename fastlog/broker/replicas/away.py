"""Replicas that are elsewhere now: their directories are put away, tried again where the disk refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import KafkaError
from fastlog.events import EventLog
from fastlog.ports import PartitionKey

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from fastlog.broker.replicas.engine import ReplicaEngine
    from fastlog.broker.replicas.roles import Roles


class Away:
    """Of the replicas' worker; blocks on the disk."""

    def __init__(self, engine: ReplicaEngine, roles: Roles, retry_ms: int) -> None:
        self._engine = engine
        self._roles = roles
        self._retry_ms = retry_ms
        self._log = EventLog("replicas")
        #: (topic, leader epoch) of those that are still there
        self._left: dict[PartitionKey, tuple[str, int]] = {}
        self._due_ms = 0

    def put(self, topic: str, topic_id: UUID, partitions: Sequence[tuple[int, int]], now_ms: int) -> None:
        """Puts (partition, leader epoch) of a topic away; what fails is tried again by `tick`."""
        fields = {
            "topic": topic,
            "topic_id": str(topic_id),
            "partitions": " ".join(str(index) for index, _ in partitions),
        }
        try:
            count = self._engine.delete_partitions(topic, topic_id.bytes, partitions, is_deleted=False)
        except (KafkaError, OSError) as error:
            # the others of a notice do not wait for a disk
            keys = {PartitionKey(topic_id, index): (topic, epoch) for index, epoch in partitions}
            if keys.keys() - self._left.keys():
                self._log.error(
                    "replicas that are elsewhere now were not put away, it is tried again",
                    reason=str(error),
                    **fields,
                )
            self._left |= keys
            self._due_ms = now_ms + self._retry_ms
            return
        for index, _ in partitions:
            self._left.pop(PartitionKey(topic_id, index), None)
        self._log.info("replicas put away, they are elsewhere now", directories=count, **fields)

    def forget(self, topic_id: UUID) -> None:
        """The topic is deleted: its directories go another way."""
        self._left = {key: it for key, it in self._left.items() if key.topic_id != topic_id}

    def tick(self, now_ms: int) -> None:
        """Tries again what failed, where it is time."""
        if not self._left or now_ms < self._due_ms:
            return
        topics: dict[tuple[UUID, str], list[tuple[int, int]]] = {}
        for key, (topic, epoch) in list(self._left.items()):
            if self._roles.get(key) is None:
                topics.setdefault((key.topic_id, topic), []).append((key.partition, epoch))
            else:
                # it came back meanwhile
                del self._left[key]
        for (topic_id, topic), partitions in topics.items():
            self.put(topic, topic_id, partitions, now_ms)
