"""Groups seen and moved from outside: Admin and the command line, beside what another client sees."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

import fastlog
from fastlog.errors import (
    ConfigError,
    GroupIdNotFoundError,
    GroupSubscribedToTopicError,
    NonEmptyGroupError,
    OffsetOutOfRangeError,
    UnknownMemberIdError,
)
from tests.integration.kafka.server import KafkaServer
from tests.integration.test_sdk_groups import produce, read_values
from tests.support.broker import PROGRAM, wait_until
from tests.support.cli import fastlog as command
from tests.support.members import FAST, Party


@pytest.fixture
def admin(group_bootstrap: str) -> Iterator[fastlog.Admin]:
    with fastlog.Admin(group_bootstrap) as client:
        yield client


def read(bootstrap: str, topic: str, count: int) -> None:
    """Has the topic's group read so many records, and leave."""
    with fastlog.Consumer(bootstrap, topics=topic, group_id=topic, **FAST) as consumer:
        read_values(consumer, count)


def test_a_group_is_listed_and_described(
    group_bootstrap: str, group_topic: str, admin: fastlog.Admin
) -> None:
    produce(group_bootstrap, group_topic, 60)
    read(group_bootstrap, group_topic, 60)
    produce(group_bootstrap, group_topic, 12, first=60)
    (empty,) = admin.describe_groups(group_topic)
    assert (empty.state, empty.members, empty.lag) == ("Empty", (), 12)
    assert [
        (one.partition, one.committed, one.log_end_offset, one.lag, one.member_id) for one in empty.offsets
    ] == [(number, 10, 12, 2, None) for number in range(6)]
    with Party(group_bootstrap, group_topic, client_id="my-client") as party:
        party.join(group_instance_id="a")
        party.join(group_instance_id="b")
        party.settle()
        (group,) = admin.describe_groups([group_topic])
        assert (group.state, group.protocol_type, group.protocol) == ("Stable", "consumer", "range")
        assert {one.group_instance_id for one in group.members} == {"a", "b"}
        assert {one.client_id for one in group.members} == {"my-client"}
        assert {one.host for one in group.members} == {"127.0.0.1"}
        assert sorted(p for one in group.members for p in one.assignment) == [
            (group_topic, n) for n in range(6)
        ]
        listed = {one.group_id: one for one in admin.list_groups()}
        assert listed[group_topic].state == "Stable"
        assert listed[group_topic].protocol_type == "consumer"
        assert group_topic in {one.group_id for one in admin.list_groups(states=["Stable"])}
        assert group_topic not in {one.group_id for one in admin.list_groups(states=["Empty"])}


def test_what_we_see_is_what_confluent_sees(
    group_bootstrap: str, group_topic: str, admin: fastlog.Admin
) -> None:
    produce(group_bootstrap, group_topic, 30)
    read(group_bootstrap, group_topic, 30)
    theirs = AdminClient({"bootstrap.servers": group_bootstrap})
    asked = theirs.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group_topic)])
    found = {(one.topic, one.partition): one.offset for one in asked[group_topic].result(20).topic_partitions}
    assert {place: one.offset for place, one in admin.list_group_offsets(group_topic).items()} == found
    described = theirs.describe_consumer_groups([group_topic])[group_topic].result(20)
    assert described.state.name.lower() == admin.describe_groups(group_topic)[0].state.lower()


def test_a_group_of_the_new_protocol_is_described(kafka: KafkaServer, topic_name: str) -> None:
    theirs = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": topic_name,
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
        }
    )
    with fastlog.Admin(kafka.bootstrap) as admin:
        admin.create_topic(topic_name, partitions=2)
        produce(kafka.bootstrap, topic_name, 4, partitions=2)
        theirs.subscribe([topic_name])
        wait_until("it reads", lambda: bool(theirs.consume(4, 0.2)), seconds=20)
        theirs.commit(asynchronous=False)
        (group,) = admin.describe_groups(topic_name)
        assert (group.state, group.protocol_type, len(group.members)) == ("Stable", "consumer", 1)
        assert group.members[0].assignment == ((topic_name, 0), (topic_name, 1))
        assert {one.log_end_offset for one in group.offsets} == {2}
    theirs.close()


