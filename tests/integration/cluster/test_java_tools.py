"""Kafka's own tools at work on a cluster: topics, moves of partitions, elections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from fastlog.testing import Cluster
from tests.integration.kafka import tool

TOOLS = "org.apache.kafka.tools"


def run(cluster: Cluster, name: str, *arguments: str) -> str:
    return tool(f"{TOOLS}.{name}", "--bootstrap-server", cluster.bootstrap, *arguments)


@pytest.mark.timeout(180)
def test_partitions_are_moved_and_their_leaders_elected(cluster: Cluster, topic: str, tmp_path: Path) -> None:
    run(cluster, "TopicCommand", "--create", "--topic", topic, "--replica-assignment", "1:2,2:1")
    described = run(cluster, "TopicCommand", "--describe", "--topic", topic)
    assert "PartitionCount: 2\tReplicationFactor: 2" in described
    plan = tmp_path / "plan.json"
    moves = [{"topic": topic, "partition": 0, "replicas": [3, 2]}]
    plan.write_text(json.dumps({"version": 1, "partitions": moves}))
    command = "reassign.ReassignPartitionsCommand"
    started = run(cluster, command, "--reassignment-json-file", str(plan), "--execute")
    assert f"Successfully started partition reassignment for {topic}-0" in started

    def is_complete() -> bool:
        said = run(cluster, command, "--reassignment-json-file", str(plan), "--verify")
        return f"Reassignment of partition {topic}-0 is completed." in said

    cluster.wait_until("the tool finds it complete", is_complete, 60)
    assert "No partition reassignments found." in run(cluster, command, "--list")
    run(
        cluster,
        "LeaderElectionCommand",
        "--election-type",
        "preferred",
        "--topic",
        topic,
        "--partition",
        "0",
    )
    assert cluster.leader_of(topic).broker_id == 3


MOVE = "reassign.ReassignPartitionsCommand"
CONFIGS = "kafka.admin.ConfigCommand"


def configs(cluster: Cluster, kind: str, name: str, *arguments: str) -> str:
    return tool(
        CONFIGS,
        "--bootstrap-server",
        cluster.bootstrap,
        "--entity-type",
        kind,
        "--entity-name",
        name,
        *arguments,
    )


def written(file: Path, document: Any) -> str:
    file.write_text(json.dumps(document))
    return str(file)


@pytest.fixture
def filled(cluster: Cluster, topic: str) -> str:
    """A topic with a partition on broker 1, with more than the one answer that passes any throttle."""
    with cluster.admin() as admin:
        admin.create_topic(topic)
        admin.reassign({(topic, 0): (1,)})
        cluster.wait_until(
            "it is on broker 1", lambda: admin.describe_topic(topic).partitions[0].replicas == (1,)
        )
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    for _ in range(3_000):
        producer.produce(topic, bytes(1000))
    assert producer.flush(60) == 0
    return topic


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_throttled_move_is_planned_begun_looked_at_cancelled_and_ended(
    cluster: Cluster, filled: str, tmp_path: Path
) -> None:
    topics = written(tmp_path / "topics.json", {"version": 1, "topics": [{"topic": filled}]})
    generated = run(cluster, MOVE, "--topics-to-move-json-file", topics, "--broker-list", "2", "--generate")
    proposed = json.loads(generated.split("Proposed partition reassignment configuration\n")[1])
    assert [it["replicas"] for it in proposed["partitions"]] == [[2]]
    plan = ("--reassignment-json-file", written(tmp_path / "plan.json", proposed))
    started = run(cluster, MOVE, *plan, "--execute", "--throttle", "1")
    assert "The inter-broker throttle limit was set to 1 B/s" in started
    assert f"Successfully started partition reassignment for {filled}-0" in started
    # what the tool sets is what the brokers go by
    shown = configs(cluster, "topics", filled, "--describe")
    assert "leader.replication.throttled.replicas=0:1 " in shown
    assert "follower.replication.throttled.replicas=0:2 " in shown
    shown = configs(cluster, "brokers", "2", "--describe")
    assert "follower.replication.throttled.rate=1 " in shown
    listed = run(cluster, MOVE, "--list")
    assert f"{filled}-0: replicas: 2,1. adding: 2. removing: 1." in listed
    assert f"Reassignment of partition {filled}-0 is still in progress." in run(
        cluster, MOVE, *plan, "--verify"
    )
    cancelled = run(cluster, MOVE, *plan, "--cancel")
    assert f"Successfully cancelled partition reassignment for: {filled}-0" in cancelled
    assert "No partition reassignments found." in run(cluster, MOVE, "--list")
    assert "throttled" not in configs(cluster, "topics", filled, "--describe")
    # and once more, with a throttle that lets it end
    run(cluster, MOVE, *plan, "--execute", "--throttle", "100000000")

    def is_complete() -> bool:
        said = run(cluster, MOVE, *plan, "--verify")
        return f"Reassignment of partition {filled}-0 is completed." in said

    cluster.wait_until("the tool finds it complete", is_complete, 60)
    with cluster.admin() as admin:
        assert admin.describe_topic(filled).partitions[0].replicas == (2,)
        rates = admin.describe_configs(broker=2)["follower.replication.throttled.rate"]
        assert (rates.value, rates.source) == (str(2**63 - 1), "default")


@pytest.mark.timeout(300)
def test_kafka_configs_sets_and_refuses_throttles(cluster: Cluster, topic: str) -> None:
    with cluster.admin() as admin:
        admin.create_topic(topic)
    key = "leader.replication.throttled.replicas"
    configs(cluster, "topics", topic, "--alter", "--add-config", f"{key}=[0:1,1:2]")
    assert f"{key}=0:1,1:2 " in configs(cluster, "topics", topic, "--describe")
    with pytest.raises(AssertionError, match="it takes what matches"):
        configs(cluster, "topics", topic, "--alter", "--add-config", f"{key}=everything")
    configs(cluster, "topics", topic, "--alter", "--delete-config", key)
    assert key not in configs(cluster, "topics", topic, "--describe")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_kafka_topics_tells_which_partitions_lack_replicas() -> None:
    """One broker is dead: what it alone had has no leader, what it shared has too few in sync."""
    with Cluster(3, settings={"min.insync.replicas": "1"}) as cluster:
        with cluster.admin() as admin:
            for name, replicas, min_isr in (("whole", "1:2", "1"), ("short", "2:3", "2"), ("gone", "3", "1")):
                run(
                    cluster,
                    "TopicCommand",
                    "--create",
                    "--topic",
                    name,
                    "--replica-assignment",
                    replicas,
                    "--config",
                    f"min.insync.replicas={min_isr}",
                )
            cluster[3].kill()
            cluster.wait_until(
                "the controller has noticed", lambda: admin.describe_topic("gone").partitions[0].leader < 0
            )
            cluster.wait_until(
                "the in-sync replicas are told",
                lambda: admin.describe_topic("short").partitions[0].isr == (2,),
            )

        def told(option: str) -> set[str]:
            said = run(cluster, "TopicCommand", "--describe", option)
            return {
                line.split("\t")[1].removeprefix("Topic: ") for line in said.splitlines() if "Topic: " in line
            }

        assert told("--under-replicated-partitions") == {"short", "gone"}
        assert told("--unavailable-partitions") == {"gone"}
        assert told("--under-min-isr-partitions") == {"short", "gone"}
