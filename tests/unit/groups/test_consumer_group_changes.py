"""A group changes from the classic protocol to the consumer protocol and back while its members read."""

from __future__ import annotations

from typing import Any

import pytest

from fastlog.errors import KafkaError
from fastlog.protocol.messages.leave_group import MemberIdentity
from fastlog.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from fastlog.protocol.messages.offset_fetch import OffsetFetchRequestGroup
from fastlog.state.assignors.consumer_protocol import (
    Subscription,
    decode_assignment,
    encode_assignment,
    encode_subscription,
)
from fastlog.state.consumer_group.settings import ConsumerGroupSettings, Migration
from tests.support.consumer_members import Member, settle
from tests.support.group_world import World

ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS, UNSUPPORTED_VERSION = 22, 25, 27, 35
GROUP_ID_NOT_FOUND, MEMBER_ID_REQUIRED, STALE_MEMBER_EPOCH, NON_EMPTY_GROUP = 69, 79, 113, 68


class Classic:
    """A client of the classic protocol, which is told to join again whenever something is to change."""

    def __init__(self, world: World, name: str, instance_id: str | None = None) -> None:
        self.world = world
        self.name = name
        self.instance_id = instance_id
        self.member_id = ""
        self.generation = -1
        self.numbers: list[int] = []
        self.response: Any = None
        self._reply: Any = None

    def join(self) -> Any:
        """JoinGroup, with what it has; the response, or None while it waits."""
        owned = tuple(("t", number) for number in self.numbers)
        subscription = encode_subscription(Subscription(topics=("t",), owned_partitions=owned))
        self._reply = self.world.join(
            self.name,
            member_id=self.member_id,
            instance_id=self.instance_id,
            protocols=(("range", subscription),),
        )
        return self.joined()

    def joined(self) -> Any:
        """The response to its JoinGroup, once it is there."""
        if not self._reply.is_answered:
            return None
        self.response = next(it for name, it in reversed(self.world.answers) if name == self.name)
        if self.response.error_code == MEMBER_ID_REQUIRED:
            self.member_id = self.response.member_id
            return self.join()
        self.member_id, self.generation = self.response.member_id, self.response.generation_id
        return self.response

    def sync(self, assignments: dict[str, bytes] | None = None) -> int:
        """SyncGroup; its error code, -1 while it waits for the leader of a classic group."""
        if not self.world.sync(self.name, self.member_id, self.generation, assignments).is_answered:
            return -1
        name, response = self.world.answers[-1]
        assert name == self.name
        if not response.error_code:
            self.numbers = [number for _, number in decode_assignment(response.assignment)]
        return int(response.error_code)

    def beat(self) -> int:
        """Heartbeat; joins again and asks for its part where it is told to. The error code of the heartbeat."""
        code = self.world.heartbeat(self.member_id, self.generation)
        if code == REBALANCE_IN_PROGRESS:
            response = self.join()
            # in a group that is classic again it waits for the others
            if response is not None:
                assert response.error_code == 0
                assert self.sync() in (0, -1)
        return code


@pytest.fixture
def world() -> World:
    made = World()
    made.topics.put("t", 6)
    return made


def classic_group(world: World) -> tuple[Classic, Classic]:
    """Two classic members, with three partitions each."""
    a, b = Classic(world, "a"), Classic(world, "b")
    a.join()
    b.join()
    world.wait(10_000)
    for each in (a, b):
        assert each.joined() is not None
    parts = {
        a.member_id: encode_assignment([("t", 0), ("t", 1), ("t", 2)]),
        b.member_id: encode_assignment([("t", 3), ("t", 4), ("t", 5)]),
    }
    leader, other = (a, b) if a.response.leader == a.member_id else (b, a)
    assert leader.sync(parts) == 0
    assert other.sync() == 0
    return a, b


def type_of(world: World) -> list[str]:
    return [it.group_type for it in world.coordinator.list_groups((), ())]


def settle_all(classic: list[Classic], members: list[Member]) -> None:
    for _ in range(6):
        for each in classic:
            each.beat()
        for member in members:
            member.beat()


def test_a_classic_group_is_upgraded_by_the_first_member_of_the_consumer_protocol(world: World) -> None:
    a, b = classic_group(world)
    c = Member(world, "c", "t")
    response = c.join()
    assert (response.error_code, type_of(world)) == (0, ["consumer"])
    assert c.owned == set(), "the others have all of it"
    assert a.beat() == REBALANCE_IN_PROGRESS
    settle_all([a, b], [c])
    assert sorted([*a.numbers, *b.numbers, *c.numbers]) == list(range(6))
    assert [len(it) for it in (a.numbers, b.numbers, c.numbers)] == [2, 2, 2]
    group = world.coordinator.describe_consumer_group("g")
    assert sorted(it.member_type for it in group.members) == [0, 0, 1]
    world.restart()
    settle_all([a, b], [c])
    assert a.beat() == 0


