"""Groups of the consumer protocol (KIP-848): joins, moves, leaves, time-outs, restarts, writes that fail."""

from __future__ import annotations

import pytest

from fastlog.state.consumer_group.settings import ConsumerGroupSettings
from fastlog.state.group.settings import GroupSettings
from tests.support.consumer_members import Member, heartbeat, settle
from tests.support.group_world import World

UNKNOWN_MEMBER_ID, INVALID_REQUEST, GROUP_ID_NOT_FOUND, GROUP_MAX_SIZE_REACHED = 25, 42, 69, 81
FENCED_INSTANCE_ID, FENCED_MEMBER_EPOCH, UNRELEASED_INSTANCE_ID, UNSUPPORTED_ASSIGNOR = 82, 110, 111, 112
INVALID_REGULAR_EXPRESSION, NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE = 128, 16, 15


@pytest.fixture
def world() -> World:
    made = World()
    made.topics.put("t", 6)
    return made


def joined(world: World, *names: str) -> list[Member]:
    members = [Member(world, name, "t") for name in names]
    for member in members:
        member.join()
    settle(*members)
    return members


def state_of(world: World, group_id: str = "g") -> str:
    return world.coordinator.describe_consumer_group(group_id).group_state


# --- joining and leaving ---


def test_the_first_member_has_everything_at_once(world: World) -> None:
    member = Member(world, "a", "t")
    response = member.join()
    assert (response.error_code, response.member_id, response.member_epoch) == (0, "a", 2)
    assert response.heartbeat_interval_ms == 5_000
    assert member.numbers == list(range(6))
    assert state_of(world) == "Stable"


def test_a_partition_is_given_only_after_its_owner_has_let_go_of_it(world: World) -> None:
    (a,) = joined(world, "a")
    b = Member(world, "b", "t")
    b.join()
    assert b.owned == set()
    a.is_slow = True
    response = a.beat()
    assert response.assignment is not None
    assert response.assignment.topic_partitions[0].partitions == [0, 1, 2]
    assert (a.epoch, b.epoch) == (2, 3)
    for _ in range(3):
        a.beat()
        b.beat()
    assert b.owned == set(), "a has not said that it has let go"
    assert state_of(world) == "Reconciling"
    a.is_slow = False
    a.beat(full=True)
    a.beat()
    b.beat()
    assert (a.numbers, b.numbers) == ([0, 1, 2], [3, 4, 5])
    settle(a, b)
    assert (a.epoch, b.epoch) == (3, 3)
    assert state_of(world) == "Stable"


def test_what_a_member_had_goes_to_the_others_when_it_leaves(world: World) -> None:
    a, b, c = joined(world, "a", "b", "c")
    assert [len(it.owned) for it in (a, b, c)] == [2, 2, 2]
    assert b.leave().member_epoch == -1
    settle(a, c)
    assert sorted(a.numbers + c.numbers) == list(range(6))
    assert b.beat().error_code == UNKNOWN_MEMBER_ID


def test_a_silent_member_is_lost_after_its_session_time_out(world: World) -> None:
    a, b = joined(world, "a", "b")
    world.wait(30_000)
    a.beat()
    world.wait(14_999)
    assert b.beat().error_code == 0
    world.wait(30_001)
    assert a.beat().error_code == UNKNOWN_MEMBER_ID
    settle(b)
    assert b.numbers == list(range(6))


def test_a_member_that_does_not_let_go_in_time_is_fenced(world: World) -> None:
    (a,) = joined(world, "a")
    a.is_slow = True
    b = Member(world, "b", "t")
    b.join()
    a.beat()
    for _ in range(3):
        world.wait(9_999)
        a.beat()
        b.beat()
    assert (a.error, b.owned) == (0, set())
    world.wait(10)
    assert a.beat().error_code == UNKNOWN_MEMBER_ID
    settle(b)
    assert b.numbers == list(range(6))


def test_the_last_one_leaves_an_empty_group_and_the_next_goes_on_in_its_epochs(world: World) -> None:
    (a,) = joined(world, "a")
    a.leave()
    assert state_of(world) == "Empty"
    (b,) = joined(world, "b")
    assert b.epoch == 4
    assert b.numbers == list(range(6))


