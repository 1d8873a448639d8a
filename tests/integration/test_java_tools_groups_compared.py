"""Kafka's tools for groups at work on Apache Kafka and on fastlog: what they say is compared."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from fastlog import Consumer
from tests.integration.kafka.server import KafkaServer
from tests.support.broker import BrokerProcess, wait_until
from tests.support.compared_tools import Both
from tests.support.pair import Pair

TOOLS = "org.apache.kafka.tools"
GROUPS = f"{TOOLS}.consumer.group.ConsumerGroupCommand"
CONSUMER = f"{TOOLS}.consumer.ConsoleConsumer"
PRODUCER = f"{TOOLS}.ConsoleProducer"

JOIN_SECONDS = 60.0

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_kafka_consumer_groups(
    both: Both, pair: Pair, topic_name: str, protocol: str, tmp_path: Path
) -> None:
    pair.topic(topic_name)
    group = ["--group", topic_name]
    both.same(PRODUCER, "--topic", topic_name, "--sync", stdin="".join(f"v{it}\n" for it in range(30)))
    member = [*group, "--topic", topic_name, "--command-property", f"group.protocol={protocol}"]
    reading = ["--command-property", "auto.offset.reset=earliest", "--max-messages", "20"]
    both.same(CONSUMER, *member, *reading)
    for more in ([], ["--state"], ["--members"], ["--offsets"], ["--members", "--verbose"], ["--verbose"]):
        both.same(GROUPS, "--describe", *group, *more)
        both.same(GROUPS, "--describe", "--group", f"{topic_name}-absent", *more)
    for listed in (["--list"], ["--list", "--state"], ["--list", "--type"], ["--list", "--state", "Empty"]):
        rows = [
            [line.split() for line in done.out.splitlines() if topic_name in line.split()]
            for done in both.run(GROUPS, *listed)
        ]
        assert rows[0] == rows[1] != []
    topic = ["--topic", topic_name]
    for to in (
        ["--to-earliest"],
        ["--to-latest"],
        ["--to-offset", "7"],
        ["--to-offset", "700"],
        ["--shift-by", "5"],
        ["--shift-by", "-100"],
        ["--to-current"],
        ["--by-duration", "PT1H"],
        ["--to-datetime", "2020-01-01T00:00:00.000"],
        ["--to-datetime", "2100-01-01T00:00:00.000"],
    ):
        both.same(GROUPS, "--reset-offsets", *group, *topic, *to, "--dry-run")
        both.same(GROUPS, "--reset-offsets", *group, *topic, *to, "--execute")
        both.same(GROUPS, "--describe", *group)
    both.same(GROUPS, "--reset-offsets", *group, "--all-topics", "--to-offset", "3", "--export", "--dry-run")
    plan = tmp_path / "plan.csv"
    plan.write_text(f"{topic_name},0,11\n")
    both.same(GROUPS, "--reset-offsets", *group, "--from-file", str(plan), "--execute")
    both.same(GROUPS, "--describe", *group)
    both.same(
        GROUPS, "--reset-offsets", *group, "--topic", f"{topic_name}-absent", "--to-latest", "--execute"
    )
    both.same(GROUPS, "--delete-offsets", *group, *topic)
    both.same(GROUPS, "--delete-offsets", *group, "--topic", f"{topic_name}-absent")
    both.same(GROUPS, "--describe", *group)
    both.same(GROUPS, "--delete", *group)
    both.same(GROUPS, "--delete", *group)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_with_members_is_left_alone(
    both: Both, kafka: KafkaServer, broker: BrokerProcess, pair: Pair, topic_name: str, protocol: str
) -> None:
    pair.topic(topic_name, 2)
    group = ["--group", topic_name]
    with ExitStack() as members:
        for server in (kafka, broker):
            member = members.enter_context(
                Consumer(server.bootstrap, topics=topic_name, group_id=topic_name, group_protocol=protocol)
            )
            wait_until(
                "it has its partitions",
                lambda member=member: [member.poll(timeout=0.1), member.assignment()][1],
                seconds=JOIN_SECONDS,
            )
            member.commit({(topic_name, 0): 0})
        shown = [[], ["--state"], ["--members"], ["--members", "--verbose"], ["--offsets"]]
        for more in shown:
            both.same(GROUPS, "--describe", *group, *more, texts=True)
        topic = ["--topic", topic_name]
        for to in (["--to-earliest"], ["--to-offset", "7"], ["--shift-by", "-1"]):
            both.same(GROUPS, "--reset-offsets", *group, *topic, *to, "--dry-run", texts=True)
            both.same(GROUPS, "--reset-offsets", *group, *topic, *to, "--execute", texts=True)
        both.same(GROUPS, "--delete-offsets", *group, *topic, texts=True)
        both.same(GROUPS, "--delete-offsets", *group, "--topic", f"{topic_name}-absent", texts=True)
        both.same(GROUPS, "--delete", *group, texts=True)
        both.same(GROUPS, "--delete", *group, "--group", f"{topic_name}-absent")
        # nothing of it was done
        for more in shown:
            both.same(GROUPS, "--describe", *group, *more, texts=True)
        for done in both.run(GROUPS, "--describe", *group, "--state"):
            assert done.out.split()[-2:] == ["Stable", "1"]
        for done in both.run(GROUPS, "--describe", *group, "--offsets"):
            assert re.search(rf"{topic_name} +{topic_name} +0 +0 +0 +0 ", done.out), done


def test_kafka_groups(both: Both, pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name)
    both.same(PRODUCER, "--topic", topic_name, "--sync", stdin="v\n")
    for protocol in ("classic", "consumer"):
        member = ["--topic", topic_name, "--group", f"{topic_name}-{protocol}"]
        of_protocol = ["--command-property", f"group.protocol={protocol}"]
        both.same(CONSUMER, *member, *of_protocol, "--from-beginning", "--max-messages", "1")
    for more in ([], ["--consumer"], ["--group-type", "classic"], ["--group-type", "consumer"], ["--share"]):
        rows = [
            sorted(line.split() for line in done.out.splitlines() if topic_name in line)
            for done in both.run(f"{TOOLS}.GroupsCommand", "--list", *more)
        ]
        assert rows[0] == rows[1]
        # there is one of each protocol
        assert len(rows[0]) == {"--share": 0, "--group-type": 1}.get("".join(more[:1]), 2)
