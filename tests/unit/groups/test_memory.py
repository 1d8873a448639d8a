"""What groups may hold in memory: whoever makes up ids is refused, and those that are there go on."""

from __future__ import annotations

from typing import Any

import pytest

from fastlog.errors import CoordinatorNotAvailableError, GroupMaxSizeReachedError, PolicyViolationError
from fastlog.protocol.messages.join_group import JoinGroupResponse
from fastlog.protocol.messages.leave_group import MemberIdentity
from fastlog.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from fastlog.state.group.settings import GroupSettings
from tests.support.group_world import World

MAX = 200_000
FULL, GROWS, POLICY = (
    GroupMaxSizeReachedError.code,
    CoordinatorNotAvailableError.code,
    PolicyViolationError.code,
)


@pytest.fixture
def world() -> World:
    return World(GroupSettings(initial_rebalance_delay_ms=0, memory_bytes_max=MAX))


def last(world: World) -> Any:
    return world.answers[-1][1]


def commit(world: World, group_id: str, *partitions: int, metadata: str = "", **member: Any) -> int:
    rows = [OffsetCommitRequestPartition(it, 5, committed_metadata=metadata) for it in partitions]
    request = OffsetCommitRequest(group_id, topics=[OffsetCommitRequestTopic("t", partitions=rows)], **member)
    reply = world.reply("commit")
    world.carry_out(world.coordinator.commit(request, 8, reply, world.now))
    return int(last(world).topics[0].partitions[0].error_code)


def stable(world: World, protocols: tuple[tuple[str, bytes], ...] = (("range", b"x"),)) -> str:
    """A group `g` with one member, whose id it is."""
    world.join("first", protocols=protocols, version=3)
    world.wait(1)
    member_id = str(last(world).member_id)
    world.sync("first", member_id, 1, {member_id: b"all"})
    assert last(world).error_code == 0
    return member_id


def fill(world: World, share: int = 4) -> None:
    """Holds so many quarters of what is allowed: by offsets of one group, which may hold a quarter more."""
    partition = 0
    while world.memory.held_bytes < MAX * share // 4:
        assert commit(world, "filling", partition, metadata="m" * 1_000) == 0
        partition += 1


@pytest.mark.parametrize("version", [3, 9], ids=["members", "member ids"])
@pytest.mark.parametrize("many", ["groups", "members"])
def test_a_million_members_are_refused_from_some_point_on(world: World, version: int, many: str) -> None:
    codes = []
    for number in range(1_000):
        world.join("x", f"g-{number}" if many == "groups" else "g", version=version)
        answers = [it for _, it in world.answers if isinstance(it, JoinGroupResponse)]
        codes.append(answers[-1].error_code if answers else 0)
    assert set(codes[-100:]) == {FULL}
    assert MAX - 3_000 <= world.memory.held_bytes < MAX + 3_000
    assert world.memory.held_bytes == world.counted_bytes()
    assert world.memory.refusals > 100
    # they never came back, so their time is over
    world.wait(400_000)
    world.join("y", "new", version=9)
    assert last(world).error_code == 79


def test_new_groups_do_not_commit_and_others_go_on(world: World) -> None:
    fill(world)
    assert commit(world, "new", 0) == POLICY
    assert commit(world, "filling", 0, 1, 2) == 0
    assert commit(world, "filling", 100_000) == 0
    fill(world, share=5)
    assert commit(world, "filling", 0, 1, 2, metadata="m" * 1_000) == 0
    assert commit(world, "filling", 0, 1, metadata="m" * 1_001) == GROWS
    assert commit(world, "filling", 200_000) == GROWS
    assert world.memory.held_bytes == world.counted_bytes() < MAX * 5 // 4 + 2_000


def test_members_go_on_and_do_not_grow(world: World) -> None:
    member_id = stable(world)
    fill(world, share=5)
    assert commit(world, "g", 0, member_id=member_id, generation_id_or_member_epoch=1) == GROWS
    assert world.heartbeat(member_id, 1) == 0
    world.join("first", member_id=member_id, protocols=(("range", b"x" * 100),))
    assert last(world).error_code == GROWS
    # as the leader it begins a rebalance
    world.join("first", member_id=member_id)
    assert last(world).error_code == GROWS
    world.join("first", member_id=member_id, protocols=(("range", b"x"),))
    assert (last(world).error_code, last(world).generation_id) == (0, 2)
    world.sync("first", member_id, 2, {member_id: b"all and more"})
    assert last(world).error_code == GROWS
    world.sync("first", member_id, 2, {member_id: b"ALL"})
    assert (last(world).error_code, last(world).assignment) == (0, b"ALL")
    world.leave("first", MemberIdentity(member_id))
    assert last(world).members[0].error_code == 0
    assert world.memory.held_bytes == world.counted_bytes()


def test_what_the_log_says_is_taken_in_whatever_it_holds(world: World) -> None:
    member_id = stable(world)
    fill(world, share=5)
    held = world.memory.held_bytes
    world.group_settings = GroupSettings(memory_bytes_max=1)
    world.restart()
    assert world.memory.held_bytes == world.counted_bytes() == held
    assert world.heartbeat(member_id, 1) == 0
    world.coordinator.unload()
    assert world.memory.held_bytes == 0
