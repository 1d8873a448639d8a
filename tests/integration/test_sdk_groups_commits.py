"""Positions of a group: committed by hand, in the background and by themselves, and what of them survives what."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import fastlog
from fastlog.errors import (
    ConfigError,
    FastlogError,
    NoPositionError,
    OffsetMetadataTooLargeError,
    RebalanceInProgressError,
)
from tests.integration.kafka.server import KafkaServer
from tests.integration.test_sdk_groups import produce, read_values
from tests.support.broker import BrokerProcess, wait_until
from tests.support.members import FAST, Party

MakeConsumer = Callable[..., fastlog.Consumer]
Server = KafkaServer | BrokerProcess


@pytest.fixture
def member(group_bootstrap: str, group_topic: str) -> MakeConsumer:
    """Makes a member of the topic's group."""

    def make(**options: Any) -> fastlog.Consumer:
        return fastlog.Consumer(
            group_bootstrap, **{"topics": group_topic, "group_id": group_topic, **FAST, **options}
        )

    return make


def offsets(consumer: fastlog.Consumer) -> dict[int, int]:
    """The committed offsets, by partition number."""
    return {tp.partition: one.offset for tp, one in consumer.committed().items()}


def test_a_commit_keeps_offsets_and_metadata(
    group_bootstrap: str, group_topic: str, member: MakeConsumer
) -> None:
    produce(group_bootstrap, group_topic, 60)
    with member(enable_auto_commit=False) as consumer:
        read_values(consumer, 60)
        assert offsets(consumer) == {}
        consumer.commit()
        assert offsets(consumer) == dict.fromkeys(range(6), 10)
        consumer.commit({(group_topic, 0): fastlog.CommittedOffset(3, "half way"), (group_topic, 1): 4})
        with pytest.raises(OffsetMetadataTooLargeError):
            consumer.commit({(group_topic, 0): fastlog.CommittedOffset(3, "x" * 5_000)})
    with member(enable_auto_commit=False) as consumer:
        values = read_values(consumer, 7 + 6)
        assert sorted(value % 6 for value in values) == [0] * 7 + [1] * 6
        found = consumer.committed([(group_topic, 0)])
        assert found == {(group_topic, 0): (3, "half way", -1)}


def test_without_a_commit_all_is_read_again(
    group_bootstrap: str, group_topic: str, member: MakeConsumer
) -> None:
    produce(group_bootstrap, group_topic, 30)
    for _ in range(2):
        with member(enable_auto_commit=False) as consumer:
            assert sorted(read_values(consumer, 30)) == list(range(30))


def test_commits_in_the_background_are_told_in_their_order(
    group_bootstrap: str, group_topic: str, member: MakeConsumer
) -> None:
    produce(group_bootstrap, group_topic, 60)
    told: list[tuple[int, FastlogError | None, int]] = []
    here = threading.get_ident()
    with member(enable_auto_commit=False) as consumer:
        read_values(consumer, 60)
        for offset in range(1, 6):
            consumer.commit_async(
                {(group_topic, 0): offset},
                lambda done, error: told.append((done[group_topic, 0].offset, error, threading.get_ident())),  # type: ignore[index]
            )
        wait_until("all are told", lambda: consumer.poll(timeout=0.05) == [] and len(told) == 5)
        assert told == [(offset, None, here) for offset in range(1, 6)]
        assert offsets(consumer) == {0: 5}


def test_auto_commit_keeps_only_what_was_handed_out_before(
    group_bootstrap: str, group_topic: str, member: MakeConsumer
) -> None:
    produce(group_bootstrap, group_topic, 60)
    consumer = member(auto_commit_interval_ms=200)
    read_values(consumer, 20)
    # the last twenty are being worked on: time alone commits nothing of them
    time.sleep(1)
    assert kept(group_bootstrap, group_topic) < 20
    consumer.poll(5, timeout=5)
    wait_until("the twenty are committed", lambda: kept(group_bootstrap, group_topic) == 20)
    consumer.close()
    assert kept(group_bootstrap, group_topic) == 25


def kept(bootstrap: str, group: str) -> int:
    """How many records the group is past."""
    with fastlog.Admin(bootstrap) as admin:
        return sum(one.offset for one in admin.list_group_offsets(group).values())


