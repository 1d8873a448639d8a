"""Kafka's tools that make load, and that say what it takes, at work on Apache Kafka and on fastlog."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.integration.kafka import tool
from tests.integration.kafka.server import KafkaServer
from tests.support.broker import BrokerProcess
from tests.support.compared_tools import Both
from tests.support.pair import Pair

TOOLS = "org.apache.kafka.tools"

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def events(out: str) -> list[dict[str, Any]]:
    """What a tool told in JSON, without the times."""
    found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return [{key: value for key, value in it.items() if "timestamp" not in key} for it in found]


def test_perf_tools(both: Both, pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name)
    produced = both.run(
        f"{TOOLS}.ProducerPerformance", "--topic", topic_name, "--num-records", "5000", "--record-size", "100",
        "--throughput", "-1", "--command-property", "acks=all", "--command-property", "compression.type=zstd",
    )  # fmt: skip
    for done in produced:
        assert done.status == 0, done
        assert re.findall(r"^(\d+) records sent", done.out, re.MULTILINE)[-1] == "5000"
    consumed = both.run(
        f"{TOOLS}.ConsumerPerformance", "--topic", topic_name, "--num-records", "5000", "--group", topic_name
    )
    for done in consumed:
        assert done.status == 0, done
        heads, row = ([it.strip() for it in line.split(",")] for line in done.out.splitlines()[-2:])
        assert dict(zip(heads, row, strict=True))["data.consumed.in.nMsg"] == "5000"


def test_verifiable_tools(kafka: KafkaServer, broker: BrokerProcess, pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name)
    arguments = ["--topic", topic_name, "--max-messages", "50", "--acks", "-1", "--value-prefix", "7"]
    # it says how many it sent when its process ends
    sent, also_sent = (
        events(tool(f"{TOOLS}.VerifiableProducer", "--bootstrap-server", server.bootstrap, *arguments))
        for server in (kafka, broker)
    )
    for told in (sent, also_sent):
        (end,) = [it for it in told if it["name"] == "tool_data"]
        assert (end["sent"], end["acked"]) == (50, 50)
    acknowledged = [
        sorted(
            (it["value"], it["partition"], it["offset"])
            for it in told
            if it["name"] == "producer_send_success"
        )
        for told in (sent, also_sent)
    ]
    assert acknowledged[0] == acknowledged[1]
    assert len(acknowledged[0]) == 50
    for protocol in ("classic", "consumer"):
        member = [
            "--topic",
            topic_name,
            "--group-id",
            f"{topic_name}-{protocol}",
            "--group-protocol",
            protocol,
        ]
        reading = ["--reset-policy", "earliest", "--max-messages", "50", "--verbose"]
        read, also_read = (
            events(
                tool(f"{TOOLS}.VerifiableConsumer", "--bootstrap-server", server.bootstrap, *member, *reading)
            )
            for server in (kafka, broker)
        )
        for name in ("record_data", "partitions_assigned"):
            told = [[it for it in one if it["name"] == name] for one in (read, also_read)]
            assert told[0] == told[1] != []


def test_log_dirs(both: Both, pair: Pair, topic_name: str) -> None:
    pair.topic(topic_name)
    both.same(f"{TOOLS}.ConsoleProducer", "--topic", topic_name, "--sync", stdin="one\ntwo\n")
    described = []
    for done in both.run(
        f"{TOOLS}.LogDirsCommand", "--describe", "--topic-list", topic_name, "--broker-list", "1"
    ):
        assert done.status == 0, done
        (broker,) = json.loads(done.out.splitlines()[-1])["brokers"]
        (directory,) = broker["logDirs"]
        described.append((broker["broker"], directory["error"], directory["partitions"]))
    assert described[0] == described[1]
    assert described[0][2][0]["size"] > 0
    both.same(
        f"{TOOLS}.LogDirsCommand", "--describe", "--topic-list", f"{topic_name}-absent", "--broker-list", "9"
    )