def test_the_group_is_classic_again_when_the_last_member_of_the_consumer_protocol_is_gone(
    world: World,
) -> None:
    a, b = classic_group(world)
    c = Member(world, "c", "t")
    c.join()
    settle_all([a, b], [c])
    assert c.leave().error_code == 0
    assert type_of(world) == ["classic"]
    assert world.heartbeat(a.member_id, a.generation) in (ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS)
    for each in (a, b):
        each.join()
    for each in (a, b):
        assert each.joined().error_code == 0
    assert a.generation == b.generation
    assert a.generation > c.epoch
    assert world.memory.held_bytes == world.counted_bytes()


def static_group(world: World) -> tuple[Classic, Classic, Member]:
    """Two classic members and a static one of the consumer protocol, with two partitions each."""
    a, b = classic_group(world)
    c = Member(world, "c", "t", instance_id="three")
    c.join()
    settle_all([a, b], [c])
    assert [len(it) for it in (a.numbers, b.numbers, c.numbers)] == [2, 2, 2]
    return a, b, c


@pytest.mark.parametrize("leaves", [True, False])
def test_a_classic_member_that_takes_the_place_of_the_last_other_one_makes_the_group_classic(
    world: World, leaves: bool
) -> None:
    a, b, c = static_group(world)
    had, epoch = c.numbers, c.epoch
    if leaves:
        c.leave(-2)
    d = Classic(world, "d", instance_id="three")
    response = d.join()
    assert (response.error_code, type_of(world)) == (0, ["classic"])
    assert (d.generation, response.protocol_name) == (epoch, "range")
    assert d.sync() == 0
    assert sorted(d.numbers) == had, "it has what the other one had, and nobody has to join again"
    assert [world.heartbeat(it.member_id, it.generation) for it in (a, b, d)] == [0, 0, 0]
    assert c.beat().error_code == GROUP_ID_NOT_FOUND
    assert world.memory.held_bytes == world.counted_bytes()
    world.restart()
    assert type_of(world) == ["classic"]
    assert [world.heartbeat(it.member_id, it.generation) for it in (a, b, d)] == [0, 0, 0]
    for _ in range(4):
        world.wait(9_000)
        world.heartbeat(a.member_id, a.generation)
        world.heartbeat(b.member_id, b.generation)
    assert world.heartbeat(d.member_id, d.generation) == UNKNOWN_MEMBER_ID, "its session is a classic one"


def test_who_is_not_yet_where_it_is_to_be_joins_again_when_that_happens(world: World) -> None:
    a, b = classic_group(world)
    c = Member(world, "c", "t", instance_id="three")
    c.join()
    assert c.numbers == [], "the others have not let go of anything"
    d = Classic(world, "d", instance_id="three")
    assert d.join().error_code == 0
    assert type_of(world) == ["classic"]
    assert d.sync() == REBALANCE_IN_PROGRESS, "it must not read what they still do"
    for each in (a, b, d):
        each.join()
    world.wait(60_000)
    assert [it.joined().error_code for it in (a, b, d)] == [0, 0, 0]
    assert a.generation == b.generation == d.generation


def test_another_member_of_the_consumer_protocol_keeps_the_group_what_it_is(world: World) -> None:
    a, b, c = static_group(world)
    e = Member(world, "e", "t")
    e.join()
    settle_all([a, b], [c, e])
    d = Classic(world, "d", instance_id="three")
    assert d.join().error_code == 0
    assert type_of(world) == ["consumer"]
    # the same by name, in place of a classic one
    assert Classic(world, "f", instance_id="three").join().error_code == 0
    assert type_of(world) == ["consumer"]


def test_without_the_policy_a_classic_member_in_the_place_of_the_last_other_one_changes_nothing() -> None:
    world = World(consumers=ConsumerGroupSettings(migration=Migration.UPGRADE))
    world.topics.put("t", 6)
    _, _, c = static_group(world)
    c.leave(-2)
    assert Classic(world, "d", instance_id="three").join().error_code == 0
    assert type_of(world) == ["consumer"]


