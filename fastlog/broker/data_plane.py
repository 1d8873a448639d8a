"""What the control plane asks of the engine; `fastlog.native._engine.Engine` is one, tests have another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.config import TopicSettings


class DataPlane(Protocol):
    """The partitions of this broker. Calls that touch the disk block, and release the GIL."""

    def open_partitions(
        self, topic: str, topic_id: bytes, partitions: Sequence[tuple[int, int]], settings: TopicSettings
    ) -> None:
        """Opens, or creates, the logs of (partition, leader epoch) pairs and leads them.

        Those that are open already are left alone. Raises OSError where the disk fails.
        """
        ...

    def delete_topic(self, topic: str, topic_id: bytes) -> int:
        """Closes the topic's partitions and renames their directories for a later purge; answers how many.

        Directories of that id are found whether they are open or not; others of the same name are left alone.
        """
        ...

    def set_topic_settings(self, topic: str, settings: TopicSettings) -> None:
        """Gives the open partitions of a topic new settings."""
        ...

    def delete_records(self, topic: str, partition: int, before_offset: int) -> int:
        """Moves the log start to `before_offset` (-1 is the high watermark), durably, and answers it.

        Raises a KafkaError: UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, OFFSET_OUT_OF_RANGE,
        KAFKA_STORAGE_ERROR.
        """
        ...

    def log_sizes(self) -> list[tuple[str, int, int]]:
        """(topic, partition, bytes on disk) of each open partition, sorted."""
        ...
