"""A member against scripted coordinators that move, load, refuse, fall silent or vanish."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastlog.client.consumer import Consumer
from fastlog.client.group import commits, driver
from fastlog.errors import (
    BufferFullError,
    ClosedError,
    FastlogError,
    GroupAuthorizationFailedError,
    IllegalGenerationError,
    NotReachableError,
    RebalanceInProgressError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
)
from fastlog.native._records import Record
from tests.support.broker import wait_until
from tests.support.fake_cluster import FakeCluster
from tests.support.fake_group import COMMIT, FETCH, FIND, HEARTBEAT, JOIN, LEAVE, SYNC, FakeGroup

MakeMember = Callable[..., Consumer]
VALUES = [b"%d" % number for number in range(10)]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    """Two brokers; the topic t has ten records in one partition."""
    with FakeCluster(2) as made:
        (partition,) = made.create("t")
        partition.append(*VALUES)
        yield made


@pytest.fixture
def group(cluster: FakeCluster) -> FakeGroup:
    return FakeGroup(cluster)


@pytest.fixture
def member(cluster: FakeCluster, group: FakeGroup) -> Iterator[MakeMember]:
    made: list[Consumer] = []

    def make(**options: Any) -> Consumer:
        settings = {
            "topics": "t",
            "group_id": "g",
            "auto_offset_reset": "earliest",
            "fetch_max_wait_ms": 50,
            "retry_backoff_ms": 10,
            "heartbeat_interval_ms": 30,
            **options,
        }
        made.append(Consumer(cluster.bootstrap, **settings))
        return made[-1]

    yield make
    cluster.answering.set()
    for consumer in made:
        consumer.close(timeout=1)


def read(consumer: Consumer, count: int, seconds: float = 10.0) -> list[Record]:
    """`count` records; fewer fail the test."""
    records: list[Record] = []
    deadline = time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        records += consumer.poll(count - len(records), timeout=0.2)
    assert len(records) == count
    return records


@pytest.mark.parametrize("key", [FIND, JOIN, SYNC, FETCH])
@pytest.mark.parametrize("code", [14, 15, 16])
def test_a_coordinator_that_is_not_ready_is_waited_for(
    key: int, code: int, group: FakeGroup, member: MakeMember
) -> None:
    group.errors[key].extend([code, code])
    assert [one.offset for one in read(member(), 10)] == list(range(10))
    assert not group.errors[key]


def test_a_group_begins_where_it_stood(group: FakeGroup, member: MakeMember) -> None:
    group.offsets["t", 0] = 4
    assert read(member(), 1)[0].offset == 4


def test_an_open_transaction_on_positions_is_waited_for(group: FakeGroup, member: MakeMember) -> None:
    group.offsets["t", 0] = 4
    group.errors[FETCH].extend([88, 88, 88])
    assert read(member(), 1)[0].offset == 4


def test_positions_that_may_not_be_seen_are_an_error_until_one_seeks(
    group: FakeGroup, member: MakeMember
) -> None:
    group.errors[FETCH].append(30)
    consumer = member()
    for _ in range(2):
        with pytest.raises(GroupAuthorizationFailedError):
            read(consumer, 1)
    consumer.seek(("t", 0), 3)
    assert read(consumer, 1)[0].offset == 3


def test_a_group_that_may_not_be_joined_is_an_error(group: FakeGroup, member: MakeMember) -> None:
    group.errors[FIND].append(30)
    consumer = member()
    with pytest.raises(GroupAuthorizationFailedError, match="'g'"):
        read(consumer, 1)
    # asking again is trying again
    assert read(consumer, 10)


def test_a_broker_without_groups_is_an_error(cluster: FakeCluster, member: MakeMember) -> None:
    for key in (FIND, JOIN, SYNC):
        del cluster.offered[key]
    with pytest.raises(UnsupportedVersionError, match="FIND_COORDINATOR"):
        read(member(), 1)


def test_static_membership_needs_a_broker_that_knows_it(cluster: FakeCluster, member: MakeMember) -> None:
    cluster.offered[JOIN] = (2, 4)
    with pytest.raises(UnsupportedVersionError, match="group_instance_id"):
        read(member(group_instance_id="i"), 1)


def test_a_coordinator_that_moves_is_followed_and_nothing_is_lost(
    group: FakeGroup, member: MakeMember
) -> None:
    consumer = member(enable_auto_commit=False)
    read(consumer, 5)
    generation = group.generation
    group.coordinator = 1
    consumer.commit()
    assert group.commits == [(generation, {("t", 0): 5})]
    read(consumer, 5)
    assert group.generation == generation, "it kept its membership"


def test_a_silent_coordinator_is_left_for_its_successor(
    cluster: FakeCluster, group: FakeGroup, member: MakeMember, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "HEARTBEAT_TIMEOUT_MS", 100.0)
    monkeypatch.setattr(driver, "PATIENCE_MS", 100.0)
    consumer = member(enable_auto_commit=False)
    read(consumer, 5)
    generation = group.generation
    # its connections stay open, as those of a process that is stopped; it may be asked for its successor too
    cluster.brokers[0].answering.clear()
    group.coordinator = 1
    # long before request_timeout_ms, 30 s
    consumer.commit(timeout=10)
    assert group.commits[-1] == (generation, {("t", 0): 5})
    assert group.generation == generation, "it kept its membership"


def test_a_connection_that_breaks_costs_no_membership(
    cluster: FakeCluster, group: FakeGroup, member: MakeMember
) -> None:
    consumer = member(enable_auto_commit=False)
    read(consumer, 5)
    for _ in range(3):
        cluster.brokers[0].drop_connections()
        consumer.commit()
    assert [offsets for _, offsets in group.commits] == [{("t", 0): 5}] * len(group.commits)
    assert read(consumer, 5)[0].offset == 5
    assert group.generation == 1


@pytest.mark.parametrize("code", [14, 15, 16, 7, 3])
def test_a_commit_waits_out_what_passes(code: int, group: FakeGroup, member: MakeMember) -> None:
    consumer = member(enable_auto_commit=False)
    read(consumer, 5)
    group.errors[COMMIT].extend([code, code])
    consumer.commit()
    assert group.offsets == {("t", 0): 5}


def test_a_commit_to_a_topic_that_is_not_there_is_refused_soon(group: FakeGroup, member: MakeMember) -> None:
    consumer = member(enable_auto_commit=False)
    read(consumer, 5)
    group.errors[COMMIT].extend([3] * 10)
    with pytest.raises(UnknownTopicOrPartitionError, match="does not exist"):
        consumer.commit({("no-such-topic", 0): 5})
    assert len(group.errors[COMMIT]) == 6, "three tries more"


def test_a_commit_gives_up_in_its_time(group: FakeGroup, member: MakeMember) -> None:
    consumer = member(enable_auto_commit=False)
    read(consumer, 5)
    group.errors[COMMIT].extend([14] * 10_000)
    start = time.monotonic()
    with pytest.raises(NotReachableError, match=r"group 'g'.*the time given is over"):
        consumer.commit(timeout=0.3)
    assert time.monotonic() - start < 3
    group.errors[COMMIT].clear()
    consumer.commit()


def test_a_commit_during_a_rebalance_is_told_and_the_next_one_is_taken(
    group: FakeGroup, member: MakeMember
) -> None:
    consumer = member(enable_auto_commit=False)
    read(consumer, 5)
    group.errors[COMMIT].append(27)
    with pytest.raises(RebalanceInProgressError, match="poll, then commit again"):
        consumer.commit()
    # the eager member reads on from the group's position: that is none
    wait_until("it joined again", lambda: read(consumer, 1)[0].offset >= 0 and group.generation == 2)
    consumer.commit()
    assert group.commits[-1][0] == 2


def test_a_commit_of_a_generation_that_is_over_is_told_and_partitions_are_lost(
    group: FakeGroup, member: MakeMember
) -> None:
    lost: list[Any] = []
    consumer = member(enable_auto_commit=False, on_lost=lost.append)
    read(consumer, 5)
    group.errors[COMMIT].append(22)
    with pytest.raises(IllegalGenerationError, match="may be read twice"):
        consumer.commit()
    read(consumer, 5)
    assert lost == [{("t", 0)}]
    assert group.generation == 2


def test_commits_in_the_background_keep_their_order_through_a_lost_connection(
    cluster: FakeCluster, group: FakeGroup, member: MakeMember
) -> None:
    told: list[FastlogError | None] = []
    consumer = member(enable_auto_commit=False)
    read(consumer, 5)
    for offset in range(1, 101):
        consumer.commit_async({("t", 0): offset}, lambda _offsets, error: told.append(error))
        if offset % 30 == 0:
            cluster.brokers[0].drop_connections()
    wait_until("all are told", lambda: consumer.poll(timeout=0.02) is not None and len(told) == 100)
    kept = [offsets["t", 0] for _, offsets in group.commits]
    assert kept == sorted(kept)
    assert told[-1] is not None or kept[-1] == 100
    assert all(isinstance(error, NotReachableError) for error in told if error is not None)


def test_commits_that_wait_together_become_one(
    cluster: FakeCluster, group: FakeGroup, member: MakeMember
) -> None:
    cluster.create("u", 2)
    told: list[int] = []
    consumer = member(enable_auto_commit=False)
    read(consumer, 5)
    answer, go_on = cluster.more[COMMIT], threading.Event()

    def hold(broker: int, request: Any) -> Any:
        go_on.wait(10)
        return answer(broker, request)

    cluster.more[COMMIT] = hold
    for number in range(1, 5_001):
        offsets = {("u", number % 2): number}
        consumer.commit_async(offsets, lambda _offsets, _error, number=number: told.append(number))  # type: ignore[misc]
    go_on.set()
    consumer.commit({("t", 0): 3})
    assert told == list(range(1, 5_001))
    assert group.offsets == {("u", 0): 5_000, ("u", 1): 4_999, ("t", 0): 3}
    assert len(group.commits) < 10


def test_too_many_commits_in_the_background_are_refused(
    cluster: FakeCluster, member: MakeMember, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "UNTOLD_MAX", 50)
    consumer = member(enable_auto_commit=False)
    read(consumer, 5)
    cluster.answering.clear()
    for offset in range(50):
        consumer.commit_async({("t", 0): offset})
    with pytest.raises(BufferFullError, match="commit less often"):
        consumer.commit_async({("t", 0): 50})


def test_close_in_a_callback_ends_the_reading(group: FakeGroup, member: MakeMember) -> None:
    consumer = member(topics=None, on_assign=lambda _: consumer.close())
    consumer.subscribe("t")
    with pytest.raises(ClosedError):
        read(consumer, 1)
    assert group.left == ["me"]


def test_a_poll_in_a_callback_is_refused_and_does_no_harm(member: MakeMember) -> None:
    consumer = member(topics=None, on_assign=lambda _: consumer.poll(3, timeout=2))
    consumer.subscribe("t")
    with pytest.raises(FastlogError, match="return from the callback first"):
        read(consumer, 1)
    assert [record.offset for record in read(consumer, 10)] == list(range(10))


def test_close_leaves_and_commits(group: FakeGroup, member: MakeMember) -> None:
    consumer = member()
    read(consumer, 7)
    consumer.close()
    assert group.offsets == {("t", 0): 7}
    assert group.left == ["me"]


def test_close_from_another_thread_ends_an_iteration_and_commits(
    group: FakeGroup, member: MakeMember
) -> None:
    consumer = member()
    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.extend(one.offset for one in consumer))
    reader.start()
    wait_until("all is read", lambda: group.generation == 1 and len(consumer.positions()) == 1)
    wait_until("it waits for more", lambda: consumer.positions() == {("t", 0): 10})
    consumer.close()
    reader.join(5)
    assert not reader.is_alive()
    assert seen == list(range(10))
    assert group.offsets == {("t", 0): 10}
    assert group.left == ["me"]


def test_close_from_another_thread_commits_nothing_that_is_being_worked_on(
    group: FakeGroup, member: MakeMember
) -> None:
    consumer = member()
    at_work, go_on = threading.Event(), threading.Event()

    def work() -> None:
        read(consumer, 5)
        at_work.set()
        go_on.wait(10)

    reader = threading.Thread(target=work)
    reader.start()
    assert at_work.wait(10)
    consumer.close()
    go_on.set()
    reader.join(5)
    assert group.offsets == {}
    assert group.left == ["me"]


@pytest.mark.parametrize("key", [COMMIT, LEAVE, HEARTBEAT])
def test_close_does_not_hang_with_a_silent_coordinator(
    key: int, cluster: FakeCluster, member: MakeMember
) -> None:
    revoked: list[Any] = []
    consumer = member(on_revoke=revoked.append, heartbeat_interval_ms=30 if key == HEARTBEAT else 3_000)
    read(consumer, 5)
    silent = threading.Event()
    answer = cluster.more[key]

    def hold(broker: int, request: Any) -> Any:
        silent.wait(10)
        return answer(broker, request)

    cluster.more[key] = hold
    start = time.monotonic()
    consumer.close(timeout=0.5)
    assert time.monotonic() - start < 2
    assert revoked == [{("t", 0)}]
    silent.set()


def test_close_while_joining_leaves_at_once(
    cluster: FakeCluster, group: FakeGroup, member: MakeMember
) -> None:
    joining, go_on = threading.Event(), threading.Event()
    answer = cluster.more[JOIN]

    def hold(broker: int, request: Any) -> Any:
        if request.member_id:
            joining.set()
            go_on.wait(10)
        return answer(broker, request)

    cluster.more[JOIN] = hold
    consumer = member()
    assert joining.wait(10)
    start = time.monotonic()
    consumer.close(timeout=5)
    assert time.monotonic() - start < 2
    assert group.left == ["me"]
    go_on.set()


def test_a_closed_consumer_says_so(member: MakeMember) -> None:
    consumer = member()
    consumer.close()
    for call in (consumer.commit, consumer.committed, consumer.poll, consumer.group_metadata):
        with pytest.raises(ClosedError):
            call()


def test_a_dropped_consumer_leaves_its_group(cluster: FakeCluster, group: FakeGroup) -> None:
    others = set(threading.enumerate())
    consumer = Consumer(cluster.bootstrap, topics="t", group_id="g", auto_offset_reset="earliest")
    read(consumer, 5)
    del consumer
    gc.collect()
    wait_until("it left", lambda: group.left == ["me"])
    wait_until(
        "its threads ended",
        lambda: not any(it.name.startswith("fastlog-") for it in set(threading.enumerate()) - others),
    )
    # what it was working on is not done
    assert group.offsets == {}