def test_an_answer_that_was_lost_does_not_fence(world: World) -> None:
    a, _ = joined(world, "a", "b")
    # it joins again as one that never heard of its epoch
    again = Member(world, "c", "t")
    again.join()
    assert again.join().error_code == 0
    a.epoch -= 1
    a.owned = set(list(a.owned)[:1])
    assert a.beat().error_code == 0


@pytest.mark.parametrize("change", [-5, 5])
def test_another_epoch_is_fenced(world: World, change: int) -> None:
    a, b = joined(world, "a", "b")
    for _ in range(4):
        b.leave()
        b.join()
        settle(a, b)
    a.epoch += change
    assert a.beat().error_code == FENCED_MEMBER_EPOCH


@pytest.mark.parametrize("instance_id", [None, "one"])
def test_a_fenced_member_joins_again_with_its_id(world: World, instance_id: str | None) -> None:
    a, b = Member(world, "a", "t", instance_id=instance_id), Member(world, "b", "t")
    for member in (a, b):
        member.join()
    settle(a, b)
    lost = a.epoch
    # two answers that tell it of new epochs do not arrive
    for name in ("c", "d"):
        c = Member(world, name, "t")
        c.join()
        settle(a, b, c)
        c.leave()
        settle(a, b)
    a.epoch = lost
    assert a.beat().error_code == FENCED_MEMBER_EPOCH
    assert a.join().error_code == 0
    settle(a, b)
    assert sorted(a.numbers + b.numbers) == list(range(6))
    assert state_of(world) == "Stable"


def test_a_member_that_joins_again_has_let_go_of_what_it_was_to_let_go_of(world: World) -> None:
    (a,) = joined(world, "a")
    a.is_slow = True
    b = Member(world, "b", "t")
    b.join()
    a.beat()
    assert b.beat().error_code == 0
    assert b.owned == set(), "a has not said that it has let go"
    a.is_slow = False
    assert a.join().error_code == 0
    assert a.numbers == [0, 1, 2]
    b.beat()
    assert b.numbers == [3, 4, 5]


def test_a_request_that_says_all_is_told_all(world: World) -> None:
    (a,) = joined(world, "a")
    assert a.beat().assignment is None
    assert a.beat(full=True).assignment is not None


# --- static members ---


def test_a_static_member_that_comes_back_has_what_it_had_and_nobody_moves(world: World) -> None:
    a = Member(world, "a", "t", instance_id="one")
    a.join()
    b = Member(world, "b", "t")
    b.join()
    settle(a, b)
    had, epoch, others = a.owned, a.epoch, b.owned
    assert a.leave(-2).member_epoch == -2
    again = Member(world, "c", "t", instance_id="one")
    response = again.join()
    assert (response.error_code, again.owned, again.epoch) == (0, had, epoch)
    settle(again, b)
    assert (b.owned, b.epoch) == (others, epoch)
    assert a.beat().error_code == FENCED_INSTANCE_ID


def test_the_same_static_member_may_come_back_with_its_member_id(world: World) -> None:
    a = Member(world, "a", "t", instance_id="one")
    a.join()
    had = a.owned
    a.leave(-2)
    assert a.join().error_code == 0
    assert a.owned == had


def test_an_instance_id_is_not_taken_from_one_that_is_there(world: World) -> None:
    a = Member(world, "a", "t", instance_id="one")
    a.join()
    b = Member(world, "b", "t", instance_id="one")
    assert b.join().error_code == UNRELEASED_INSTANCE_ID
    assert a.beat().error_code == 0


def test_a_static_member_that_does_not_come_back_is_lost(world: World) -> None:
    a = Member(world, "a", "t", instance_id="one")
    a.join()
    (b,) = joined(world, "b")
    settle(a, b)
    a.leave(-2)
    world.wait(40_000)
    b.beat()
    world.wait(5_001)
    settle(b)
    assert b.numbers == list(range(6))


# --- what members want ---


def test_members_share_only_what_each_wants(world: World) -> None:
    world.topics.put("u", 4)
    a, b = Member(world, "a", "t", "u"), Member(world, "b", "u")
    a.join()
    b.join()
    settle(a, b)
    assert (len(a.owned), len(b.owned)) == (6, 4)
    b.topics = ["t"]
    b.beat(full=True)
    settle(a, b)
    assert (len(a.owned), len(b.owned)) == (5, 5)


