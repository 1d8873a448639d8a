"""A member of the consumer protocol, step by step: no sockets, threads or clocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import pytest

from fastlog.client.backoff import Backoff
from fastlog.client.group.consumer_membership import ConsumerGroupSettings, ConsumerMembership, Phase
from fastlog.client.group.effects import (
    Adopt,
    Effect,
    Fail,
    FindCoordinator,
    LoseCoordinator,
    MatchHere,
    NameTopics,
    Release,
    Send,
    Watch,
)
from fastlog.errors import (
    FencedInstanceIdError,
    InvalidRegularExpressionError,
    KafkaError,
    UnsupportedVersionError,
)
from fastlog.protocol.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)

T_ID, U_ID = b"t" * 16, b"u" * 16
NAMES = {T_ID: "t", U_ID: "u"}
T0, T1, U0 = ("t", 0), ("t", 1), ("u", 0)
HEARTBEAT_MS, POLL_MS, BACKOFF_MS = 3_000, 60_000, 100.0
Kind = TypeVar("Kind")


class Member:
    """A membership with a clock, and what it last wanted."""

    def __init__(self, *, instance: str | None = None, assignor: str | None = None) -> None:
        settings = ConsumerGroupSettings(
            group_id="g",
            member_id="me",
            group_instance_id=instance,
            max_poll_interval_ms=POLL_MS,
            remote_assignor=assignor,
            rack="r1",
        )
        self.it = ConsumerMembership(settings, Backoff(BACKOFF_MS, BACKOFF_MS, lambda: 0.5))
        self.now = 0.0
        self.effects: list[Effect] = []
        self.sent: Send | None = None

    def take(self, effects: list[Effect]) -> Member:
        self.effects = effects
        self.sent = next((one for one in effects if isinstance(one, Send)), self.sent)
        return self

    def kinds(self) -> list[str]:
        """What was wanted, in short."""
        return [type(one).__name__ for one in self.effects]

    def only(self, kind: type[Kind]) -> Kind:
        found = [one for one in self.effects if isinstance(one, kind)]
        assert len(found) == 1, self.effects
        return found[0]

    @property
    def request(self) -> ConsumerGroupHeartbeatRequest:
        """The heartbeat that was last wanted."""
        sent: ConsumerGroupHeartbeatRequest = self.only(Send).request
        return sent

    def wait(self, ms: float) -> Member:
        """Lets time pass at once."""
        self.now += ms
        return self.take(self.it.advance(self.now))

    def subscribe(self, *topics: str) -> Member:
        return self.take(self.it.subscribe(frozenset(topics or ("t",)), self.now))

    def expect(self, regex: str) -> Member:
        return self.take(self.it.subscribe_pattern(regex, self.now))

    def found(self) -> Member:
        return self.take(self.it.coordinator_found(self.now))

    def answer(self, epoch: int = 1, assigned: dict[bytes, list[int]] | None = None, **more: Any) -> Member:
        """The answer to the heartbeat that was last wanted."""
        assignment = None
        if assigned is not None:
            assignment = Assignment(
                [TopicPartitions(topic_id=one, partitions=numbers) for one, numbers in assigned.items()]
            )
        response = ConsumerGroupHeartbeatResponse(
            member_id="me",
            member_epoch=epoch,
            heartbeat_interval_ms=HEARTBEAT_MS,
            assignment=assignment,
            **more,
        )
        assert self.sent is not None
        return self.take(self.it.answered(self.sent, response, self.now))

    def refused(self, code: int) -> Member:
        return self.answer(0, error_code=code)

    def adopted(self, *partitions: tuple[str, int]) -> Member:
        return self.take(self.it.adopted(self.only(Adopt).duty, frozenset(partitions), self.now))

    def released(self) -> Member:
        return self.take(self.it.released(self.only(Release).duty, frozenset(), self.now))


def stable(**more: Any) -> Member:
    """A member that reads one partition, and has said so."""
    member = Member(**more)
    member.it.topics_known({}, NAMES, 0)
    member.subscribe().found().answer(1, {T_ID: [0]}).adopted(T0).answer(1)
    assert member.it.phase is Phase.STABLE
    assert member.it.owned == {T0}
    return member


def owned(request: ConsumerGroupHeartbeatRequest) -> dict[bytes, Sequence[int]] | None:
    told = request.topic_partitions
    return None if told is None else {one.topic_id: one.partitions for one in told}


def test_the_way_in() -> None:
    member = Member(assignor="range")
    assert member.subscribe("t", "u").kinds() == ["FindCoordinator"]
    first = member.found().request
    assert (first.member_id, first.member_epoch, first.rack_id) == ("me", 0, "r1")
    assert (first.subscribed_topic_names, first.server_assignor, owned(first)) == (["t", "u"], "range", {})
    assert first.rebalance_timeout_ms == POLL_MS
    member.it.topics_known({}, NAMES, 0)
    assert member.it.commit_identity() is None
    assert member.answer(3, {T_ID: [0, 1]}).only(Adopt).partitions == {T0, T1}
    identity = member.it.commit_identity()
    assert identity is not None
    assert identity.generation == 3
    told = member.adopted(T0, T1).request
    assert (told.member_epoch, owned(told)) == (3, {T_ID: [0, 1]})
    # what has not changed is not said again
    assert (told.subscribed_topic_names, told.server_assignor, told.rebalance_timeout_ms) == (None, None, -1)
    assert member.answer(3).effects == []
    assert owned(member.wait(HEARTBEAT_MS).request) is None


def test_heartbeats_come_in_the_coordinators_interval_one_at_a_time() -> None:
    member = stable()
    assert member.wait(HEARTBEAT_MS - 1).effects == []
    assert member.wait(1).kinds() == ["Send"]
    assert member.wait(HEARTBEAT_MS * 3).effects == []
    sent = member.it.next_deadline_ms()
    assert sent > member.now


def test_another_assignment_is_taken_in_one_step_and_told() -> None:
    member = stable()
    member.wait(HEARTBEAT_MS).answer(2, {T_ID: [1], U_ID: [0]})
    assert member.only(Adopt).partitions == {T1, U0}
    assert owned(member.adopted(T1, U0).request) == {T_ID: [1], U_ID: [0]}
    assert member.answer(2).effects == []


def test_heartbeats_go_on_while_the_application_takes_its_time_and_say_nothing_new() -> None:
    member = stable()
    adopt = member.wait(HEARTBEAT_MS).answer(2, {T_ID: [1]}).only(Adopt)
    assert owned(member.wait(HEARTBEAT_MS).request) is None
    member.answer(2)
    effects = member.it.adopted(adopt.duty, frozenset({T1}), member.now)
    assert owned(member.take(effects).request) == {T_ID: [1]}


def test_a_lost_coordinator_is_told_what_the_application_still_reads() -> None:
    member = stable()
    member.wait(HEARTBEAT_MS).answer(2, {U_ID: [0]})
    # the partition that is given up is not free before the application has done so
    member.take(member.it.coordinator_lost(member.now))
    assert member.wait(BACKOFF_MS * 2).kinds() == ["FindCoordinator"]
    told = member.found().request
    assert (told.member_epoch, told.subscribed_topic_names, owned(told)) == (2, ["t"], {T_ID: [0]})


def test_an_assignment_that_comes_meanwhile_is_taken_afterwards() -> None:
    member = stable()
    first = member.wait(HEARTBEAT_MS).answer(2, {T_ID: [1]}).only(Adopt)
    assert member.wait(HEARTBEAT_MS).answer(3, {U_ID: [0]}).effects == []
    member.take(member.it.adopted(first.duty, frozenset({T1}), member.now))
    assert member.only(Adopt).partitions == {U0}
    assert owned(member.request) == {T_ID: [1]}


def test_a_topic_whose_name_is_not_known_yet_is_taken_when_it_is() -> None:
    member = Member()
    member.subscribe().found().answer(1, {T_ID: [0], U_ID: [0]})
    assert member.only(Watch).topics == {"t"}
    assert member.take(member.it.topics_known({}, {T_ID: "t"}, member.now)).only(Adopt).partitions == {T0}
    member.adopted(T0)
    assert owned(member.request) == {T_ID: [0]}
    assert member.take(member.it.topics_known({}, {U_ID: "u"}, member.now)).only(Adopt).partitions == {T0, U0}


def test_a_topic_that_was_made_anew_keeps_its_partitions() -> None:
    member = stable()
    new = b"n" * 16
    member.it.topics_known({}, {new: "t"}, member.now)
    assert member.wait(HEARTBEAT_MS).answer(2, {new: [0]}).effects == []
    assert member.it.owned == {T0}


def test_another_subscription_is_told_at_once() -> None:
    member = stable()
    assert member.subscribe("u").request.subscribed_topic_names == ["u"]
    # and once more what was changed while that was under way
    member.subscribe("t", "u")
    assert member.effects == []
    assert member.answer(2).request.subscribed_topic_names == ["t", "u"]


@pytest.mark.parametrize("code", [25, 110])
def test_a_member_that_was_expelled_loses_its_partitions_and_joins_again(code: int) -> None:
    member = stable()
    assert member.wait(HEARTBEAT_MS).refused(code).only(Release).lost
    assert member.it.commit_identity() is None
    assert member.released().effects == []
    again = member.wait(BACKOFF_MS * 2).request
    assert (again.member_id, again.member_epoch, owned(again)) == ("me", 0, {})
    assert again.subscribed_topic_names == ["t"]


def test_a_late_answer_to_an_old_epoch_is_passed_over() -> None:
    member = stable()
    old = member.wait(HEARTBEAT_MS).only(Send)
    member.take(member.it.commit_refused(25, old.identity, member.now)).released()
    late = ConsumerGroupHeartbeatResponse(member_id="me", member_epoch=9)
    assert member.it.answered(old, late, member.now) == []
    assert member.it.identity.generation == 0


@pytest.mark.parametrize("code", [15, 16])
def test_a_coordinator_that_moved_is_looked_for(code: int) -> None:
    member = stable()
    member.wait(HEARTBEAT_MS).refused(code)
    member.only(LoseCoordinator)
    assert member.wait(BACKOFF_MS * 2).kinds() == ["FindCoordinator"]
    assert member.found().request.member_epoch == 1


def test_a_coordinator_that_reads_its_log_is_asked_again_after_a_while() -> None:
    member = stable()
    assert member.wait(HEARTBEAT_MS).refused(14).effects == []
    assert member.wait(BACKOFF_MS * 2).request.member_epoch == 1


@pytest.mark.parametrize("code", [112, 111, 81, 30, 42])
def test_an_error_that_stays_is_told_and_tried_again_with_the_next_poll(code: int) -> None:
    member = Member().subscribe().found()
    error = member.refused(code).only(Fail)
    assert isinstance(error.error, KafkaError)
    assert (error.error.code, error.lasting) == (code, False)
    assert member.wait(BACKOFF_MS * 10).effects == []
    member.it.polled(member.now)
    assert member.wait(0).request.member_epoch == 0


def test_a_fenced_static_member_stops_for_good() -> None:
    member = stable(instance="a")
    failure = member.wait(HEARTBEAT_MS).refused(82).only(Fail)
    assert isinstance(failure.error, FencedInstanceIdError)
    assert failure.lasting
    member.released()
    member.it.polled(member.now)
    assert member.wait(HEARTBEAT_MS * 10).effects == []


def test_an_older_broker_is_named() -> None:
    member = Member().subscribe().found()
    error = UnsupportedVersionError("the broker does not know it")
    told = member.take(member.it.coordinator_refused(error, member.now)).only(Fail).error
    assert "group_protocol='classic'" in str(told)


@pytest.mark.parametrize(("instance", "epoch"), [(None, -1), ("a", -2)])
def test_leaving_says_farewell(instance: str | None, epoch: int) -> None:
    member = stable(instance=instance)
    farewell = member.take(member.it.leave("done")).request
    assert (farewell.member_epoch, farewell.instance_id, owned(farewell)) == (epoch, instance, None)
    # its answer changes nothing
    assert member.answer(epoch).effects == []
    again = member.subscribe().request
    assert (again.member_epoch, owned(again)) == (0, {})


def test_who_was_never_heard_of_says_no_farewell() -> None:
    member = Member().subscribe()
    assert member.take(member.it.leave("done")).effects == []


def test_an_application_that_does_not_poll_loses_its_partitions_and_comes_back() -> None:
    member = stable()
    for _ in range(int(POLL_MS / HEARTBEAT_MS) - 1):
        member.wait(HEARTBEAT_MS).answer(1)
    member.wait(HEARTBEAT_MS)
    assert member.request.member_epoch == -1
    assert member.only(Release).lost
    member.released()
    assert member.wait(HEARTBEAT_MS * 10).effects == []
    member.it.polled(member.now)
    assert member.wait(0).request.member_epoch == 0


def test_waiting_for_a_coordinator_is_no_absence() -> None:
    member = Member().subscribe()
    member.it.topics_known({}, NAMES, 0)
    member.now = POLL_MS * 2
    member.found().answer(1, {T_ID: [0]})
    assert member.only(Adopt).partitions == {T0}


def test_questions_alone_find_a_coordinator_without_joining() -> None:
    member = Member()
    member.it.requests_wait = True
    member.take(member.it.advance(0)).only(FindCoordinator)
    assert member.found().effects == []


# --- patterns ---


def test_a_pattern_is_told_once_and_the_coordinator_matches_it() -> None:
    member = Member()
    first = member.expect("t|u").found().request
    assert (first.subscribed_topic_names, first.subscribed_topic_regex) == ([], "t|u")
    assert member.answer(1, {T_ID: [0]}).only(NameTopics).ids == {T_ID}
    named = member.take(member.it.topics_known({}, {T_ID: "t"}, member.now))
    assert (named.only(NameTopics).ids, named.only(Adopt).partitions) == (frozenset(), {T0})
    told = member.adopted(T0).request
    assert (told.subscribed_topic_names, told.subscribed_topic_regex) == (None, None)
    # one that appears is known by its id only, until it has its name or is gone
    assert member.answer(2, {T_ID: [0], U_ID: [0]}).only(NameTopics).ids == {U_ID}
    member.wait(HEARTBEAT_MS)
    assert member.answer(3, {T_ID: [0]}).only(NameTopics).ids == frozenset()
    member.wait(HEARTBEAT_MS)
    assert member.answer(3).kinds() == []


def test_another_pattern_and_none_are_told_at_once() -> None:
    member = Member()
    member.it.topics_known({}, NAMES, 0)
    member.expect("t").found().answer(1, {T_ID: [0]}).adopted(T0).answer(1)
    assert member.expect("u").request.subscribed_topic_regex == "u"
    member.answer(2)
    names = member.subscribe("t").request
    assert (names.subscribed_topic_names, names.subscribed_topic_regex) == (["t"], "")
    member.answer(3)
    assert member.expect("t.*").request.subscribed_topic_regex == "t.*"


def test_a_coordinator_that_may_have_an_old_pattern_is_told_that_there_is_none() -> None:
    member = Member()
    member.expect("t").found().answer(1)
    assert member.subscribe("u").request.subscribed_topic_regex == ""
    # the answer is lost
    member.take(member.it.coordinator_lost(member.now)).wait(BACKOFF_MS)
    again = member.found().request
    assert (again.subscribed_topic_names, again.subscribed_topic_regex) == (["u"], "")
    assert Member().subscribe().found().request.subscribed_topic_regex is None


def test_an_expression_that_the_broker_does_not_take_is_told_to_the_application() -> None:
    member = Member()
    member.expect("(?=t)").found()
    error = member.answer(0, error_code=128, error_message="no look-ahead").only(Fail).error
    assert isinstance(error, InvalidRegularExpressionError)
    assert "no look-ahead" in str(error)
    assert "RE2" in str(error)
    # a poll tries again
    member.now += BACKOFF_MS
    member.it.polled(member.now)
    assert member.wait(0).request.subscribed_topic_regex == "(?=t)"


def test_where_the_coordinator_is_too_old_for_patterns_they_are_matched_here() -> None:
    member = Member()
    member.expect("t").found()
    assert member.take(member.it.patterns_unsupported(member.now)).kinds() == ["MatchHere"]
    assert member.wait(HEARTBEAT_MS).kinds() == [], "it waits for what matches"
    request = member.subscribe("t").request
    assert (request.subscribed_topic_names, request.member_epoch) == (["t"], 0)
    assert not request.subscribed_topic_regex
    assert not member.it.matches_patterns
    assert member.expect("u").only(MatchHere)


def test_a_member_keeps_what_it_has_when_a_coordinator_is_too_old_for_its_pattern() -> None:
    member = Member()
    member.it.topics_known({}, NAMES, 0)
    member.expect("t").found().answer(1, {T_ID: [0]}).adopted(T0).answer(1)
    member.take(member.it.coordinator_lost(member.now)).wait(BACKOFF_MS)
    member.found()
    assert member.take(member.it.patterns_unsupported(member.now)).kinds() == ["MatchHere"]
    request = member.subscribe("t").request
    assert (request.subscribed_topic_names, request.member_epoch) == (["t"], 1)
    assert owned(request) == {T_ID: [0]}
