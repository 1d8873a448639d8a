"""Kafka's own command line tools, with its Java clients inside, at work on a fastlog broker."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import MakeBroker
from tests.integration.kafka import tool
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until

TOOLS = "org.apache.kafka.tools"


def topics(broker: BrokerProcess, *arguments: str) -> str:
    return tool(f"{TOOLS}.TopicCommand", "--bootstrap-server", broker.bootstrap, *arguments)


def offsets(broker: BrokerProcess, topic: str, *arguments: str) -> list[str]:
    found = tool(
        f"{TOOLS}.GetOffsetShell", "--bootstrap-server", broker.bootstrap, "--topic", topic, *arguments
    )
    return [line.removeprefix(f"{topic}:") for line in found.splitlines()]


def test_kafka_topics_creates_grows_describes_and_deletes(broker: BrokerProcess, topic_name: str) -> None:
    topics(
        broker, "--create", "--topic", topic_name, "--partitions", "2", "--config", "retention.ms=123456789"
    )
    topics(broker, "--alter", "--topic", topic_name, "--partitions", "3")
    described = topics(broker, "--describe", "--topic", topic_name).splitlines()
    assert "PartitionCount: 3\tReplicationFactor: 1\tConfigs: retention.ms=123456789" in described[0]
    assert [line.split("\t")[2:6] for line in described[1:]] == [
        [f"Partition: {index}", "Leader: 1", "Replicas: 1", "Isr: 1"] for index in range(3)
    ]
    # what DescribeTopicPartitions tells and Metadata does not
    assert all(line.split("\t")[6:8] == ["Elr: ", "LastKnownElr: "] for line in described[1:]), described
    by_id = described[0].split("TopicId: ")[1].split("\t")[0]
    assert topics(broker, "--describe", "--topic-id", by_id).splitlines()[0] == described[0]
    paged = topics(broker, "--describe", "--topic", topic_name, "--partition-size-limit-per-response", "2")
    assert paged.splitlines() == described
    topics(broker, "--delete", "--topic", topic_name)
    assert topic_name not in topics(broker, "--list").split()


def test_kafka_configs_changes_and_shows_settings(broker: BrokerProcess, topic_name: str) -> None:
    create_topic(broker.bootstrap, topic_name)
    command = ["--bootstrap-server", broker.bootstrap, "--entity-type", "topics", "--entity-name", topic_name]
    added = "retention.ms=5000000,cleanup.policy=[compact,delete]"
    tool("kafka.admin.ConfigCommand", *command, "--alter", "--add-config", added)
    shown = tool("kafka.admin.ConfigCommand", *command, "--describe")
    assert "cleanup.policy=compact,delete sensitive=false" in shown
    assert "retention.ms=5000000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=5000000" in shown
    tool("kafka.admin.ConfigCommand", *command, "--alter", "--delete-config", "retention.ms")
    assert "retention.ms" not in tool("kafka.admin.ConfigCommand", *command, "--describe")


def test_records_are_written_counted_and_deleted(
    broker: BrokerProcess, topic_name: str, tmp_path: Path
) -> None:
    create_topic(broker.bootstrap, topic_name, 2)
    bootstrap = ["--bootstrap-server", broker.bootstrap]
    sent = tool(f"{TOOLS}.VerifiableProducer", *bootstrap, "--topic", topic_name, "--max-messages", "50")
    done = [json.loads(line) for line in sent.splitlines()]
    written = [row for row in done if row["name"] == "producer_send_success"]
    assert sorted(int(row["value"]) for row in written) == list(range(50))
    ends = offsets(broker, topic_name)
    assert sum(int(line.split(":")[1]) for line in ends) == 50
    (full,) = [line.split(":")[0] for line in ends if int(line.split(":")[1]) >= 25][:1]
    file = tmp_path / "delete.json"
    partition = {"topic": topic_name, "partition": int(full), "offset": 20}
    file.write_text(json.dumps({"version": 1, "partitions": [partition]}))
    deleted = tool(f"{TOOLS}.DeleteRecordsCommand", *bootstrap, "--offset-json-file", str(file))
    assert f"partition: {topic_name}-{full}\tlow_watermark: 20" in deleted
    assert f"{full}:20" in offsets(broker, topic_name, "--time", "earliest")


def test_kafka_reassign_partitions_moves_a_replica_to_another_directory(
    make_broker: MakeBroker, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    broker = make_broker(start=False)
    broker.arguments = ("--data-dir", str(second))
    broker.start()
    create_topic(broker.bootstrap, "orders")
    bootstrap = ["--bootstrap-server", broker.bootstrap]
    tool(f"{TOOLS}.VerifiableProducer", *bootstrap, "--topic", "orders", "--max-messages", "50")
    moved = {"topic": "orders", "partition": 0, "replicas": [1], "log_dirs": [str(second)]}
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"version": 1, "partitions": [moved]}))
    command = [f"{TOOLS}.reassign.ReassignPartitionsCommand", *bootstrap]
    command += ["--reassignment-json-file", str(plan)]
    started = tool(*command, "--execute")
    assert (
        f"Successfully started moving log directory to {second} for replica orders-0 with broker 1" in started
    )
    finished = "Reassignment of replica orders-0-1 completed successfully."
    wait_until("the tool finds it moved", lambda: finished in tool(*command, "--verify"))
    described = json.loads(
        tool(f"{TOOLS}.LogDirsCommand", *bootstrap, "--describe", "--topic-list", "orders").splitlines()[-1]
    )
    where = {
        it["logDir"]: [p["partition"] for p in it["partitions"]] for it in described["brokers"][0]["logDirs"]
    }
    assert where == {str(broker.data_dir): [], str(second): ["orders-0"]}
    assert offsets(broker, "orders") == ["0:50"]
    assert broker.stop() == 0, broker.log()
