"""Members of one group through random joins, leaves, deaths, lost connections and absences."""

from __future__ import annotations

import os

import pytest

from fastlog.client.group.membership import Phase
from fastlog.state.assignors import Partition
from tests.support.group_model import Node, World

STEPS, STEP_MS, SEEDS = 2_000, 25.0, 25
CALM_STEPS = 800
STRATEGIES = ["range", "roundrobin", "sticky", "cooperative-sticky"]


def members_of_this_generation(world: World) -> list[Node]:
    """Those that the coordinator would take a commit from."""
    coordinator = world.coordinator
    return [
        node
        for node in world.nodes
        if node.alive
        and node.membership.identity.member_id in coordinator.members
        and node.membership.identity.generation == coordinator.generation
    ]


def require_one_owner(world: World, where: str) -> None:
    """No partition is read by two members of one generation."""
    owners: dict[Partition, Node] = {}
    for node in members_of_this_generation(world):
        for partition in node.held:
            assert partition not in owners, f"{where}: {partition} has two owners"
            owners[partition] = node


def is_settled(world: World) -> bool:
    """Whether the living share all partitions."""
    alive = [node for node in world.nodes if node.alive]
    wanted = {(topic, number) for topic, count in world.topics.items() for number in range(count)}
    held = [partition for node in alive for partition in node.held]
    return sorted(held) == sorted(wanted) and all(node.membership.phase is Phase.STABLE for node in alive)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_partition_has_one_owner_and_the_group_settles(strategy: str) -> None:
    base = os.getpid() * 1000
    print("seeds from", base)
    for seed in range(base, base + SEEDS):
        world = World(seed, strategy)
        world.nodes.append(Node(world, strategy))
        for step in range(STEPS):
            world.upset()
            world.step(STEP_MS)
            require_one_owner(world, f"seed {seed} step {step}")
        if not any(node.alive for node in world.nodes):
            world.nodes.append(Node(world, strategy))
        for _ in range(CALM_STEPS):
            world.step(STEP_MS)
            require_one_owner(world, f"seed {seed}, calm")
            if is_settled(world):
                break
        assert is_settled(world), (
            f"seed {seed}: {[(n.membership.phase, sorted(n.held)) for n in world.nodes]}"
        )


def test_a_world_is_the_same_twice() -> None:
    def told(seed: int) -> list[object]:
        world = World(seed, "cooperative-sticky")
        for _ in range(300):
            world.upset()
            world.step(STEP_MS)
        return [sorted(map(str, node.told)) for node in world.nodes]

    assert told(7) == told(7)
