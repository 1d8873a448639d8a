"""Data directories of brokers, and which replica lies in which: what `fastlog.Admin` can do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastlog.client.admin.leaders import by_topic
from fastlog.client.admin.results import DataDirectory, DirectoryReplica
from fastlog.errors import BrokerIdNotRegisteredError, error_for
from fastlog.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from fastlog.protocol.messages.describe_log_dirs import DescribeLogDirsRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastlog.client.admin.leaders import TopicPartition
    from fastlog.client.admin.results import ClusterDescription
    from fastlog.errors import KafkaError


class DisksAdmin:
    """The part of Admin that is about data directories."""

    if TYPE_CHECKING:

        def _ask_about(self, broker: int | None, request: Any) -> Any:
            """See Admin, whose these are."""

        def describe_cluster(self) -> ClusterDescription:
            """See Admin."""

    def describe_log_dirs(self, brokers: Iterable[int] | None = None) -> dict[int, list[DataDirectory]]:
        """The data directories of brokers, with what is in them; None is every broker that is there."""
        wanted = self._live() if brokers is None else list(brokers)
        return {broker: self._directories(broker) for broker in wanted}

    def move_replicas(
        self, broker: int, targets: Mapping[TopicPartition, str]
    ) -> dict[TopicPartition, KafkaError | None]:
        """Has replicas of a broker moved to other data directories of it, each named as the broker does (KIP-113).

        Returns when that is taken down: they are copied afterwards, `describe_log_dirs` tells how far they are. To name
        the directory where a replica is gives up a move. Answers an error, or None, for each replica.
        """
        self._require(broker)
        directories: dict[str, list[TopicPartition]] = {}
        for place, path in targets.items():
            directories.setdefault(path, []).append(place)
        request = AlterReplicaLogDirsRequest(
            dirs=[
                AlterReplicaLogDir(
                    path,
                    [AlterReplicaLogDirTopic(name, indexes) for name, indexes in by_topic(places).items()],
                )
                for path, places in directories.items()
            ]
        )
        found: dict[TopicPartition, KafkaError | None] = {}
        for topic in self._ask_about(broker, request).results:
            for it in topic.partitions:
                place = (topic.topic_name, it.partition_index)
                what = f"moving {place[0]}:{place[1]} of broker {broker} to {targets.get(place)}"
                found[place] = error_for(it.error_code, what) if it.error_code else None
        return found

    def _directories(self, broker: int) -> list[DataDirectory]:
        self._require(broker)
        answer = self._ask_about(broker, DescribeLogDirsRequest(topics=None))
        if answer.error_code:
            raise error_for(answer.error_code, f"describing the data directories of broker {broker}")
        return [
            DataDirectory(
                path=it.log_dir,
                error=error_for(it.error_code, f"{it.log_dir} of broker {broker}") if it.error_code else None,
                total_bytes=it.total_bytes,
                usable_bytes=it.usable_bytes,
                replicas=tuple(
                    DirectoryReplica(
                        topic.name,
                        each.partition_index,
                        each.partition_size,
                        each.offset_lag,
                        each.is_future_key,
                    )
                    for topic in it.topics
                    for each in topic.partitions
                ),
            )
            for it in answer.results
        ]

    def _live(self) -> list[int]:
        return [it.node_id for it in self.describe_cluster().brokers]

    def _require(self, broker: int) -> None:
        """Another broker would answer for itself."""
        if broker not in (live := self._live()):
            raise BrokerIdNotRegisteredError(f"broker {broker} is not there, only {live}")