def test_a_failure_while_working_commits_nothing_of_the_last_poll(
    group_bootstrap: str, group_topic: str, member: MakeConsumer
) -> None:
    produce(group_bootstrap, group_topic, 60)

    def work(seconds: float) -> None:
        with member() as consumer:
            read_values(consumer, 60)
            print(1 / seconds)

    with pytest.raises(ZeroDivisionError):
        work(0)
    assert kept(group_bootstrap, group_topic) == 0
    work(1)
    assert kept(group_bootstrap, group_topic) == 60


def test_callbacks_may_commit_seek_pause_and_ask_for_positions(
    group_bootstrap: str, group_topic: str
) -> None:
    produce(group_bootstrap, group_topic, 60)
    log: list[Any] = []

    def assigned(partitions: frozenset[fastlog.TopicPartition]) -> None:
        for tp in sorted(partitions):
            log.append(("at", consumer.position(tp)))
            consumer.seek(tp, 4)
        if partitions:
            consumer.pause(*partitions)
            log.append(("paused", len(consumer.paused())))
            consumer.resume()
            log.append(("committed", len(consumer.committed())))

    def revoked(partitions: frozenset[fastlog.TopicPartition]) -> None:
        consumer.commit(dict.fromkeys(partitions, 7))
        log.append(
            ("revoked", {consumer.position(tp) for tp in partitions}, consumer.assignment() == partitions)
        )

    consumer = fastlog.Consumer(
        group_bootstrap,
        group_id=group_topic,
        on_assign=assigned,
        on_revoke=revoked,
        enable_auto_commit=False,
        **FAST,
    )
    consumer.subscribe(group_topic)
    with consumer:
        read_values(consumer, 36)
        other = fastlog.Consumer(group_bootstrap, topics=group_topic, group_id=group_topic, **FAST)
        with other:
            wait_until(
                "they share",
                lambda: (
                    consumer.poll(timeout=0.05) is not None
                    and other.poll(timeout=0.05) is not None
                    and len(consumer.assignment()) == len(other.assignment()) == 3
                ),
                seconds=15,
            )
    assert log[:8] == [("at", 0)] * 6 + [("paused", 6), ("committed", 0)]
    assert log[8] == ("revoked", {10}, True)
    assert log[9:12] == [("at", 7)] * 3
    assert ("committed", 3) in log


def test_what_a_callback_raises_comes_out_of_poll_and_the_group_goes_on(
    group_bootstrap: str, group_topic: str
) -> None:
    produce(group_bootstrap, group_topic, 12)

    def fail(_: object) -> None:
        raise ZeroDivisionError("in a callback")

    with fastlog.Consumer(
        group_bootstrap, topics=group_topic, group_id=group_topic, on_assign=fail, **FAST
    ) as consumer:
        with pytest.raises(ZeroDivisionError):
            read_values(consumer, 1)
        assert sorted(read_values(consumer, 12)) == list(range(12))


def test_a_commit_between_two_generations_says_so(group_bootstrap: str, group_topic: str) -> None:
    with Party(group_bootstrap, group_topic) as party:
        with fastlog.Consumer(group_bootstrap, topics=group_topic, group_id=group_topic, **FAST) as consumer:
            wait_until("it reads", lambda: consumer.poll(timeout=0.05) == [] and bool(consumer.assignment()))
            party.join()
            # the other waits to be let in, and this one does not come: it holds what it has, and may still commit
            time.sleep(0.5)
            consumer.commit({(group_topic, 0): 0})
        party.settle()


def test_who_is_no_member_cannot_commit_as_one(member: MakeConsumer, group_topic: str) -> None:
    with member() as consumer:
        told = pytest.raises((RebalanceInProgressError, fastlog.errors.UnknownMemberIdError), match="poll")
        # it has not come to ask for its first partitions
        with told:
            consumer.commit({(group_topic, 0): 0})


