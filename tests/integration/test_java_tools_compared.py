"""Kafka's command line tools at work on fastlog and on Apache Kafka: what they say is compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.compared_tools import Both
from tests.support.pair import Pair

TOOLS = "org.apache.kafka.tools"
CONFIGS = "kafka.admin.ConfigCommand"
TOPICS = f"{TOOLS}.TopicCommand"
OFFSETS = f"{TOOLS}.GetOffsetShell"
ELECTION = f"{TOOLS}.LeaderElectionCommand"
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_kafka_topics(both: Both, topic_name: str) -> None:
    create = ["--create", "--topic", topic_name, "--partitions"]
    both.same(TOPICS, *create, "2", "--config", "retention.ms=123456789")
    both.same(TOPICS, *create, "2")
    both.same(TOPICS, *create, "2", "--if-not-exists")
    both.same(TOPICS, "--describe", "--topic", topic_name)
    both.same(TOPICS, "--alter", "--topic", topic_name, "--partitions", "3")
    both.same(TOPICS, "--alter", "--topic", topic_name, "--partitions", "3")
    both.same(TOPICS, "--list", "--topic", topic_name)
    for name, more in {
        "too-many": ["--partitions", "1000000000"],
        "no-replicas": ["--replication-factor", "7"],
        "bad-setting": ["--config", "retention.ms=soon"],
        "unknown-setting": ["--config", "no.such.setting=1"],
    }.items():
        both.same(TOPICS, "--create", "--topic", f"{topic_name}-{name}", *more)
    both.same(TOPICS, "--delete", "--topic", topic_name)
    both.same(TOPICS, "--delete", "--topic", topic_name)
    both.same(TOPICS, "--describe", "--topic", topic_name)


def test_kafka_configs(both: Both, pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name)
    of_topic = ["--entity-type", "topics", "--entity-name", topic_name]
    for change in (
        ["--add-config", "retention.ms=5000000,cleanup.policy=[compact,delete]"],
        ["--add-config", "compression.type=zstd"],
        ["--add-config", "compression.type=best"],
        ["--add-config", "segment.bytes=1"],
        ["--add-config", "no.such.setting=1"],
        ["--delete-config", "retention.ms"],
        ["--delete-config", "never.set"],
    ):
        both.same(CONFIGS, *of_topic, "--alter", *change)
        both.same(CONFIGS, *of_topic, "--describe")
    of_group = ["--entity-type", "groups", "--entity-name", topic_name]
    both.same(CONFIGS, *of_group, "--alter", "--add-config", "share.isolation.level=read_committed")
    both.same(CONFIGS, *of_group, "--alter", "--add-config", "share.isolation.level=sometimes")
    kafka, fastlog = both.run(
        CONFIGS, "--entity-type", "brokers", "--entity-name", "1", "--describe", "--all"
    )
    keys = [set(re.findall(r"^  (\S+?)=", it.out, re.MULTILINE)) for it in (kafka, fastlog)]
    assert len(keys[0]) > 250
    assert keys[0] <= keys[1]
    kafka, fastlog = both.run(CONFIGS, "--entity-type", "broker-loggers", "--entity-name", "1", "--describe")
    assert kafka.status == fastlog.status == 0
    assert "fastlog.topics=" in fastlog.out


def test_records_are_written_counted_and_deleted(
    both: Both, pair: Pair, topic_name: str, tmp_path: Path
) -> None:
    pair.topic(topic_name)
    lines = "".join(f"k{number}:v{number}\n" for number in range(50))
    arguments = ["--topic", topic_name, "--reader-property", "parse.key=true"]
    arguments += ["--sync"]
    both.same(f"{TOOLS}.ConsoleProducer", *arguments, "--reader-property", "key.separator=:", stdin=lines)
    for time in ("latest", "earliest", "-1", "1"):
        both.same(OFFSETS, "--topic", topic_name, "--time", time)
    reading = ["--topic", topic_name, "--from-beginning", "--max-messages", "50"]
    both.same(f"{TOOLS}.consumer.ConsoleConsumer", *reading, "--formatter-property", "print.key=true")
    file = tmp_path / "delete.json"
    for offset in (20, 99):
        partition = {"topic": topic_name, "partition": 0, "offset": offset}
        file.write_text(json.dumps({"version": 1, "partitions": [partition]}))
        both.same(f"{TOOLS}.DeleteRecordsCommand", "--offset-json-file", str(file))
    both.same(OFFSETS, "--topic", topic_name, "--time", "earliest")


def test_leaders_are_elected(both: Both, pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name)
    preferred = ["--election-type", "preferred", "--topic"]
    both.same(ELECTION, *preferred, topic_name, "--partition", "0")
    both.same(ELECTION, *preferred, f"{topic_name}-absent", "--partition", "0")


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        (f"{TOOLS}.MetadataQuorumCommand", ["describe", "--status"]),
        (f"{TOOLS}.TransactionsCommand", ["list"]),
        (f"{TOOLS}.AclCommand", ["--list"]),
        (CONFIGS, ["--entity-type", "users", "--entity-name", "u", "--describe"]),
        (
            CONFIGS,
            [
                "--entity-type",
                "clients",
                "--entity-name",
                "c",
                "--alter",
                "--add-config",
                "producer_byte_rate=1024",
            ],
        ),
        (
            CONFIGS,
            [
                "--entity-type",
                "users",
                "--entity-name",
                "u",
                "--alter",
                "--add-config",
                "SCRAM-SHA-256=[password=p]",
            ],
        ),
        (f"{TOOLS}.FeatureCommand", ["upgrade", "--feature", "metadata.version=20"]),
        (f"{TOOLS}.FeatureCommand", ["downgrade", "--feature", "metadata.version=20"]),
        (f"{TOOLS}.FeatureCommand", ["disable", "--feature", "kraft.version"]),
    ],
    ids=str,
)
def test_what_is_not_served_is_said_clearly(both: Both, tool: str, arguments: list[str]) -> None:
    _, fastlog = both.run(tool, *arguments)
    assert re.search(r"UnsupportedVersionException|does not support", fastlog.said), fastlog


def test_what_there_is_none_of(both: Both) -> None:
    both.same(CONFIGS, "--entity-type", "client-metrics", "--describe")


def test_features(both: Both) -> None:
    kafka, fastlog = both.run(f"{TOOLS}.FeatureCommand", "describe")
    features = [
        {line.split()[1]: line.split()[7] for line in done.out.splitlines() if line.startswith("Feature:")}
        for done in (kafka, fastlog)
    ]
    # group.version says that there is the consumer protocol; Kafka has others beside it: KRaft's, transactions'
    assert features[1].items() <= features[0].items()
    assert list(features[1]) == ["group.version"]
