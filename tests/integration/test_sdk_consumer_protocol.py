"""Members of our SDK in groups of the consumer protocol (KIP-848): the same against fastlog and against Kafka."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastlog
from fastlog.client.connection import Connection
from fastlog.errors import (
    ConfigError,
    InvalidRegularExpressionError,
    UnreleasedInstanceIdError,
    UnsupportedAssignorError,
)
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from tests.integration.conftest import GROUP_BROKERS, is_led
from tests.integration.kafka.server import KafkaServer
from tests.integration.test_sdk_groups import produce, read_values
from tests.support.broker import BrokerProcess, wait_until
from tests.support.cli import fastlog as command
from tests.support.members import CONSUMER_PROTOCOL, Party
from tests.support.older_broker import OlderBroker

SESSION_MS = 3_000
SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "200",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": str(SESSION_MS),
}
#: Kafka puts off assignments that follow on each other
OF_KAFKA = {"group.consumer.min.assignment.interval.ms": "0", "group.consumer.assignment.interval.ms": "0"}
pytestmark = pytest.mark.timeout(180)

Server = KafkaServer | BrokerProcess


@pytest.fixture(scope="module", params=GROUP_BROKERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "kafka":
        kafka = KafkaServer(folder, {**SETTINGS, **OF_KAFKA})
        yield kafka
        kafka.stop()
        return
    made = BrokerProcess(folder / "data", settings=SETTINGS).start()
    yield made
    assert made.stop() == 0, made.log()
    assert "Traceback" not in made.log()


@pytest.fixture
def topic(server: Server, topic_name: str) -> str:
    """A topic of six partitions, and a name that a group may have."""
    with fastlog.Admin(server.bootstrap) as admin:
        admin.create_topic(topic_name, partitions=6)
        wait_until("the topic has leaders", lambda: is_led(admin, topic_name))
    return topic_name


def party(server: Server, topic: str, **options: Any) -> Party:
    return Party(server.bootstrap, topic, group_protocol="consumer", **options)


def consumer_of(server: Server, topic: str, **options: Any) -> fastlog.Consumer:
    given = {"topics": topic, "group_id": topic, **CONSUMER_PROTOCOL, **options}
    return fastlog.Consumer(server.bootstrap, **given)


@pytest.mark.parametrize("assignor", [None, "range", "uniform"])
def test_members_share_the_partitions_and_lose_nothing_as_they_come_and_go(
    server: Server, topic: str, assignor: str | None
) -> None:
    produced = 0
    with party(server, topic, group_remote_assignor=assignor) as group:
        gone = []
        for step in ("join", "join", "leave", "join", "leave"):
            if step == "join":
                group.join()
            else:
                gone.append(group.members[0])
                group.leave(group.members[0])
            produce(server.bootstrap, topic, 300, first=produced)
            produced += 300
            group.settle()

        def arrived() -> int:
            return sum(len(member.records) for member in (*group.members, *gone))

        wait_until("all records are read", lambda: arrived() >= produced, seconds=20)
        everything = [r for member in (*group.members, *gone) for r in member.records]
    values = sorted(int(record.value or b"") for record in everything)
    # each member commits what it has handed out before it gives a partition up: nothing is read twice either
    assert values == list(range(produced))


def test_only_what_moves_is_given_up(server: Server, topic: str) -> None:
    with party(server, topic) as group:
        group.join("first")
        group.settle()
        group.join("second")
        group.settle()
        kept = group.members[0].partitions
    assert group.told("first", "revoke")[0] == set(range(6)) - kept
    assert len(kept) == 3
    assert group.told("first", "lost") == []


def test_positions_last(server: Server, topic: str) -> None:
    produce(server.bootstrap, topic, 60)
    seen: list[int] = []
    for _ in range(4):
        with consumer_of(server, topic) as consumer:
            seen += read_values(consumer, 15)
    assert sorted(seen) == list(range(60))


def test_a_static_member_comes_back_to_its_partitions(server: Server, topic: str) -> None:
    with party(server, topic) as group:
        group.join("other", group_instance_id="b")
        static = group.join("static", group_instance_id="a")
        group.settle()
        had = static.partitions
        calls = len(group.told("other", "assign"))
        group.leave(static)
        again = group.join("again", group_instance_id="a")
        group.settle()
        assert again.partitions == had
        assert len(group.told("other", "assign")) == calls


def test_of_two_with_one_instance_id_the_younger_is_refused(server: Server, topic: str) -> None:
    with party(server, topic) as group:
        elder = group.join("elder", group_instance_id="a")
        group.settle()
        younger = group.join("younger", group_instance_id="a")
        wait_until("the younger hears of it", lambda: bool(younger.errors), seconds=20)
        assert isinstance(younger.errors[0], UnreleasedInstanceIdError)
        assert "each its own group_instance_id" in str(younger.errors[0])
        assert elder.partitions == set(range(6))
        assert not elder.errors


def test_an_assignor_that_the_broker_does_not_have(server: Server, topic: str) -> None:
    with (
        consumer_of(server, topic, group_remote_assignor="nobody's") as consumer,
        pytest.raises(UnsupportedAssignorError, match="nobody's"),
    ):
        consumer.poll(timeout=30)


def test_who_does_not_poll_loses_the_group_and_comes_back(server: Server, topic: str) -> None:
    produce(server.bootstrap, topic, 60)
    lost: list[Any] = []
    with (
        party(server, topic) as group,
        consumer_of(server, topic, on_lost=lost.append, max_poll_interval_ms=1_500) as busy,
    ):
        read_values(busy, 60)
        group.join("other")
        # heartbeats go on meanwhile: it is the poll that is missing
        wait_until("the other has all", lambda: group.shared(6), seconds=20)
        with pytest.raises(fastlog.errors.UnknownMemberIdError, match="poll to join again"):
            busy.commit({(topic, 0): 10})
        assert lost == []
        busy.poll(timeout=0.1)
        assert [{tp.partition for tp in one} for one in lost] == [set(range(6))]
        wait_until(
            "it is back", lambda: busy.poll(timeout=0.1) == [] and len(busy.assignment()) == 3, seconds=20
        )


# Kafka looks patterns up no more often than every 10 s; that of a topic which is made anew is awaited below
@pytest.mark.parametrize("server", [pytest.param("kafka", marks=pytest.mark.long), "broker"], indirect=True)
def test_a_pattern_finds_new_topics(server: Server, topic: str) -> None:
    pattern = re.compile(re.escape(topic) + "(-more)?")
    more = f"{topic}-more"
    with party(server, topic, topics=pattern, auto_offset_reset="latest") as group:
        group.join()
        group.join()
        group.settle()
        with fastlog.Admin(server.bootstrap) as admin:
            admin.create_topic(more, partitions=2)
            admin.create_topic(f"{topic}-other", partitions=2)
        produce(server.bootstrap, more, 20, partitions=2)
        wait_until(
            "the new topic is read from its start",
            lambda: [r.topic for m in group.members for r in m.records] == [more] * 20,
            seconds=30,
        )


def described_patterns(server: Server, group_id: str) -> set[str]:
    """The patterns that the coordinator has of the members."""
    with Connection("127.0.0.1", int(server.bootstrap.rsplit(":", 1)[1]), client_id="test") as connection:
        (group,) = connection.request(ConsumerGroupDescribeRequest([group_id])).groups
    return {member.subscribed_topic_regex or "" for member in group.members}


def test_the_coordinator_matches_the_pattern(server: Server, topic: str) -> None:
    produce(server.bootstrap, topic, 12)
    text = topic.upper().replace("-", "[-]")
    with consumer_of(server, topic, topics=re.compile(text, re.IGNORECASE)) as consumer:
        assert sorted(read_values(consumer, 12)) == list(range(12))
        assert described_patterns(server, topic) == {f"(?i){text}"}
        consumer.subscribe(topic)
        wait_until(
            "it is taken back",
            lambda: (consumer.poll(timeout=0.1) == [] and described_patterns(server, topic)) == {""},
            seconds=20,
        )
        produce(server.bootstrap, topic, 6, first=12)
        assert sorted(read_values(consumer, 6)) == list(range(12, 18))


@pytest.mark.parametrize("text", ["(?!x).*", r"(.)\1"])
def test_a_pattern_that_the_broker_does_not_know(server: Server, topic: str, text: str) -> None:
    with consumer_of(server, topic, topics=re.compile(text)) as consumer:
        for _ in range(2):
            with pytest.raises(InvalidRegularExpressionError, match="syntax of RE2"):
                consumer.poll(timeout=30)
        produce(server.bootstrap, topic, 6)
        consumer.subscribe(topic)
        assert sorted(read_values(consumer, 6)) == list(range(6))
        with pytest.raises(ConfigError, match="VERBOSE"):
            consumer.subscribe(re.compile("a  # comment", re.VERBOSE))


def test_a_matching_topic_that_is_made_anew_is_read_from_its_start(server: Server, topic: str) -> None:
    with (
        consumer_of(
            server, topic, topics=re.compile(re.escape(topic)), auto_offset_reset="latest"
        ) as consumer,
        fastlog.Admin(server.bootstrap) as admin,
    ):
        # Kafka looks patterns up no more often than every 10 s
        wait_until(
            "it reads",
            lambda: not consumer.poll(timeout=0.1) and len(consumer.positions()) == 6,
            seconds=30,
        )
        admin.delete_topic(topic)
        wait_until(
            "nothing is assigned",
            lambda: not (consumer.poll(timeout=0.2), consumer.assignment())[1],
            seconds=30,
        )
        admin.create_topic(topic, partitions=6)
        wait_until("the topic has leaders", lambda: is_led(admin, topic))
        produce(server.bootstrap, topic, 12)
        assert sorted(read_values(consumer, 12)) == list(range(12))


def test_an_older_coordinator_has_the_pattern_matched_by_the_client(tmp_path: Path, topic_name: str) -> None:
    older = OlderBroker({ApiKey.CONSUMER_GROUP_HEARTBEAT: 0})
    settings = {**SETTINGS, "advertised.listeners": f"PLAINTEXT://{older.address}"}
    broker = BrokerProcess(tmp_path / "data", settings=settings).start()
    older.begin(broker.tcp_port)
    try:
        with fastlog.Admin(older.address) as admin:
            admin.create_topic(topic_name, partitions=6)
        produce(older.address, topic_name, 60)
        # what RE2 does not know is no matter then
        pattern = re.compile(f"(?!x){topic_name}(-more)?")
        with Party(older.address, topic_name, topics=pattern, group_protocol="consumer") as group:
            group.join()
            group.join()
            group.settle()
            with fastlog.Admin(older.address) as admin:
                admin.create_topic(f"{topic_name}-more", partitions=6)
            produce(older.address, f"{topic_name}-more", 60, first=60)
            wait_until("all is read", lambda: group.values() == list(range(120)), seconds=30)
            assert not any(member.errors for member in group.members)
        assert older.versions(ApiKey.CONSUMER_GROUP_HEARTBEAT) == {0}
    finally:
        older.close()
        assert broker.stop() == 0, broker.log()


def test_partitions_that_are_added_are_shared_and_read_whole(server: Server, topic: str) -> None:
    with party(server, topic, auto_offset_reset="latest") as group:
        group.join()
        group.join()
        group.settle()
        wait_until(
            "both know where the ends are",
            lambda: all(len(m.consumer.positions()) == 3 for m in group.members),
        )
        with fastlog.Admin(server.bootstrap) as admin:
            admin.create_partitions(topic, 8)
        produce(server.bootstrap, topic, 80, partitions=8)
        group.settle(8)
        wait_until("all is read", lambda: group.values() == list(range(80)), seconds=30)


def test_a_topic_that_is_made_anew_is_read_anew(server: Server, topic: str) -> None:
    produce(server.bootstrap, topic, 6)
    with consumer_of(server, topic) as consumer, fastlog.Admin(server.bootstrap) as admin:
        read_values(consumer, 6)
        admin.delete_topic(topic)
        wait_until("nothing is assigned", lambda: not (consumer.poll(timeout=0.2), consumer.assignment())[1])
        admin.create_topic(topic, partitions=6)
        wait_until("the topic has leaders", lambda: is_led(admin, topic))
        produce(server.bootstrap, topic, 12, first=6)
        assert sorted(read_values(consumer, 12)) == list(range(6, 18))


def test_unsubscribe_leaves_and_subscribe_comes_back(server: Server, topic: str) -> None:
    produce(server.bootstrap, topic, 12)
    revoked: list[Any] = []
    with consumer_of(server, topic, on_revoke=revoked.append) as consumer:
        read_values(consumer, 12)
        consumer.unsubscribe()
        assert consumer.assignment() == set()
        assert len(revoked) == 1
        with fastlog.Admin(server.bootstrap) as admin:
            wait_until("it left", lambda: admin.describe_groups(topic)[0].state == "Empty", seconds=20)
        produce(server.bootstrap, topic, 6, first=12)
        consumer.subscribe([topic])
        assert sorted(read_values(consumer, 6)) == list(range(12, 18))


def test_another_subscription_gives_the_first_up(server: Server, topic: str) -> None:
    more = f"{topic}-more"
    with fastlog.Admin(server.bootstrap) as admin:
        admin.create_topic(more, partitions=2)
        wait_until("the topic has leaders", lambda: is_led(admin, more))
    produce(server.bootstrap, topic, 6)
    produce(server.bootstrap, more, 4, first=6, partitions=2)
    with consumer_of(server, topic) as consumer:
        read_values(consumer, 6)
        consumer.subscribe([more])
        assert sorted(read_values(consumer, 4)) == list(range(6, 10))
        assert {tp.topic for tp in consumer.assignment()} == {more}


def test_the_group_goes_over_to_the_consumer_protocol_and_back(server: Server, topic: str) -> None:
    produced = 0
    with party(server, topic) as group:
        everybody = []
        for protocol, step in (("classic", "join"), ("consumer", "join"), ("", "leave"), ("classic", "join")):
            if step == "join":
                options = (
                    {"group_protocol": "consumer"}
                    if protocol == "consumer"
                    else {"group_protocol": "classic", "heartbeat_interval_ms": 200}
                )
                everybody.append(group.join(**options))
            else:
                group.leave(group.members[0])
            produce(server.bootstrap, topic, 60, first=produced)
            produced += 60
            group.settle()
        # the last of the consumer protocol goes: what is left is a classic group
        group.leave(everybody[1])
        group.settle()
        produce(server.bootstrap, topic, 60, first=produced)
        produced += 60

        def values() -> list[int]:
            return sorted(int(record.value or b"") for member in everybody for record in member.records)

        wait_until("all is read", lambda: set(values()) == set(range(produced)), seconds=30)
    assert all(not member.errors for member in everybody), [member.errors for member in everybody]


#: reads as a member until it is killed; a line for each record
PROGRAM = """
import sys
import fastlog
bootstrap, topic = sys.argv[1:]
with fastlog.Consumer(bootstrap, topics=topic, group_id=topic, group_protocol="consumer", auto_offset_reset="earliest",
                      metadata_max_age_ms=500, max_poll_records=20, enable_auto_commit=False) as consumer:
    while True:
        records = consumer.poll(timeout=0.2)
        for record in records:
            print(record.partition, record.offset, flush=True)
        if records:
            try:
                consumer.commit()
            except fastlog.errors.KafkaError as error:
                print("commit", error.name, flush=True)
