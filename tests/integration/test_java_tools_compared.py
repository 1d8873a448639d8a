"""Kafka's command line tools at work on fastlog and on Apache Kafka: what they say is compared."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from fastlog.protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.integration.kafka.server import KafkaServer
from tests.support.broker import BrokerProcess
from tests.support.compared_tools import Both
from tests.support.java_tools import SCRIPTS, TOOLS, rows_of
from tests.support.pair import Pair
from tests.support.wire import Batch

CONFIGS = "kafka.admin.ConfigCommand"
TOPICS = f"{TOOLS}.TopicCommand"
OFFSETS = f"{TOOLS}.GetOffsetShell"
ELECTION = f"{TOOLS}.LeaderElectionCommand"
CLUSTER = SCRIPTS["kafka-cluster.sh"]
QUORUM = SCRIPTS["kafka-metadata-quorum.sh"]
REASSIGN = SCRIPTS["kafka-reassign-partitions.sh"]
# beside what has to do with share groups
NOT_SERVED = [
    "AddOffsetsToTxn",
    "AddPartitionsToTxn",
    "AddRaftVoter",
    "AlterClientQuotas",
    "AlterUserScramCredentials",
    "CreateAcls",
    "CreateDelegationToken",
    "DeleteAcls",
    "DescribeAcls",
    "DescribeClientQuotas",
    "DescribeDelegationToken",
    "DescribeTransactions",
    "DescribeUserScramCredentials",
    "EndTxn",
    "ExpireDelegationToken",
    "GetTelemetrySubscriptions",
    "ListTransactions",
    "PushTelemetry",
    "RemoveRaftVoter",
    "RenewDelegationToken",
    "SaslAuthenticate",
    "SaslHandshake",
    "StreamsGroupDescribe",
    "StreamsGroupHeartbeat",
    "TxnOffsetCommit",
    "UnregisterBroker",
    "UpdateFeatures",
    "WriteTxnMarkers",
]
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


def test_kafka_metadata_quorum(both: Both) -> None:
    kafka, fastlog = both.run(QUORUM, "describe", "--status")
    assert kafka.status == fastlog.status == 0, fastlog.err
    told = [dict(re.findall(r"^(\w+):\s*(.*)$", it.out, re.MULTILINE)) for it in (kafka, fastlog)]
    assert list(told[0]) == list(told[1])
    # one node alone: it leads, votes, and has all
    for name in ("LeaderId", "MaxFollowerLag", "MaxFollowerLagTimeMs", "CurrentObservers"):
        assert told[0][name] == told[1][name], name
    assert int(told[1]["HighWatermark"]) > 0
    kafka, fastlog = both.run(QUORUM, "describe", "--replication")
    rows = [[line.split() for line in it.out.splitlines()] for it in (kafka, fastlog)]
    assert rows[0][0] == rows[1][0]
    assert [(row[0], row[3], row[-1]) for row in rows[0][1:]] == [
        (row[0], row[3], row[-1]) for row in rows[1][1:]
    ]


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
    both.same(ELECTION, "--election-type", "unclean", "--topic", topic_name, "--partition", "0")
    both.same(ELECTION, "--election-type", "unclean", "--topic", topic_name, "--partition", "7")
    both.same(ELECTION, "--election-type", "sometimes", "--topic", topic_name, "--partition", "0")


@pytest.mark.parametrize("kind", ["preferred", "unclean"])
def test_leaders_of_all_partitions_are_elected(both: Both, pair: Pair, topic_name: str, kind: str) -> None:
    pair.topic(topic_name, 3)
    # where nothing changes nothing is said
    both.same(ELECTION, "--election-type", kind, "--all-topic-partitions")


@pytest.mark.parametrize("kind", ["preferred", "unclean"])
def test_leaders_are_elected_by_a_file(
    both: Both, pair: Pair, topic_name: str, tmp_path: Path, kind: str
) -> None:
    pair.topic(topic_name, 3)
    file = tmp_path / "partitions.json"
    for numbers in ([0, 2], [1, 9], []):
        listed = [{"topic": topic_name, "partition": number} for number in numbers]
        file.write_text(json.dumps({"partitions": listed}))
        both.same(ELECTION, "--election-type", kind, "--path-to-json-file", str(file))
    file.write_text("no JSON")
    both.same(ELECTION, "--election-type", kind, "--path-to-json-file", str(file))


def test_what_there_is_none_of(both: Both) -> None:
    both.same(CONFIGS, "--entity-type", "client-metrics", "--describe")


@pytest.mark.parametrize(("command", "said", "kafka_says"), rows_of("What is refused"), ids=str)
def test_what_is_not_served_is_said_clearly(both: Both, command: str, said: str, kafka_says: str) -> None:
    script, *arguments = shlex.split(command.strip("`"))
    # its subcommand comes before the address
    first = 1 if script == "kafka-cluster.sh" else 0
    kafka, fastlog = both.run(SCRIPTS[script], *arguments[first:], before=tuple(arguments[:first]))
    if kafka_says == "nothing":
        assert (kafka.status, kafka.out.strip()) == (0, "")
    else:
        assert kafka_says.strip("`") in kafka.said
    assert said.strip("`") in fastlog.said


def test_kafka_broker_api_versions(both: Both) -> None:
    kafka, fastlog = (
        dict(re.findall(r"^\t(\w+)\(\d+\): (.*?),?$", done.out, re.MULTILINE))
        for done in both.run(SCRIPTS["kafka-broker-api-versions.sh"])
    )
    served = {name: versions for name, versions in fastlog.items() if versions != "UNSUPPORTED"}
    assert served.items() <= kafka.items()
    assert kafka.keys() == fastlog.keys()
    assert sorted(name for name in fastlog if name not in served and "Share" not in name) == NOT_SERVED


def test_kafka_cluster(both: Both) -> None:
    kafka, fastlog = both.run(CLUSTER, before=("cluster-id",))
    for done in (kafka, fastlog):
        assert re.fullmatch(r"Cluster ID: [\w-]{22}\n", done.out), done
    for more in ([], ["--include-fenced-brokers"]):
        listed = [
            # the ports differ
            [[*row[:2], *row[3:]] for row in map(str.split, done.out.splitlines())]
            for done in both.run(CLUSTER, *more, before=("list-endpoints",))
        ]
        assert listed[0] == listed[1]
        assert listed[1][1:] == [["1", "127.0.0.1", "null", "unfenced", "broker"]]


def test_partitions_are_reassigned(
    both: Both, kafka: KafkaServer, broker: BrokerProcess, pair: Pair, topic_name: str
) -> None:
    pair.topic(topic_name, 2)

    def plan(log_dir: str | None, topic: str = topic_name, replicas: tuple[int, ...] = (1,)) -> list[str]:
        for server in (kafka, broker):
            directory = str(server.data_dir.resolve())
            moved: dict[str, object] = {"topic": topic, "partition": 1, "replicas": replicas}
            if log_dir is not None:
                moved["log_dirs"] = [log_dir.replace("{data_dir}", directory)]
            document = {"version": 1, "partitions": [moved]}
            Path(f"{directory}.plan.json").write_text(json.dumps(document))
        return ["--reassignment-json-file", "{data_dir}.plan.json"]

    for log_dir in (None, "any", "{data_dir}", "/no/such/directory", "relative"):
        for action in ("--execute", "--verify"):
            both.same(REASSIGN, *plan(log_dir), action, texts=True)
    both.same(REASSIGN, *plan(None), "--cancel")
    both.same(REASSIGN, *plan(None, f"{topic_name}-absent"), "--execute")
    both.same(REASSIGN, *plan(None, f"{topic_name}-absent"), "--verify")
    both.same(REASSIGN, *plan(None, replicas=(9,)), "--execute")
    both.same(REASSIGN, "--list")
    topics = Path(f"{broker.data_dir.resolve()}.topics.json")
    topics.write_text(json.dumps({"version": 1, "topics": [{"topic": topic_name}]}))
    generating = ["--topics-to-move-json-file", str(topics), "--broker-list"]
    both.same(REASSIGN, *generating, "1", "--generate")
    both.same(REASSIGN, *generating, "1,9", "--generate")


def test_producers_of_partitions(both: Both, pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name)
    transactions = SCRIPTS["kafka-transactions.sh"]
    both.same(transactions, "describe-producers", "--topic", topic_name, "--partition", "0")
    # one that wrote, and one that wrote again in a later epoch
    for producer_id, epoch, sequence in ((4711, 0, 0), (4712, 5, 0), (4712, 5, 1), (4712, 6, 0)):
        batch = Batch(producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence).encode()
        data = [TopicProduceData(name=topic_name, partition_data=[PartitionProduceData(0, batch)])]
        pair.same(ProduceRequest(None, -1, 30_000, data), 9)
    told = both.run(transactions, "describe-producers", "--topic", topic_name, "--partition", "0")
    # when one wrote last is told by the broker's clock, Kafka's by its records (docs/log.md)
    kafka, ours = (re.sub(r"\b\d{13}\b", "…", it.said) for it in told)
    assert kafka == ours
    assert "4712" in ours
    both.same(transactions, "find-hanging", "--broker-id", "1")
    answers = pair.both(DescribeProducersRequest([TopicRequest(topic_name, [0])]), 0)
    for answer in answers:
        producers = answer.topics[0].partitions[0].active_producers
        assert [it.producer_id for it in producers] == [4711, 4712]
        for it in producers:
            it.last_timestamp = 0
    pair.check("active producers", 0, answers)


def test_features(both: Both) -> None:
    kafka, fastlog = both.run(f"{TOOLS}.FeatureCommand", "describe")
    features = [
        {line.split()[1]: line.split()[7] for line in done.out.splitlines() if line.startswith("Feature:")}
        for done in (kafka, fastlog)
    ]
    # group.version says that there is the consumer protocol; Kafka has others beside it: KRaft's, transactions'
    assert features[1].items() <= features[0].items()
    assert list(features[1]) == ["group.version"]