def test_a_group_is_moved(group_bootstrap: str, group_topic: str, admin: fastlog.Admin) -> None:
    before = int(time.time() * 1000)
    produce(group_bootstrap, group_topic, 30)
    time.sleep(0.05)
    between = int(time.time() * 1000)
    produce(group_bootstrap, group_topic, 30, first=30)
    read(group_bootstrap, group_topic, 60)

    def now() -> set[int]:
        return {one.offset for one in admin.list_group_offsets(group_topic).values()}

    assert now() == {10}
    would = admin.reset_group_offsets(group_topic, offset=3, dry_run=True)
    assert [(one.partition, one.before, one.after) for one in would] == [
        (number, 10, 3) for number in range(6)
    ]
    assert now() == {10}
    for wanted, offset in (
        ({"offset": 3}, 3),
        ({"to": "earliest"}, 0),
        ({"to": "latest"}, 10),
        ({"timestamp_ms": between}, 5),
        ({"timestamp_ms": before}, 0),
        ({"timestamp_ms": between + 10**9}, 10),
    ):
        admin.reset_group_offsets(group_topic, **wanted)  # type: ignore[arg-type]
        assert now() == {offset}
    admin.reset_group_offsets(group_topic, offset=4, partitions=[(group_topic, 2)])
    assert admin.list_group_offsets(group_topic)[group_topic, 2].offset == 4
    with pytest.raises(OffsetOutOfRangeError, match=r"its first record is 0, its next will be 10; nothing"):
        admin.reset_group_offsets(group_topic, offset=11)
    with pytest.raises(ConfigError, match="one of"):
        admin.reset_group_offsets(group_topic, offset=1, to="earliest")
    # a group that nobody has heard of can be made to begin somewhere
    made = admin.reset_group_offsets(f"{group_topic}-new", to="latest", topics=[group_topic])
    assert [(one.before, one.after) for one in made] == [(None, 10)] * 6
    # and a member goes on there
    admin.reset_group_offsets(group_topic, offset=8)
    with fastlog.Consumer(group_bootstrap, topics=group_topic, group_id=group_topic, **FAST) as consumer:
        assert len(read_values(consumer, 12)) == 12


def test_groups_with_members_are_left_alone(
    group_bootstrap: str, group_topic: str, admin: fastlog.Admin
) -> None:
    produce(group_bootstrap, group_topic, 6)
    with Party(group_bootstrap, group_topic) as party:
        party.join()
        party.settle()
        with pytest.raises(UnknownMemberIdError, match="stop them first"):
            admin.reset_group_offsets(group_topic, to="earliest", topics=[group_topic])
        with pytest.raises(NonEmptyGroupError, match="stop them first"):
            admin.delete_groups(group_topic)
        with pytest.raises(GroupSubscribedToTopicError, match="stop them first"):
            admin.delete_group_offsets(group_topic, [(group_topic, 0)])


def test_groups_and_positions_are_deleted(
    group_bootstrap: str, group_topic: str, admin: fastlog.Admin
) -> None:
    produce(group_bootstrap, group_topic, 6)
    read(group_bootstrap, group_topic, 6)
    admin.delete_group_offsets(group_topic, [(group_topic, 0), (group_topic, 3)])
    assert sorted(number for _, number in admin.list_group_offsets(group_topic)) == [1, 2, 4, 5]
    admin.delete_groups(group_topic)
    assert group_topic not in {one.group_id for one in admin.list_groups()}
    assert admin.list_group_offsets(group_topic) == {}
    for call in (admin.describe_groups, admin.delete_groups):
        with pytest.raises(GroupIdNotFoundError, match="no such group"):
            call(group_topic)


