"""A few brokers' replicas in one process."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from fastlog.broker.replicas.settings import ReplicaSettings
from fastlog.ports import PartitionKey
from tests.support.replica_node import ReplicaNode
from tests.support.replica_wiring import Wiring, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: short times, so that what waits for them is soon over
SETTINGS = ReplicaSettings(lag_ms=2_000, backoff_ms=100, isr_tick_ms=100, retry_ms=100)


class Cluster:
    """Brokers 1, 2, 3 and so on; 1 has the controller beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.wiring = Wiring()
        self.nodes: dict[int, ReplicaNode] = {}

    def start(
        self, *node_ids: int, clean: bool = True, settings: ReplicaSettings = SETTINGS
    ) -> list[ReplicaNode]:
        """Starts brokers, has them registered, and waits until they know the cluster."""
        started = []
        for node_id in node_ids:
            path = self.directory / str(node_id)
            path.mkdir(exist_ok=True)
            node = self.nodes[node_id] = ReplicaNode(node_id, path, self.wiring, settings)
            node.manager.registered(self.wiring.register(node, clean=clean))
            started.append(node)
        if self.wiring.controller_id < 0:
            self.wiring.elect(node_ids[0])
        for node in started:
            assert node.manager.wait_ready(20)
        return started

    def kill(self, node_id: int) -> None:
        """A process dies, and its session ends."""
        self.nodes.pop(node_id).kill()
        self.wiring.unregister(node_id)

    def wipe(self, node_id: int) -> None:
        """The disk of a broker that does not run is replaced."""
        shutil.rmtree(self.directory / str(node_id))

    def create(
        self,
        name: str,
        partitions: int,
        replicas: Sequence[int],
        *,
        heard_by: Sequence[int] = (),
        **facts: Any,
    ) -> PartitionKey:
        """A topic whose partitions all have these replicas, known to all brokers; its first partition."""
        topic = self.wiring.create(name, partitions, replicas, **facts)
        for node_id in heard_by or self.nodes:
            image = self.nodes[node_id].manager.image
            assert image.wait_until(lambda view: topic.topic_id in view.by_id, 20_000)
        return PartitionKey(topic.topic_id, 0)

    def leader(self, key: PartitionKey) -> ReplicaNode:
        """Whoever leads a partition, once it does."""
        found: list[ReplicaNode] = []

        def leads() -> bool:
            state = self.wiring.state(key)
            node = self.nodes.get(state.leader)
            if node is None:
                return False
            found[:] = [node]
            positions = node.engine.replica_positions()
            name = node.manager.image.identified(key.topic_id).name
            return (name, key.partition, state.leader_epoch) in [it[:3] for it in positions]

        wait_until(leads, "somebody leads")
        return found[0]

    def close(self) -> None:
        """Ends all."""
        for node in self.nodes.values():
            node.stop()
        self.wiring.close()
