"""Kafka's own tools at work on a cluster: topics, moves of partitions, elections."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