@pytest.mark.parametrize("code", [7, 19])
def test_a_downgrade_that_is_not_acknowledged_is_found_as_the_log_has_it(world: World, code: int) -> None:
    a, b, c = static_group(world)
    c.leave(-2)
    world.fails_with = code
    d = Classic(world, "d", instance_id="three")
    assert d.join().error_code != 0
    world.fails_with = 0
    if code == 7:
        assert type_of(world) == ["classic"], "the record may be in the log"
    else:
        assert type_of(world) == ["consumer"]
    d.member_id = ""
    assert d.join() is None or d.sync() == 0
    assert type_of(world) == ["classic"]
    for _ in range(6):
        world.wait(9_000)
        for each in (a, b):
            world.heartbeat(each.member_id, each.generation)
    assert world.heartbeat(d.member_id, d.generation) == UNKNOWN_MEMBER_ID


def test_a_silent_member_of_the_consumer_protocol_downgrades_too(world: World) -> None:
    a, b = classic_group(world)
    c = Member(world, "c", "t")
    c.join()
    for _ in range(12):
        world.wait(4_000)
        a.beat()
        b.beat()
        if type_of(world) == ["classic"]:
            break
    assert type_of(world) == ["classic"]


def test_a_classic_member_that_does_not_join_again_is_lost(world: World) -> None:
    a, b = classic_group(world)
    c = Member(world, "c", "t")
    c.join()
    for _ in range(10):
        # a only says that it is there
        world.heartbeat(a.member_id, a.generation)
        b.beat()
        c.beat()
        world.wait(4_000)
    assert world.heartbeat(a.member_id, a.generation) == UNKNOWN_MEMBER_ID
    settle_all([b], [c])
    assert sorted([*b.numbers, *c.numbers]) == list(range(6))


def test_a_classic_member_that_joins_with_its_id_in_the_other_protocol_has_no_classic_duties(
    world: World,
) -> None:
    a, b = classic_group(world)
    c = Member(world, "c", "t")
    c.join()
    # a is told to join again, and does, though not as it did before
    assert world.heartbeat(a.member_id, a.generation) == REBALANCE_IN_PROGRESS
    again = Member(world, a.member_id, "t")
    assert again.join().error_code == 0
    for _ in range(10):
        settle_all([b], [c, again])
        world.wait(4_000)
    assert again.beat().error_code == 0
    assert sorted([*b.numbers, *c.numbers, *again.numbers]) == list(range(6))


def test_classic_members_leave_such_a_group(world: World) -> None:
    a, b = classic_group(world)
    c = Member(world, "c", "t")
    c.join()
    settle_all([a, b], [c])
    world.leave("a", MemberIdentity(a.member_id, None), MemberIdentity("nobody", None))
    answer = world.answers[-1][1]
    assert [it.error_code for it in answer.members] == [0, UNKNOWN_MEMBER_ID]
    settle_all([b], [c])
    assert sorted([*b.numbers, *c.numbers]) == list(range(6))
    world.leave("c", MemberIdentity("c", None))
    assert world.answers[-1][1].members[0].error_code == UNKNOWN_MEMBER_ID, "that is the other protocol"


def test_without_the_policy_nothing_changes() -> None:
    world = World(consumers=ConsumerGroupSettings(migration=Migration.DISABLED))
    world.topics.put("t", 6)
    a, b = classic_group(world)
    c = Member(world, "c", "t")
    assert c.join().error_code == GROUP_ID_NOT_FOUND
    assert type_of(world) == ["classic"]
    assert (a.beat(), b.beat()) == (0, 0)


def test_an_upgrade_that_cannot_be_written_leaves_the_classic_group(world: World) -> None:
    a, b = classic_group(world)
    world.fails_with = 19
    c = Member(world, "c", "t")
    assert c.join().error_code != 0
    world.fails_with = 0
    assert type_of(world) == ["classic"]
    assert (a.beat(), b.beat()) == (0, 0)
    assert c.join().error_code == 0
    settle_all([a, b], [c])
    assert len(c.owned) == 2


def test_classic_requests_wait_while_their_group_is_upgraded(world: World) -> None:
    a, b = classic_group(world)
    world.is_held = True
    c = Member(world, "c", "t")
    assert c._send(full=True) is None
    assert a.join() is None
    world.is_held = False
    world.release()
    c._take(next(it for name, it in world.answers if name == "c"))
    assert a.joined().error_code == 0
    assert a.sync() == 0
    settle_all([a, b], [c])
    assert sorted([*a.numbers, *b.numbers, *c.numbers]) == list(range(6))


