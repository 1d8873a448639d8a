"""Members of a group: they share partitions through joins, leaves, deaths and absences."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

import fastlog
from fastlog.errors import FencedInstanceIdError
from tests.support.broker import wait_until
from tests.support.members import FAST, PROCESS_SESSION_SECONDS, MemberProcess, Party

STRATEGIES = ["range", "roundrobin", "sticky", "cooperative-sticky"]


def produce(bootstrap: str, topic: str, count: int, *, first: int = 0, partitions: int = 6) -> None:
    """Values first, first + 1, … round robin over the partitions."""
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    for number in range(first, first + count):
        producer.produce(topic, b"%d" % number, partition=number % partitions)
    assert producer.flush(30) == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_members_share_the_partitions_and_lose_nothing_as_they_come_and_go(
    group_bootstrap: str, group_topic: str, strategy: str
) -> None:
    produced = 0
    with Party(group_bootstrap, group_topic, partition_assignment_strategy=strategy) as party:
        gone = []
        for step in ("join", "join", "leave", "join", "leave"):
            if step == "join":
                party.join()
            else:
                gone.append(party.members[0])
                party.leave(party.members[0])
            produce(group_bootstrap, group_topic, 300, first=produced)
            produced += 300
            party.settle()

        def arrived() -> int:
            return sum(len(member.records) for member in (*party.members, *gone))

        wait_until("all records are read", lambda: arrived() >= produced, seconds=20)
        everything = [r for member in (*party.members, *gone) for r in member.records]
    values = sorted(int(record.value or b"") for record in everything)
    # each member commits what it has handed out before it gives a partition up: nothing is read twice either
    assert values == list(range(produced))


def test_eager_members_give_up_all_and_cooperative_ones_only_what_moves(
    group_bootstrap: str, group_topic: str
) -> None:
    with Party(group_bootstrap, group_topic, partition_assignment_strategy="cooperative-sticky") as party:
        party.join("first")
        party.settle()
        party.join("second")
        party.settle()
        kept = party.members[0].partitions
    assert party.told("first", "revoke")[0] == set(range(6)) - kept
    assert len(kept) == 3
    assert party.told("first", "lost") == []
    with Party(group_bootstrap, group_topic, group_id=f"{group_topic}-eager") as party:
        party.options["partition_assignment_strategy"] = "range"
        party.join("first")
        party.settle()
        party.join("second")
        party.settle()
    assert party.told("first", "revoke")[0] == set(range(6))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_killed_and_stopped_members_lose_nothing(
    group_bootstrap: str, group_topic: str, strategy: str, tmp_path: Path
) -> None:
    seed = os.getpid()
    print("seed", seed)
    chances = random.Random(seed)
    made: list[MemberProcess] = []
    running: list[MemberProcess] = []

    def start() -> None:
        made.append(MemberProcess(group_bootstrap, group_topic, strategy, tmp_path / f"{len(made)}.log"))
        running.append(made[-1])

    over = threading.Event()
    written = [0]

    def write() -> None:
        while not over.is_set():
            produce(group_bootstrap, group_topic, 60, first=written[0])
            written[0] += 60
            over.wait(0.05)

    writer = threading.Thread(target=write)
    try:
        for _ in range(3):
            start()
        writer.start()
        for what in chances.sample(["kill", "stop"], 2):
            wait_until("the members read", lambda: all(one.read() for one in running), seconds=30)
            victim = chances.choice(running)
            if what == "kill":
                running.remove(victim)
                victim.kill()
                start()
            else:
                # longer than the session: the group goes on without it, and it comes back as another
                victim.process.send_signal(signal.SIGSTOP)
                time.sleep(PROCESS_SESSION_SECONDS + 1)
                victim.process.send_signal(signal.SIGCONT)
        over.set()
        writer.join()
        wanted = {(number % 6, number // 6) for number in range(written[0])}
        wait_until(
            "all records are read",
            lambda: wanted <= {(p, o) for one in made for _, p, o in one.read()},
            seconds=30,
        )
    finally:
        over.set()
        for one in made:
            one.kill()
    readers: dict[tuple[int, int, int], set[int]] = {}
    for index, one in enumerate(made):
        for place in one.read():
            readers.setdefault(place, set()).add(index)
    assert not {place: who for place, who in readers.items() if len(who) > 1}, "two members in one generation"


def test_positions_last(group_bootstrap: str, group_topic: str) -> None:
    produce(group_bootstrap, group_topic, 60)
    seen: list[int] = []
    for _ in range(4):
        with fastlog.Consumer(group_bootstrap, topics=group_topic, group_id=group_topic, **FAST) as consumer:
            seen += read_values(consumer, 15)
    assert sorted(seen) == list(range(60))


def read_values(consumer: fastlog.Consumer, count: int) -> list[int]:
    """Exactly `count` values."""
    values: list[int] = []
    deadline = time.monotonic() + 30
    while len(values) < count and time.monotonic() < deadline:
        values += [int(one.value or b"") for one in consumer.poll(count - len(values), timeout=0.5)]
    assert len(values) == count
    return values


def test_a_static_member_comes_back_without_a_rebalance(group_bootstrap: str, group_topic: str) -> None:
    produce(group_bootstrap, group_topic, 60)
    with Party(group_bootstrap, group_topic) as party:
        party.join("other", group_instance_id="b")
        static = party.join("static", group_instance_id="a")
        party.settle()
        had = static.partitions
        generation = static.consumer.group_metadata().generation_id
        calls = len(party.told("other", "assign"))
        party.leave(static)
        again = party.join("again", group_instance_id="a")
        party.settle()
        assert again.partitions == had
        assert again.consumer.group_metadata().generation_id == generation
        assert len(party.told("other", "assign")) == calls


def test_of_two_with_one_instance_id_the_elder_is_fenced(group_bootstrap: str, group_topic: str) -> None:
    with Party(group_bootstrap, group_topic) as party:
        elder = party.join("elder", group_instance_id="a")
        party.settle()
        younger = party.join("younger", group_instance_id="a")
        wait_until("the elder hears of it", lambda: bool(elder.errors), seconds=10)
        assert isinstance(elder.errors[0], FencedInstanceIdError)
        assert "each its own group_instance_id" in str(elder.errors[0])
        wait_until("the younger reads", lambda: younger.partitions == set(range(6)), seconds=10)
        wait_until("the elder has lost all", lambda: party.told("elder", "lost") == [set(range(6))])
        assert not younger.errors


def test_who_does_not_poll_loses_the_group_and_comes_back(group_bootstrap: str, group_topic: str) -> None:
    produce(group_bootstrap, group_topic, 60)
    lost: list[Any] = []
    with (
        Party(group_bootstrap, group_topic) as party,
        fastlog.Consumer(
            group_bootstrap,
            topics=group_topic,
            group_id=group_topic,
            on_lost=lost.append,
            max_poll_interval_ms=1_500,
            **FAST,
        ) as busy,
    ):
        read_values(busy, 60)
        first = busy.group_metadata()
        party.join("other")
        # heartbeats go on meanwhile: it is the poll that is missing
        wait_until("the other has all", lambda: party.shared(6), seconds=10)
        assert busy.group_metadata().generation_id == -1
        with pytest.raises(fastlog.errors.UnknownMemberIdError, match="poll to join again"):
            busy.commit({(group_topic, 0): 10})
        assert lost == []
        busy.poll(timeout=0.1)
        assert [{tp.partition for tp in one} for one in lost] == [set(range(6))]
        wait_until(
            "it is back", lambda: busy.poll(timeout=0.1) == [] and len(busy.assignment()) == 3, seconds=10
        )
        assert busy.group_metadata().member_id not in ("", first.member_id)


def test_a_busy_member_keeps_its_partitions(group_bootstrap: str, group_topic: str) -> None:
    produce(group_bootstrap, group_topic, 6)
    options = {**FAST, "session_timeout_ms": 3_000}
    with fastlog.Consumer(group_bootstrap, topics=group_topic, group_id=group_topic, **options) as consumer:
        read_values(consumer, 6)
        generation = consumer.group_metadata().generation_id
        end = time.monotonic() + 4  # past the session
        while time.monotonic() < end:
            pass  # holds on to Python's lock as much as a program can
        consumer.commit()
        assert consumer.group_metadata().generation_id == generation
        assert len(consumer.committed()) == 6


def test_a_pattern_finds_new_topics(group_bootstrap: str, group_topic: str) -> None:
    pattern = re.compile(re.escape(group_topic) + "(-more)?")
    more = f"{group_topic}-more"
    with Party(group_bootstrap, group_topic, topics=pattern, auto_offset_reset="latest") as party:
        party.join()
        party.join()
        party.settle()
        with fastlog.Admin(group_bootstrap) as admin:
            admin.create_topic(more, partitions=2)
            admin.create_topic(f"{group_topic}-other", partitions=2)
        produce(group_bootstrap, more, 20, partitions=2)
        wait_until(
            "the new topic is read from its start",
            lambda: [r.topic for m in party.members for r in m.records] == [more] * 20,
            seconds=20,
        )


def test_partitions_that_are_added_are_shared_and_read_whole(group_bootstrap: str, group_topic: str) -> None:
    with Party(group_bootstrap, group_topic, auto_offset_reset="latest") as party:
        party.join()
        party.join()
        party.settle()
        wait_until(
            "both know where the ends are",
            lambda: all(len(m.consumer.positions()) == 3 for m in party.members),
        )
        with fastlog.Admin(group_bootstrap) as admin:
            admin.create_partitions(group_topic, 8)
        produce(group_bootstrap, group_topic, 80, partitions=8)
        party.settle(8)
        wait_until("all is read", lambda: party.values() == list(range(80)), seconds=20)


def test_iteration_and_batches_take_part_too(group_bootstrap: str, group_topic: str) -> None:
    produce(group_bootstrap, group_topic, 1200)
    options = {"topics": group_topic, **FAST}
    counts: Counter[int] = Counter()
    with fastlog.Consumer(group_bootstrap, group_id=f"{group_topic}-a", **options) as consumer:
        for record in consumer:
            counts[int(record.value or b"")] += 1
            if len(counts) == 600:
                break
    with fastlog.Consumer(group_bootstrap, group_id=f"{group_topic}-a", **options) as consumer:
        for record in consumer:
            counts[int(record.value or b"")] += 1
            if len(counts) == 1200:
                break
    assert set(counts.values()) == {1}
    values: list[bytes | None] = []
    with fastlog.Consumer(group_bootstrap, group_id=f"{group_topic}-b", **options) as consumer:
        for batch in consumer.batches(timeout=20):
            values += batch.values()
            if len(values) == 1200:
                break
        # a batch counts as read when the next one is asked for
        consumer.poll(timeout=0.1)
        assert consumer.lag() == dict.fromkeys(consumer.assignment(), 0)
    assert sorted(int(value or b"") for value in values) == list(range(1200))


def test_two_groups_read_all_each(group_bootstrap: str, group_topic: str) -> None:
    produce(group_bootstrap, group_topic, 60)
    for name in ("a", "b"):
        group_id = f"{group_topic}-{name}"
        with fastlog.Consumer(group_bootstrap, topics=group_topic, group_id=group_id, **FAST) as consumer:
            assert sorted(read_values(consumer, 60)) == list(range(60))


def test_leaving_is_at_once_and_the_others_take_over(group_bootstrap: str, group_topic: str) -> None:
    with Party(group_bootstrap, group_topic, session_timeout_ms=30_000) as party:
        leaver = party.join()
        party.join()
        party.settle()
        start = time.monotonic()
        party.leave(leaver)
        party.settle()
        assert time.monotonic() - start < 5, "the group waited for the session to end"


def test_unsubscribe_leaves_and_subscribe_comes_back(group_bootstrap: str, group_topic: str) -> None:
    produce(group_bootstrap, group_topic, 12)
    revoked: list[Any] = []
    with fastlog.Consumer(
        group_bootstrap, topics=group_topic, group_id=group_topic, on_revoke=revoked.append, **FAST
    ) as consumer:
        read_values(consumer, 12)
        consumer.unsubscribe()
        assert consumer.assignment() == set()
        assert len(revoked) == 1
        with fastlog.Admin(group_bootstrap) as admin:
            wait_until("it left", lambda: admin.describe_groups(group_topic)[0].state == "Empty")
        produce(group_bootstrap, group_topic, 6, first=12)
        consumer.subscribe([group_topic])
        assert sorted(read_values(consumer, 6)) == list(range(12, 18))