def test_range_gives_the_same_numbers_of_every_topic(world: World) -> None:
    world.topics.put("u", 6)
    members = [Member(world, name, "t", "u", assignor="range") for name in "abc"]
    for member in members:
        member.join()
    settle(*members)
    assert [it.numbers for it in members] == [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]]
    assert world.coordinator.describe_consumer_group("g").assignor_name == "range"


def test_new_partitions_and_new_topics_are_dealt_out_with_the_next_heartbeat(world: World) -> None:
    a = Member(world, "a", "t", "later")
    a.join()
    world.topics.put("t", 8)
    world.coordinator.topics_changed({"t"})
    settle(a)
    assert (a.numbers, a.epoch) == (list(range(8)), 3)
    world.topics.put("other", 1)
    world.coordinator.topics_changed({"other"})
    settle(a)
    assert a.epoch == 3, "nobody reads that"
    world.topics.put("later", 2)
    world.coordinator.topics_changed({"later"})
    settle(a)
    assert len(a.owned) == 10
    del world.topics.facts["t"]
    world.coordinator.topics_changed({"t"})
    settle(a)
    assert a.numbers == [0, 1]


def test_a_topic_that_was_made_anew_is_another_one(world: World) -> None:
    (a,) = joined(world, "a")
    before = a.owned
    world.topics.put("t", 6, incarnation=1)
    world.coordinator.topics_changed({"t"})
    settle(a)
    assert len(a.owned) == 6
    assert not before & a.owned


def test_a_pattern_matches_whole_names_and_follows_what_is_made(world: World) -> None:
    world.topics.put("t1", 1)
    world.topics.put("xt1", 1)
    a = Member(world, "a", regex="t[0-9]")
    a.join()
    settle(a)
    assert [topic_id[:2] for topic_id, _ in a.owned] == [b"t1"]
    world.topics.put("t2", 2)
    world.coordinator.topics_changed({"t2"})
    settle(a)
    assert len(a.owned) == 3
    a.regex = ""
    a.topics = ["t"]
    a.beat(full=True)
    settle(a)
    assert len(a.owned) == 6
    assert a.leave().error_code == 0


def test_a_pattern_matches_only_what_its_member_may_see(world: World) -> None:
    world.topics.put("secret", 1)
    response = heartbeat(
        world,
        may_see=lambda topic: topic != "secret",
        member_id="a",
        subscribed_topic_regex=".*",
        rebalance_timeout_ms=1,
        topic_partitions=[],
    )
    assert len(response.assignment.topic_partitions) == 1


# --- requests that make no sense ---

JOIN = {"member_id": "a", "rebalance_timeout_ms": 1, "subscribed_topic_names": ["t"], "topic_partitions": []}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"group_id": " "}, INVALID_REQUEST),
        ({"instance_id": ""}, INVALID_REQUEST),
        ({"rack_id": ""}, INVALID_REQUEST),
        ({"member_id": ""}, INVALID_REQUEST),
        ({"member_epoch": -3}, INVALID_REQUEST),
        ({"member_epoch": -2}, INVALID_REQUEST),
        ({"rebalance_timeout_ms": -1}, INVALID_REQUEST),
        ({"topic_partitions": None}, INVALID_REQUEST),
        ({"subscribed_topic_names": None}, INVALID_REQUEST),
        ({"server_assignor": "sticky"}, UNSUPPORTED_ASSIGNOR),
        ({"subscribed_topic_regex": "(?=a)"}, INVALID_REGULAR_EXPRESSION),
        ({"subscribed_topic_regex": "["}, INVALID_REGULAR_EXPRESSION),
        ({"subscribed_topic_regex": "a" * 5_000}, INVALID_REGULAR_EXPRESSION),
        ({"subscribed_topic_regex": "((a{100}){100}){100}"}, INVALID_REGULAR_EXPRESSION),
        ({"member_epoch": 1}, GROUP_ID_NOT_FOUND),
        ({"member_epoch": -1}, GROUP_ID_NOT_FOUND),
    ],
)
def test_a_request_that_makes_no_sense_changes_nothing(
    world: World, change: dict[str, object], code: int
) -> None:
    response = heartbeat(world, **{**JOIN, **change})
    assert response.error_code == code
    assert response.error_message
    assert world.log == []