def test_without_a_position_the_policy_decides(
    group_bootstrap: str, group_topic: str, member: MakeConsumer
) -> None:
    produce(group_bootstrap, group_topic, 12)
    with (
        member(auto_offset_reset="none") as consumer,
        pytest.raises(NoPositionError, match=re.escape(group_topic)),
    ):
        read_values(consumer, 1)
    with member(auto_offset_reset="latest", group_id=f"{group_topic}-late") as consumer:
        wait_until(
            "it knows the ends",
            lambda: consumer.poll(timeout=0.05) == [] and len(consumer.positions()) == 6,
        )
        produce(group_bootstrap, group_topic, 6, first=12)
        assert sorted(read_values(consumer, 6)) == list(range(12, 18))
    # the end was a position too, and it is kept: what came meanwhile is read
    produce(group_bootstrap, group_topic, 6, first=18)
    with member(auto_offset_reset="latest", group_id=f"{group_topic}-late") as consumer:
        assert sorted(read_values(consumer, 6)) == list(range(18, 24))


def test_assigned_partitions_begin_at_the_groups_positions(group_bootstrap: str, group_topic: str) -> None:
    produce(group_bootstrap, group_topic, 60)
    options = {"group_id": group_topic, **FAST}
    with fastlog.Consumer(group_bootstrap, **options) as consumer:
        consumer.assign([(group_topic, 0), (group_topic, 1)])
        assert len(read_values(consumer, 20)) == 20
        consumer.commit({(group_topic, 0): 4})
    with fastlog.Consumer(group_bootstrap, **options) as consumer:
        consumer.assign([(group_topic, 0), (group_topic, 1)])
        # closing has committed the ends again
        assert consumer.positions() == {(group_topic, 0): 10, (group_topic, 1): 10}
        consumer.assign(positions={(group_topic, 0): 2})
        assert len(read_values(consumer, 8)) == 8
        with fastlog.Admin(group_bootstrap) as admin:
            assert admin.describe_groups(group_topic)[0].members == ()


def test_committing_needs_a_group(group_bootstrap: str) -> None:
    with fastlog.Consumer(group_bootstrap) as consumer:
        for call in (consumer.commit, consumer.commit_async, consumer.committed, consumer.group_metadata):
            with pytest.raises(ConfigError, match="group_id"):
                call()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_close_does_not_hang_when_the_coordinator_is_gone(
    how: signal.Signals, group_server: Server, topic_name: str
) -> None:
    revoked: list[Any] = []
    # those of other tests, which leave clients to the garbage collector
    earlier = set(threading.enumerate())
    consumer = begin(group_server, topic_name, on_revoke=revoked.append)
    read_values(consumer, 60)
    assert group_server.process is not None
    group_server.process.send_signal(how)
    start = time.monotonic()
    consumer.close(timeout=2)
    assert time.monotonic() - start < 3
    assert len(revoked) == 1
    # a thread that waits for an answer ends when that is overdue
    names = ("fastlog-group", "fastlog-consumer")
    wait_until(
        "the threads end", lambda: not [t for t in set(threading.enumerate()) - earlier if t.name in names]
    )


@pytest.mark.timeout(120)
def test_a_coordinator_that_restarts_costs_neither_membership_nor_positions(
    group_server: Server, topic_name: str
) -> None:
    told: list[Any] = []
    consumer = begin(
        group_server,
        topic_name,
        on_revoke=told.append,
        on_lost=told.append,
        enable_auto_commit=False,
        session_timeout_ms=30_000,
    )
    with consumer:
        read_values(consumer, 30)
        consumer.commit()
        before = consumer.group_metadata()
        kept = consumer.committed()
        assert group_server.process is not None
        group_server.process.kill()
        group_server.process.wait()
        assert sorted(consumer.assignment()) == [(topic_name, number) for number in range(6)]
        group_server.start()
        assert consumer.committed(timeout=60) == kept
        read_values(consumer, 30)
        consumer.commit(timeout=60)
        assert sum(one.offset for one in consumer.committed().values()) == 60
        assert consumer.group_metadata() == before
        assert told == []


def begin(server: Server, topic: str, **options: Any) -> fastlog.Consumer:
    """A member that may read sixty records of a new topic."""
    with fastlog.Admin(server.bootstrap) as admin:
        admin.create_topic(topic, partitions=6)
    produce(server.bootstrap, topic, 60)
    return fastlog.Consumer(server.bootstrap, topics=topic, group_id=topic, **{**FAST, **options})
