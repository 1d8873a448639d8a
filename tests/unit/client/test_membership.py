"""A group's member, step by step: no sockets, threads or clocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import pytest

from fastlog.client.backoff import Backoff
from fastlog.client.group.effects import (
    Adopt,
    Effect,
    Fail,
    FindCoordinator,
    LoseCoordinator,
    Release,
    Send,
    Watch,
)
from fastlog.client.group.membership import GroupSettings, Membership, Phase
from fastlog.errors import FencedInstanceIdError, InconsistentGroupProtocolError, KafkaError
from fastlog.protocol.messages.heartbeat import HeartbeatResponse
from fastlog.protocol.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from fastlog.protocol.messages.sync_group import SyncGroupResponse
from fastlog.state.assignors import (
    ASSIGNORS,
    Partition,
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)

T = frozenset({"t"})
Kind = TypeVar("Kind")
SESSION_MS, HEARTBEAT_MS, POLL_MS, BACKOFF_MS = 10_000, 3_000, 60_000, 100.0


class Member:
    """A membership with a clock, and what it last wanted."""

    def __init__(self, *strategies: str, instance: str | None = None) -> None:
        settings = GroupSettings(
            group_id="g",
            group_instance_id=instance,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=POLL_MS,
            assignors=[ASSIGNORS[name] for name in strategies or ("range",)],
        )
        self.it = Membership(settings, Backoff(BACKOFF_MS, BACKOFF_MS, lambda: 0.5))
        self.now = 0.0
        self.effects: list[Effect] = []

    def take(self, effects: list[Effect]) -> Member:
        self.effects = effects
        return self

    def kinds(self) -> list[str]:
        """What was wanted, in short."""
        return [
            type(one.request).__name__.removesuffix("Request")
            if isinstance(one, Send)
            else type(one).__name__
            for one in self.effects
        ]

    def only(self, kind: type[Kind]) -> Kind:
        found = [one for one in self.effects if isinstance(one, kind)]
        assert len(found) == 1, self.effects
        return found[0]

    def wait(self, ms: float) -> Member:
        """Lets time pass at once."""
        self.now += ms
        return self.take(self.it.advance(self.now))

    # --- the way in ---

    def subscribe(self, topics: frozenset[str] = T) -> Member:
        return self.take(self.it.subscribe(topics, self.now))

    def found(self) -> Member:
        return self.take(self.it.coordinator_found(self.now))

    def answer(self, response: Any) -> Member:
        return self.take(self.it.answered(self.only(Send), response, self.now))

    def joined(
        self,
        generation: int = 1,
        *,
        leader: str = "other",
        members: Sequence[tuple[str, Subscription]] = (),
        **more: Any,
    ) -> Member:
        listed = [
            JoinGroupResponseMember(member_id=name, metadata=encode_subscription(one))
            for name, one in members
        ]
        return self.answer(
            JoinGroupResponse(
                generation_id=generation,
                protocol_name=more.pop("protocol_name", "range"),
                protocol_type="consumer",
                leader=leader,
                member_id="me",
                members=listed,
                **more,
            )
        )

    def synced(self, *partitions: Partition) -> Member:
        return self.answer(SyncGroupResponse(assignment=encode_assignment(partitions)))

    def adopted(self, *partitions: Partition) -> Member:
        return self.take(self.it.adopted(self.only(Adopt).duty, frozenset(partitions), self.now))

    def released(self, *left: Partition) -> Member:
        return self.take(self.it.released(self.only(Release).duty, frozenset(left), self.now))

    def heartbeat(self, code: int) -> Member:
        """The next heartbeat, answered."""
        self.wait(HEARTBEAT_MS)
        assert self.kinds() == ["Heartbeat"]
        return self.answer(HeartbeatResponse(error_code=code))


def stable(*strategies: str, partitions: Sequence[Partition] = (("t", 0),), **more: Any) -> Member:
    """A follower that reads."""
    name = strategies[0] if strategies else "range"
    member = Member(*strategies, **more).subscribe().found().joined(protocol_name=name)
    member.synced(*partitions).adopted(*partitions)
    assert member.it.phase is Phase.STABLE
    return member


def test_the_way_in() -> None:
    member = Member().subscribe()
    assert member.kinds() == ["FindCoordinator"]
    assert member.found().kinds() == ["JoinGroup"]
    join = member.only(Send).request
    assert (join.group_id, join.member_id, join.protocol_type) == ("g", "", "consumer")
    assert (join.session_timeout_ms, join.rebalance_timeout_ms) == (SESSION_MS, POLL_MS)
    assert decode_subscription(join.protocols[0].metadata).topics == ("t",)
    member.answer(JoinGroupResponse(error_code=79, member_id="me"))
    assert member.kinds() == ["JoinGroup"]
    assert member.only(Send).request.member_id == "me"
    assert member.joined(3).kinds() == ["SyncGroup"]
    assert member.only(Send).request.assignments == []
    member.synced(("t", 1), ("t", 2))
    assert member.only(Adopt).partitions == {("t", 1), ("t", 2)}
    assert member.adopted(("t", 1), ("t", 2)).effects == []
    assert member.it.phase is Phase.STABLE
    assert member.it.commit_identity() == member.it.identity
    assert (member.it.identity.generation, member.it.identity.member_id) == (3, "me")


def test_a_leader_waits_for_the_partitions_of_all_topics_and_assigns() -> None:
    me, other = Subscription(topics=("t",)), Subscription(topics=("t", "u"))
    member = Member().subscribe().found().joined(leader="me", members=[("me", me), ("other", other)])
    assert member.only(Watch).topics == {"t", "u"}
    assert "SyncGroup" not in member.kinds()
    assert member.take(member.it.topics_known({"t": 4}, {}, 0)).effects == []
    member.take(member.it.topics_known({"u": 0}, {}, 0))
    sync = member.only(Send).request
    given = {one.member_id: decode_assignment(one.assignment) for one in sync.assignments}
    assert given == {"me": [("t", 0), ("t", 1)], "other": [("t", 2), ("t", 3)]}


@pytest.mark.parametrize("counts", [{"t": 3}, {"t": 0}, {"u": 1}])
def test_a_leader_begins_a_rebalance_when_partitions_change(counts: dict[str, int]) -> None:
    both = Subscription(topics=("t", "u"))
    member = Member().subscribe(frozenset({"t", "u"})).found()
    member.take([*member.effects, *member.it.topics_known({"t": 2, "u": 0}, {}, 0)])
    member.joined(leader="me", members=[("me", both)]).effects.remove(member.only(Watch))
    member.synced(("t", 0), ("t", 1)).adopted(("t", 0), ("t", 1))
    assert member.take(member.it.topics_known({"t": 2, "u": 0, "other": 5}, {}, 0)).effects == []
    member.take(member.it.topics_known(counts, {}, 0))
    assert member.kinds() == ["Release"]
    assert member.released().kinds() == ["JoinGroup"]


def test_an_eager_member_gives_all_up_before_it_joins() -> None:
    member = stable(partitions=[("t", 0), ("t", 1)])
    member.heartbeat(27)
    release = member.only(Release)
    assert (release.lost, release.keep_topics) == (False, frozenset())
    # as long as the application is at it, heartbeats go on and nothing is joined
    member.effects = []
    assert member.wait(HEARTBEAT_MS).kinds() == ["Heartbeat"]
    member.answer(HeartbeatResponse(error_code=27))
    assert member.effects == []
    member.take(member.it.released(release.duty, frozenset(), member.now))
    assert member.kinds() == ["JoinGroup"]
    assert decode_subscription(member.only(Send).request.protocols[0].metadata).owned_partitions == ()


def test_a_cooperative_member_keeps_its_partitions_and_joins_again_after_giving_one_up() -> None:
    name = "cooperative-sticky"
    member = stable(name, partitions=[("t", 0), ("t", 1)])
    member.heartbeat(27)
    assert member.kinds() == ["JoinGroup"]
    told = decode_subscription(member.only(Send).request.protocols[0].metadata)
    assert told.owned_partitions == (("t", 0), ("t", 1))
    assert told.generation_id == 1
    # its generation still counts: it reads on, and may commit
    assert member.it.commit_identity() is not None
    member.joined(2, protocol_name=name)
    assert member.it.commit_identity() is None
    member.synced(("t", 0))
    assert member.only(Adopt).partitions == {("t", 0)}
    member.adopted(("t", 0))
    assert member.kinds() == ["JoinGroup"]
    member.joined(3, protocol_name=name).synced(("t", 0)).adopted(("t", 0))
    assert member.effects == []


def test_a_cooperative_member_gives_up_topics_that_it_does_not_want_any_more() -> None:
    member = stable("cooperative-sticky", partitions=[("t", 0)])
    member.take(member.it.subscribe(frozenset({"u"}), member.now))
    assert member.only(Release).keep_topics == {"u"}
    assert member.released().kinds() == ["JoinGroup"]
    assert decode_subscription(member.only(Send).request.protocols[0].metadata).topics == ("u",)


def test_a_group_with_an_eager_assignor_is_eager() -> None:
    assert not Member("range", "cooperative-sticky").it.cooperative
    assert Member("cooperative-sticky").it.cooperative


def test_a_rebalance_while_the_application_adopts_waits_for_it() -> None:
    member = Member("cooperative-sticky").subscribe().found().joined(protocol_name="cooperative-sticky")
    member.synced(("t", 0))
    adopt = member.only(Adopt)
    member.heartbeat(27)
    assert member.effects == []
    member.take(member.it.adopted(adopt.duty, frozenset({("t", 0)}), member.now))
    assert member.kinds() == ["JoinGroup"]


def test_a_sticky_member_tells_what_it_had() -> None:
    member = stable("sticky", partitions=[("t", 3)])
    assert member.heartbeat(27).released().kinds() == ["JoinGroup"]
    told = decode_subscription(member.only(Send).request.protocols[0].metadata)
    assignment = ASSIGNORS["sticky"].assign({"t": 6}, {"me": told, "new": Subscription(topics=("t",))})
    assert ("t", 3) in assignment["me"]


@pytest.mark.parametrize("code", [25, 22])
def test_a_member_that_was_expelled_loses_its_partitions_and_joins_again(code: int) -> None:
    member = stable()
    member.heartbeat(code)
    assert member.only(Release).lost
    assert member.it.commit_identity() is None
    assert member.released().kinds() == ["JoinGroup"]
    # a wrong generation says nothing against the member id
    assert member.only(Send).request.member_id == ("me" if code == 22 else "")


def test_a_late_answer_to_an_old_generation_is_passed_over() -> None:
    member = stable()
    member.wait(HEARTBEAT_MS)
    late = member.only(Send)
    member.take(member.it.commit_refused(27, member.it.identity, member.now)).released().joined(2)
    member.synced(("t", 0)).adopted(("t", 0))
    assert member.take(member.it.answered(late, HeartbeatResponse(error_code=22), member.now)).effects == []
    assert member.it.phase is Phase.STABLE


def test_a_fenced_static_member_stops_for_good() -> None:
    member = stable(instance="i1")
    member.heartbeat(82)
    fail = member.only(Fail)
    assert isinstance(fail.error, FencedInstanceIdError)
    assert "i1" in str(fail.error)
    assert fail.lasting
    assert member.only(Release).lost
    member.released()
    assert member.wait(100_000).effects == []


@pytest.mark.parametrize("code", [23, 24, 26, 30, 35, 81])
def test_an_error_that_stays_is_told_and_tried_again_with_the_next_poll(code: int) -> None:
    member = Member().subscribe().found()
    member.answer(JoinGroupResponse(error_code=code))
    error = member.only(Fail).error
    assert isinstance(error, KafkaError)
    assert error.code == code
    assert member.wait(10 * BACKOFF_MS).effects == []
    member.it.polled(member.now)
    assert member.wait(0).kinds() == ["JoinGroup"]


def test_a_protocol_that_nobody_here_has_is_an_error() -> None:
    member = Member("range").subscribe().found().joined(protocol_name="fair")
    assert isinstance(member.only(Fail).error, InconsistentGroupProtocolError)


def test_malformed_bytes_of_others_are_an_error_and_no_crash() -> None:
    member = Member().subscribe().found()
    bad = JoinGroupResponseMember(member_id="bad", metadata=b"\x00\x00\x7f\xff\xff\xff")
    member.answer(
        JoinGroupResponse(generation_id=1, protocol_name="range", leader="me", member_id="me", members=[bad])
    )
    assert "subscription" in str(member.only(Fail).error)
    member = Member().subscribe().found().joined()
    member.answer(SyncGroupResponse(assignment=b"\x00\x00\x7f\xff\xff\xff"))
    assert "assignment" in str(member.only(Fail).error)


@pytest.mark.parametrize("code", [14, 27])
def test_a_coordinator_that_is_not_ready_is_asked_again_after_a_while(code: int) -> None:
    member = Member().subscribe().found()
    assert member.answer(JoinGroupResponse(error_code=code)).effects == []
    assert member.wait(BACKOFF_MS - 1).effects == []
    assert member.wait(1).kinds() == ["JoinGroup"]


@pytest.mark.parametrize("code", [15, 16])
@pytest.mark.parametrize("response", [JoinGroupResponse, SyncGroupResponse, HeartbeatResponse])
def test_a_coordinator_that_moved_is_looked_for(response: Any, code: int) -> None:
    member = Member().subscribe().found()
    if response is not JoinGroupResponse:
        member.joined()
    if response is HeartbeatResponse:
        member.synced(("t", 0)).adopted(("t", 0)).wait(HEARTBEAT_MS)
    member.answer(response(error_code=code))
    assert isinstance(member.only(LoseCoordinator), LoseCoordinator)
    assert member.wait(BACKOFF_MS).kinds() == ["FindCoordinator"]
    # what it has, it keeps
    assert member.found().kinds() == (["Heartbeat"] if response is HeartbeatResponse else ["JoinGroup"])


def test_a_lost_connection_costs_no_membership() -> None:
    member = stable()
    assert member.take(member.it.coordinator_lost(0)).effects == []
    assert member.wait(BACKOFF_MS).kinds() == ["FindCoordinator"]
    assert member.found().kinds() == ["Heartbeat"]
    assert member.answer(HeartbeatResponse()).effects == []
    assert member.it.phase is Phase.STABLE


def test_sync_says_that_the_group_moved_on() -> None:
    member = Member().subscribe().found().joined()
    assert member.answer(SyncGroupResponse(error_code=27)).kinds() == ["JoinGroup"]
    assert member.only(Send).request.member_id == "me"


def test_heartbeats_come_in_their_interval_one_at_a_time() -> None:
    member = stable()
    assert member.it.next_deadline_ms() == HEARTBEAT_MS
    assert member.wait(HEARTBEAT_MS - 1).effects == []
    assert member.wait(1).kinds() == ["Heartbeat"]
    sent = member.only(Send)
    assert member.wait(HEARTBEAT_MS).effects == []
    member.take(member.it.answered(sent, HeartbeatResponse(), member.now))
    assert member.wait(0).kinds() == ["Heartbeat"]


def test_a_silent_coordinator_is_given_up_after_the_session() -> None:
    member = stable()
    member.wait(HEARTBEAT_MS)
    assert member.wait(SESSION_MS - HEARTBEAT_MS - 1).effects == []
    assert member.wait(1).kinds() == ["LoseCoordinator"]
    assert member.wait(BACKOFF_MS).kinds() == ["FindCoordinator"]


def test_an_application_that_does_not_poll_loses_its_partitions_and_comes_back() -> None:
    member = stable()
    member.it.polled(1_000)
    while member.now < POLL_MS:
        member.heartbeat(0)
        assert member.effects == []
    member.wait(1_000)
    assert member.kinds() == ["LeaveGroup", "Release"]
    assert member.only(Release).lost
    assert member.wait(10 * POLL_MS).effects == []
    # that it asked before is no return
    member.it.polled(1_000)
    assert member.wait(POLL_MS).effects == []
    member.now += 1
    member.it.polled(member.now)
    release_duty = 2  # the first was to adopt
    member.take(member.it.released(release_duty, frozenset(), member.now))
    assert member.kinds() == ["JoinGroup"]


def test_a_member_without_partitions_stays_away_until_it_polls() -> None:
    member = stable(partitions=[])
    while member.now < POLL_MS - HEARTBEAT_MS:
        member.heartbeat(0)
    assert member.wait(HEARTBEAT_MS).kinds() == ["LeaveGroup"]
    member.it.polled(0)
    assert member.wait(POLL_MS).effects == []
    member.it.polled(member.now)
    assert member.wait(0).kinds() == ["JoinGroup"]


def test_heartbeats_alone_do_not_keep_an_absent_application_in() -> None:
    member = stable()
    while member.now < POLL_MS - HEARTBEAT_MS:
        member.heartbeat(0)
    assert "LeaveGroup" in member.wait(HEARTBEAT_MS).kinds()


def test_waiting_for_others_is_no_absence() -> None:
    member = Member().subscribe().found()
    assert member.wait(POLL_MS + 1).effects == []
    assert member.it.phase is Phase.JOINING


def test_leaving_says_farewell_unless_the_member_is_static() -> None:
    member = stable()
    request = member.take(member.it.leave("closed")).only(Send).request
    assert (request.member_id, request.members[0].member_id, request.members[0].reason) == (
        "me",
        "me",
        "closed",
    )
    assert member.wait(10 * POLL_MS).effects == []
    assert stable(instance="i1").it.leave("closed") == []


def test_a_static_leader_that_came_back_changes_nothing_and_watches_on() -> None:
    member = Member(instance="i1").subscribe().found()
    member.take([*member.effects, *member.it.topics_known({"t": 2}, {}, 0)])
    member.joined(7, leader="me", members=[("me", Subscription(topics=("t",)))], skip_assignment=True)
    assert member.kinds() == ["Watch", "SyncGroup"]
    assert member.only(Send).request.assignments == []
    member.synced(("t", 0)).adopted(("t", 0))
    assert member.take(member.it.topics_known({"t": 3}, {}, 0)).kinds() == ["Release"]


def test_a_subscription_that_changes_meanwhile_is_joined_with_afterwards() -> None:
    member = Member().subscribe().found()
    join = member.only(Send)
    assert member.take(member.it.subscribe(frozenset({"t", "u"}), 0)).effects == []
    member.effects = [join]
    member.joined().synced(("t", 0)).adopted(("t", 0))
    assert member.released().kinds() == ["JoinGroup"]
    assert decode_subscription(member.only(Send).request.protocols[0].metadata).topics == ("t", "u")


def test_questions_alone_find_a_coordinator_without_joining() -> None:
    member = Member()
    assert member.wait(0).effects == []
    member.it.requests_wait = True
    assert isinstance(member.wait(0).only(FindCoordinator), FindCoordinator)
    assert member.found().effects == []
    assert member.it.next_deadline_ms() == float("inf")
