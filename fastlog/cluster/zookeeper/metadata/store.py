"""`MetadataStore` in ZooKeeper."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from fastlog.cluster.zookeeper.cluster import read_cluster_id
from fastlog.cluster.zookeeper.metadata.fence import Guard
from fastlog.cluster.zookeeper.metadata.known import KnownTopics
from fastlog.cluster.zookeeper.metadata.partitions import Partitions
from fastlog.cluster.zookeeper.metadata.reading import (
    CONFIG_FIRST_VERSION,
    read_deletions,
    read_snapshot,
)
from fastlog.cluster.zookeeper.metadata.topics import Topics
from fastlog.cluster.zookeeper.operations import Check, Create, Put, RefusedError, Remove
from fastlog.cluster.zookeeper.znodes import ConfigZnode, ProducerIdsZnode, decode, encode
from fastlog.ports import (
    Conflict,
    CorruptStoreError,
    NotFoundError,
    PartitionKey,
    PartitionState,
    PartitionWrite,
    StoreError,
    StoreUnavailableError,
    Unknown,
    VersionConflictError,
    Written,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
    from fastlog.cluster.zookeeper.metadata.fence import Fence
    from fastlog.cluster.zookeeper.operations import Operation
    from fastlog.ports import ConfigResource, Deletion, Snapshot, StoredConfigs, Topic, WriteResult

# Kafka's producer ids are int64 and count from 0
PRODUCER_IDS_END = 2**63 - 1
# blocks are handed out to many brokers at once
PRODUCER_ID_TRIES = 100


class ZooKeeperStore:
    """The store over one connection, which belongs to whoever made it.

    A controller uses `fenced`: the same store, whose writes take effect only while the election holds.
    """

    def __init__(self, connection: ZooKeeperConnection, *, fence: Fence | None = None) -> None:
        """`join_cluster` has made the znodes that everything lies under."""
        self._connection = connection
        self._paths = connection.paths
        self._guard = Guard(connection, fence)
        known = KnownTopics()
        self._partitions = Partitions(connection, self._guard, known)
        self._topics = Topics(connection, self._guard, known)
        self._known = known
        # writers share what is known of topics
        self._lock = threading.Lock()

    def fenced(self, fence: Fence) -> ZooKeeperStore:
        """The store of a controller."""
        return ZooKeeperStore(self._connection, fence=fence)

    def cluster_id(self) -> str:
        """The cluster's id; see MetadataStore."""
        return read_cluster_id(self._connection)

    def topics(self) -> list[Topic]:
        """Every topic; raises CorruptStoreError where one cannot be read."""
        return list(self._whole().topics)

    def configs(self) -> dict[ConfigResource, StoredConfigs]:
        """Every resource that has settings; raises CorruptStoreError where some cannot be read."""
        return dict(self._whole().configs)

    def _whole(self) -> Snapshot:
        snapshot = self.snapshot()
        if snapshot.broken:
            raise CorruptStoreError(snapshot.broken[0].reason)
        return snapshot

    def snapshot(self) -> Snapshot:
        """All that is stored, each topic consistent in itself; see MetadataStore."""
        snapshot, reads = read_snapshot(self._connection)
        for name, read in reads.items():
            self._known.note(name, read.znode.topic_id, read.states.items())
        return snapshot

    def create_topic(self, topic: Topic, configs: Mapping[str, str]) -> None:
        """Adds a topic; see MetadataStore."""
        with self._lock:
            self._topics.create(topic, configs)

    def add_partitions(
        self, topic_id: UUID, expected_count: int, partitions: Sequence[PartitionState]
    ) -> Topic:
        """Adds partitions; see MetadataStore."""
        with self._lock:
            return self._topics.add_partitions(topic_id, expected_count, partitions)

    def update_partition(self, topic_id: UUID, partition: int, state: PartitionState) -> PartitionState:
        """Replaces a partition's state; see MetadataStore."""
        where = f"partition {partition} of the topic with id {topic_id}"
        (result,) = self.update_partitions([PartitionWrite(PartitionKey(topic_id, partition), state)])
        if isinstance(result, Written):
            return msgspec.structs.replace(state, version=result.version)
        if not isinstance(result, Conflict):
            raise StoreUnavailableError(result.reason)
        if result.actual is None:
            raise NotFoundError(f"there is no {where}")
        raise VersionConflictError(f"{where} is at version {result.actual.version}, not {state.version}")

    def update_partitions(self, writes: Sequence[PartitionWrite]) -> list[WriteResult]:
        """Pipelined transactions of up to 100 operations; see MetadataStore."""
        with self._lock:
            return self._partitions.update(writes)

    def read_partitions(self, keys: Sequence[PartitionKey]) -> list[PartitionState | Unknown | None]:
        """The states as they are now; see MetadataStore."""
        return self._partitions.read(keys)

    def delete_topic(self, topic_id: UUID) -> None:
        """Removes a topic; see MetadataStore."""
        with self._lock:
            self._topics.delete(topic_id)

    def clear_unfinished(self) -> list[str]:
        """Removes topics that a controller before left half made or half removed, and answers their names.

        Nobody was told of the former, and the latter are noted as deleted.
        """
        with self._lock:
            return self._topics.clear_unfinished()

    def deletions(self) -> list[Deletion]:
        """The deletions that are not finished; see MetadataStore."""
        return list(read_deletions(self._connection, []))

    def forget_deletion(self, topic_id: UUID) -> None:
        """Drops the note; the id stays known, so that it is never used again."""
        path = self._paths.deletion(topic_id)

        def attempt() -> None:
            try:
                self._commit(Remove(path))
            except RefusedError as refused:
                if not isinstance(refused.cause, NoNodeError):
                    raise

        self._connection.settle(attempt)

    def _commit(self, *operations: Operation) -> list[object]:
        self._guard.check()
        try:
            return self._connection.commit([*self._guard.operations, *operations])
        except RefusedError as refused:
            self._guard.check_refused(refused)
            raise

    def put_configs(self, resource: ConfigResource, values: Mapping[str, str], expected_version: int) -> int:
        """Replaces the settings of a resource; see MetadataStore."""
        tried = [False]

        def attempt() -> int:
            found = self._stored(resource)
            if tried[0] and found == (dict(values), expected_version + 1):
                return expected_version + 1
            if found[1] != expected_version:
                raise VersionConflictError(
                    f"the settings of {resource.kind} {resource.name} are at version {found[1]}, not {expected_version}"
                )
            tried[0] = True
            self._put_configs(resource, values, expected_version)
            return expected_version + 1

        return self._connection.settle(attempt)

    def _config_path(self, resource: ConfigResource) -> str:
        if resource.kind == "topic":
            return self._paths.topic_config(resource.name)
        if resource.kind == "group":
            return self._paths.group_config(resource.name)
        return self._paths.broker_config(resource.name)

    def _stored(self, resource: ConfigResource) -> tuple[dict[str, str], int]:
        path = self._config_path(resource)
        if resource.kind == "topic" and not self._topics.exists(resource.name):
            raise NotFoundError(f"topic {resource.name} does not exist")
        try:
            data, stat = self._connection.get(path)
        except NoNodeError:
            if resource.kind == "topic":
                raise CorruptStoreError(
                    f"the znode {path} is missing: restore it, or delete the topic"
                ) from None
            return {}, 0
        return decode(data, ConfigZnode, path).config, stat.version + CONFIG_FIRST_VERSION

    def _put_configs(
        self, resource: ConfigResource, values: Mapping[str, str], expected_version: int
    ) -> None:
        path = self._config_path(resource)
        if resource.kind == "group" and not expected_version:
            # clusters that are older than the settings of groups have no folder for them
            folder = self._paths.group_configs
            self._connection.ask(lambda client: client.ensure_path_async(folder))
        data = encode(ConfigZnode(config=dict(values)), path)
        beside = [Check(self._paths.topic(resource.name), -1)] if resource.kind == "topic" else []
        write = (
            Put(path, data, expected_version - CONFIG_FIRST_VERSION)
            if expected_version
            else Create(path, data)
        )
        try:
            self._commit(*beside, write)
        except RefusedError as refused:
            if isinstance(refused.cause, BadVersionError | NodeExistsError):
                raise VersionConflictError(
                    f"the settings of {resource.kind} {resource.name} were changed meanwhile"
                ) from None
            raise NotFoundError(f"{resource.kind} {resource.name} does not exist any more") from None

    def allocate_producer_ids(self, count: int) -> range:
        """Hands out a block of producer ids, to any broker: no fence; see MetadataStore."""
        path = self._paths.producer_ids

        def attempt() -> range | None:
            try:
                data, stat = self._connection.get(path)
            except NoNodeError:
                raise CorruptStoreError(
                    f"the znode {path} is missing: make it with a next id above all that were handed out"
                ) from None
            start = decode(data, ProducerIdsZnode, path).next
            if start < 0 or start + count > PRODUCER_IDS_END:
                raise StoreError(f"the znode {path} has no producer ids left")
            fresh = encode(ProducerIdsZnode(next=start + count), path)
            try:
                self._connection.ask(lambda client: client.set_async(path, fresh, stat.version))
            except BadVersionError:
                return None
            return range(start, start + count)

        for _ in range(PRODUCER_ID_TRIES):
            # after an unknown outcome the block is left to be lost
            block = self._connection.settle(attempt)
            if block is not None:
                return block
        raise StoreUnavailableError(f"others change {path} faster than it can be read")

    def close(self) -> None:
        """Does nothing: the connection is its maker's."""