def test_the_commands(group_bootstrap: str, group_topic: str) -> None:
    where = ("--bootstrap", group_bootstrap)
    produce(group_bootstrap, group_topic, 60)
    shared = ("consume", group_topic, "--group", group_topic, "--from-beginning", *where)
    some = command(*shared, "--max", "20")
    rest = command(*shared, "--exit-at-end", "--json")
    assert (some.status, rest.status) == (0, 0), (some.err, rest.err)
    assert json.loads(rest.err)["records"] == 40
    assert sorted(map(int, (some.out + rest.out).split())) == list(range(60))

    assert group_topic in command("groups", "list", *where).out.decode().split()
    assert group_topic not in command("groups", "list", "--state", "Stable", *where).out.decode().split()
    shown = command("groups", "describe", group_topic, *where).out.decode().splitlines()
    assert shown[0] == f"{group_topic}  Empty  0 members  lag 0"
    assert shown[1].split() == ["topic", "partition", "position", "end", "lag", "client", "host", "member"]
    assert shown[2].split() == [group_topic, "0", "10", "10", "0", "-", "-", "-"]

    dry = command("groups", "reset-offsets", group_topic, "--to-offset", "4", "--dry-run", *where)
    assert dry.out.decode().splitlines()[1].split() == [group_topic, "0", "10", "4"]
    moved = command(
        "groups",
        "reset-offsets",
        group_topic,
        "--to-earliest",
        "--topic",
        f"{group_topic}:1,2",
        "--json",
        *where,
    )
    assert [(one["partition"], one["after"]) for one in json.loads(moved.out)["offsets"]] == [(1, 0), (2, 0)]
    (group,) = json.loads(command("groups", "describe", group_topic, "--json", *where).out)["groups"]
    assert (group["lag"], group["offsets"][1]["committed"]) == (20, 0)
    assert (
        command("groups", "reset-offsets", group_topic, "--to-time", "2020-01-01T00:00:00Z", *where).status
        == 0
    )

    gone = command("groups", "delete", group_topic, "no-such-group", *where)
    assert (gone.status, gone.out) == (1, f"deleted {group_topic}\n".encode())
    assert "no such group" in gone.err


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_keep_what_was_written(
    group_bootstrap: str, group_topic: str, admin: fastlog.Admin, stop: signal.Signals
) -> None:
    where = ("--bootstrap", group_bootstrap)
    produce(group_bootstrap, group_topic, 30)
    words = [PROGRAM, "consume", group_topic, "--group", group_topic, "--from-beginning", *where]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        values = [int(reader.stdout.readline()) for _ in range(30)]
        reader.send_signal(stop)
        assert reader.wait(15) == 0
    assert sorted(values) == list(range(30))
    (group,) = admin.describe_groups(group_topic)
    assert (group.state, group.lag) == ("Empty", 0)


def test_a_command_shares_with_a_program(group_bootstrap: str, group_topic: str) -> None:
    where = ("--bootstrap", group_bootstrap)
    with Party(group_bootstrap, group_topic) as party:
        party.join()
        party.settle()
        produce(group_bootstrap, group_topic, 60)
        done = command("consume", group_topic, "--group", group_topic, "--timeout-ms", "3000", *where)
        assert done.status == 0, done.err
        theirs = [int(line) for line in done.out.split()]
        wait_until("the rest comes", lambda: sorted(party.values() + theirs) == list(range(60)), seconds=15)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("groups", "reset-offsets", "g"), 2, "give one of --to-earliest"),
        (
            ("groups", "reset-offsets", "g", "--to-earliest", "--to-offset", "3"),
            2,
            "give one of --to-earliest",
        ),
        (("groups", "reset-offsets", "g", "--to-time", "tomorrow"), 2, "is no time"),
        (("groups", "reset-offsets", "g", "--to-latest", "--topic", "t:x"), 2, "TOPIC:N"),
        (("groups", "reset-offsets", "g", "--to-latest", "--topic", "no-such-topic"), 1, "no-such-topic"),
        (("groups", "list", "--state", "Busy"), 2, "'Busy' is not one of"),
        (("groups", "describe", "no-such-group"), 1, "no such group"),
        (("groups", "delete", "no-such-group"), 1, "no such group"),
        (("consume", "t", "--group", "g", "--offset", "3"), 2, "--group chooses"),
    ],
)
def test_wrong_use_and_refusals(
    group_bootstrap: str, arguments: tuple[str, ...], status: int, said: str
) -> None:
    done = command(*arguments, "--bootstrap", group_bootstrap)
    assert done.status == status, done.err
    assert said in done.err
    assert "Traceback" not in done.err