"""


class Process:
    """A member in a process of its own."""

    def __init__(self, server: Server, topic: str, log: Path) -> None:
        self.log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, server.bootstrap, topic], stdin=subprocess.DEVNULL, stdout=out
            )

    def read(self) -> set[tuple[int, int]]:
        """The partitions and offsets of what it read."""
        text = self.log.read_text()
        lines = text[: text.rfind("\n") + 1].splitlines()
        return {(int(line.split()[0]), int(line.split()[1])) for line in lines if "commit" not in line}

    def kill(self) -> None:
        """SIGKILL: no farewell to the group."""
        self.process.kill()
        self.process.wait()


def test_killed_and_stopped_members_lose_nothing(server: Server, topic: str, tmp_path: Path) -> None:
    made = [Process(server, topic, tmp_path / f"{number}.log") for number in range(3)]
    over, written = threading.Event(), [0]

    def write() -> None:
        while not over.is_set():
            produce(server.bootstrap, topic, 60, first=written[0])
            written[0] += 60
            over.wait(0.05)

    writer = threading.Thread(target=write)
    try:
        writer.start()
        wait_until("the members read", lambda: all(one.read() for one in made), seconds=30)
        made[0].kill()
        made.append(Process(server, topic, tmp_path / "3.log"))
        # longer than its session: it is fenced, and comes back with a new epoch
        made[1].process.send_signal(signal.SIGSTOP)
        time.sleep(SESSION_MS / 1000 + 1)
        before = len(made[1].read())
        made[1].process.send_signal(signal.SIGCONT)
        wait_until("it reads again", lambda: len(made[1].read()) > before + 100, seconds=30)
        over.set()
        writer.join()
        wanted = {(number % 6, number // 6) for number in range(written[0])}
        wait_until(
            "all records are read", lambda: wanted <= set().union(*(one.read() for one in made)), seconds=40
        )
    finally:
        over.set()
        for one in made:
            one.kill()


@pytest.mark.parametrize("how", ["killed", "stopped cleanly"])
def test_members_go_on_when_their_coordinator_comes_back(how: str, tmp_path: Path) -> None:
    made = BrokerProcess(tmp_path / "data", settings=SETTINGS).start()
    try:
        with fastlog.Admin(made.bootstrap) as admin:
            admin.create_topic("t", partitions=6)
        with party(made, "t") as group:
            group.join()
            group.join()
            group.settle()
            produce(made.bootstrap, "t", 60)
            wait_until("all is read", lambda: len(group.values()) == 60)
            had = [member.partitions for member in group.members]
            if how == "killed":
                made.kill()
            else:
                assert made.stop() == 0
            made.start()
            produce(made.bootstrap, "t", 60, first=60)
            wait_until("all is read", lambda: set(group.values()) == set(range(120)), seconds=40)
            assert [member.partitions for member in group.members] == had
            assert [member.errors for member in group.members] == [[], []]
    finally:
        made.kill()


def test_the_command(server: Server, topic: str) -> None:
    produce(server.bootstrap, topic, 60)
    member = ("--group", topic, "--group-protocol", "consumer", "--bootstrap", server.bootstrap)
    some = command("consume", topic, "--from-beginning", "--max", "20", *member)
    rest = command("consume", topic, "--from-beginning", "--exit-at-end", *member)
    assert (some.status, rest.status) == (0, 0), (some.err, rest.err)
    assert sorted(map(int, (some.out + rest.out).split())) == list(range(60))
    with fastlog.Admin(server.bootstrap) as admin:
        (described,) = admin.describe_groups(topic)
    assert described.state == "Empty"