def test_an_empty_group_takes_on_the_protocol_of_who_joins(world: World) -> None:
    member = Member(world, "c", "t")
    member.join()
    member.leave()
    a, b = classic_group(world)
    assert type_of(world) == ["classic"]
    world.restart()
    assert type_of(world) == ["classic"]
    for each in (a, b):
        world.leave("x", MemberIdentity(each.member_id, None))
    world.wait(60_000)
    assert member.join().error_code == 0
    assert type_of(world) == ["consumer"]
    world.restart()
    assert type_of(world) == ["consumer"]
    settle(member)
    assert member.numbers == list(range(6))


# --- offsets ---


def commit(world: World, member_id: str, epoch: int, partition: int = 0, version: int = 9) -> int:
    rows = [OffsetCommitRequestPartition(partition, 7)]
    request = OffsetCommitRequest(
        group_id="g",
        generation_id_or_member_epoch=epoch,
        member_id=member_id,
        topics=[OffsetCommitRequestTopic("t", partitions=rows)],
    )
    world.carry_out(world.coordinator.commit(request, version, world.reply("commit"), world.now))
    return int(world.answers[-1][1].topics[0].partitions[0].error_code)


def test_only_members_commit_and_in_their_epoch(world: World) -> None:
    a = Member(world, "a", "t")
    a.join()
    assert commit(world, "a", a.epoch) == 0
    assert commit(world, "a", a.epoch, version=8) == UNSUPPORTED_VERSION
    assert commit(world, "a", a.epoch + 1) == STALE_MEMBER_EPOCH
    assert commit(world, "x", a.epoch) == UNKNOWN_MEMBER_ID
    assert commit(world, "", -1) == UNKNOWN_MEMBER_ID
    a.leave()
    assert commit(world, "", -1) == 0


def test_an_older_epoch_commits_what_its_member_has_had_since_then(world: World) -> None:
    a, b = Member(world, "a", "t"), Member(world, "b", "t")
    a.join()
    before = a.epoch
    b.join()
    settle(a, b)
    assert a.epoch > before
    kept = a.numbers[0]
    given_away = b.numbers[0]
    assert commit(world, "a", before, kept) == 0
    assert commit(world, "a", before, given_away) == STALE_MEMBER_EPOCH
    assert commit(world, "b", before, given_away) == STALE_MEMBER_EPOCH, "it was given that later"


def test_classic_members_commit_in_their_generation(world: World) -> None:
    a, b = classic_group(world)
    c = Member(world, "c", "t")
    c.join()
    settle_all([a, b], [c])
    assert commit(world, a.member_id, a.generation, version=5) == 0
    assert commit(world, a.member_id, a.generation - 1) == ILLEGAL_GENERATION


def test_who_asks_as_a_member_has_to_be_one(world: World) -> None:
    a = Member(world, "a", "t")
    a.join()

    def fetch(member_id: str | None, epoch: int) -> int:
        request = OffsetFetchRequestGroup("g", member_id, epoch, None)
        try:
            return world.coordinator.fetch(request).error_code
        except KafkaError as error:
            return error.code

    assert (fetch("a", a.epoch), fetch(None, -1)) == (0, 0)
    assert fetch("a", a.epoch + 1) == STALE_MEMBER_EPOCH
    assert fetch("x", a.epoch) == UNKNOWN_MEMBER_ID


def test_a_group_with_members_is_not_deleted(world: World) -> None:
    a = Member(world, "a", "t")
    a.join()
    commit(world, "a", a.epoch)

    def delete() -> int:
        world.carry_out(world.coordinator.delete_group("g", world.reply("delete"), world.now))
        return int(world.answers[-1][1].error_code)

    assert delete() == NON_EMPTY_GROUP
    a.leave()
    assert delete() == 0
    assert type_of(world) == []
    world.restart()
    assert type_of(world) == []
    assert delete() == GROUP_ID_NOT_FOUND


def test_offsets_of_an_empty_group_expire_and_the_group_with_them(world: World) -> None:
    a = Member(world, "a", "t")
    a.join()
    commit(world, "a", a.epoch)
    week_ms = world.offset_settings.retention_ms
    a.leave()
    world.wait(week_ms - 1)
    world.carry_out(world.coordinator.expire_offsets(world.now))
    assert type_of(world) == ["consumer"]
    world.wait(1)
    world.carry_out(world.coordinator.expire_offsets(world.now))
    assert type_of(world) == []
    assert world.memory.held_bytes == 0


def test_describe_groups_does_not_find_it(world: World) -> None:
    Member(world, "a", "t").join()
    described = world.coordinator.describe("g", 6)
    assert (described.error_code, described.error_message) == (
        GROUP_ID_NOT_FOUND,
        "Group g is not a classic group.",
    )
    assert world.coordinator.describe_consumer_group("other").error_code == GROUP_ID_NOT_FOUND