def test_version_0_gives_a_member_id(world: World) -> None:
    response = heartbeat(world, version=0, **{**JOIN, "member_id": ""})
    assert response.error_code == 0
    assert response.member_id


def test_a_full_group_takes_no_more() -> None:
    world = World(consumers=ConsumerGroupSettings(max_size=2))
    world.topics.put("t", 6)
    a, b = joined(world, "a", "b")
    assert Member(world, "c", "t").join().error_code == GROUP_MAX_SIZE_REACHED
    settle(a, b)


def test_a_full_memory_takes_no_new_members_and_lets_the_others_go_on() -> None:
    world = World(groups=GroupSettings(memory_bytes_max=6_000))
    world.topics.put("t", 6)
    a = Member(world, "a", "t")
    a.join()
    full = [Member(world, f"m{number}", "t") for number in range(20)]
    refused = [it for it in full if it.join().error_code == GROUP_MAX_SIZE_REACHED]
    assert refused
    assert world.memory.refusals >= len(refused)
    assert a.beat().error_code == 0
    world.memory.bytes_max = 1_000
    a.topics = ["t", *(f"topic-{number}" for number in range(100))]
    assert a.beat(full=True).error_code == COORDINATOR_NOT_AVAILABLE
    a.topics = ["t"]
    assert a.beat(full=True).error_code == 0


# --- the log ---


def test_a_restart_is_no_rebalance(world: World) -> None:
    a, b = joined(world, "a", "b")
    had = (a.owned, a.epoch, b.owned, b.epoch)
    world.restart()
    settle(a, b)
    assert (a.owned, a.epoch, b.owned, b.epoch) == had
    world.wait(45_001)
    assert a.beat().error_code == UNKNOWN_MEMBER_ID


def test_a_restart_in_the_middle_of_a_move_goes_on_with_it(world: World) -> None:
    (a,) = joined(world, "a")
    b = Member(world, "b", "t")
    b.join()
    a.is_slow = True
    a.beat()
    world.restart()
    b.beat()
    assert b.owned == set()
    world.wait(30_001)
    settle(b)
    assert b.numbers == list(range(6)), "a had its rebalance time-out anew, and no more"


def test_what_cannot_be_written_does_not_happen(world: World) -> None:
    (a,) = joined(world, "a")
    world.fails_with = 19
    b = Member(world, "b", "t")
    assert b.join().error_code == COORDINATOR_NOT_AVAILABLE
    assert a.beat().error_code == 0
    world.fails_with = 0
    settle(a)
    assert (a.epoch, a.numbers) == (2, list(range(6)))
    assert b.join().error_code == 0
    settle(a, b)
    assert (a.numbers, b.numbers) == ([0, 1, 2], [3, 4, 5])


def test_a_session_that_cannot_be_ended_is_ended_later(world: World) -> None:
    a, b = joined(world, "a", "b")
    world.fails_with = 19
    world.wait(45_001)
    world.fails_with = 0
    world.wait(45_001)
    assert a.beat().error_code == UNKNOWN_MEMBER_ID
    assert b.beat().error_code == UNKNOWN_MEMBER_ID


def test_changes_of_a_group_are_decided_one_after_the_other(world: World) -> None:
    world.is_held = True
    members = [Member(world, name, "t") for name in "abc"]
    for member in members:
        assert member._send(full=True) is None
    world.is_held = False
    world.release()
    for member, (_, response) in zip(members, world.answers, strict=True):
        member._take(response)
    settle(*members)
    assert [len(it.owned) for it in members] == [2, 2, 2]


def test_who_waits_is_sent_elsewhere_when_the_leadership_ends(world: World) -> None:
    world.is_held = True
    for name in "ab":
        assert Member(world, name, "t")._send(full=True) is None
    world.carry_out(world.coordinator.unload())
    assert [response.error_code for _, response in world.answers] == [NOT_COORDINATOR]


def test_what_is_held_in_memory_is_counted(world: World) -> None:
    a, b = joined(world, "a", "b")
    assert world.memory.held_bytes == world.counted_bytes()
    b.leave()
    settle(a)
    assert world.memory.held_bytes == world.counted_bytes()
    a.leave()
    reply = world.reply("delete")
    world.carry_out(world.coordinator.delete_group("g", reply, world.now))
    assert reply.is_answered
    assert world.memory.held_bytes == 0
    assert len(world.deadlines) == 0
