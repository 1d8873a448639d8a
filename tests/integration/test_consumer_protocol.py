"""Groups of the consumer protocol (KIP-848) with other people's clients: three members join, leave and are killed."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.integration.kafka import java, tool
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.clients.members import CONSUMER_PROTOCOL, Member

PARTITIONS = 6
# a killed member's session, then everybody's next heartbeats, on a machine that has much to do
SETTLE_SECONDS = 120.0
VERIFIABLE_CONSUMER = "org.apache.kafka.tools.VerifiableConsumer"
CONSUMER_GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    settings = {
        "group.initial.rebalance.delay.ms": "0",
        "group.consumer.min.session.timeout.ms": "1000",
        "group.consumer.min.heartbeat.interval.ms": "100",
        "group.consumer.session.timeout.ms": "5000",
        "group.consumer.heartbeat.interval.ms": "500",
    }
    made = BrokerProcess(tmp_path_factory.mktemp("consumers") / "data", settings=settings).start()
    yield made
    assert made.stop() == 0, made.log()
    assert "Traceback" not in made.log()


class JavaMember:
    """Kafka's VerifiableConsumer, which tells in JSON what happens to it."""

    def __init__(self, bootstrap: str, group_id: str, topic: str, protocol: str = "consumer") -> None:
        options = ["--bootstrap-server", bootstrap, "--topic", topic, "--group-id", group_id]
        options += ["--group-protocol", protocol, "--reset-policy", "earliest"]
        self._owned: set[int] = set()
        self.read = 0
        self.process = subprocess.Popen(
            java(VERIFIABLE_CONSUMER, *options, heap="96m"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def assigned(self) -> list[int]:
        """The partitions that it has."""
        return sorted(self._owned)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            numbers = [it["partition"] for it in event.get("partitions", []) if isinstance(it, dict)]
            if event["name"] == "partitions_assigned":
                self._owned |= set(numbers)
            elif event["name"] == "partitions_revoked":
                self._owned -= set(numbers)
            elif event["name"] == "records_consumed":
                self.read += event["count"]

    def leave(self) -> int:
        """Has it close its consumer and end."""
        self.process.terminate()
        return self.process.wait(60)

    def kill(self) -> None:
        """Ends it without a farewell."""
        self.process.kill()
        self.process.wait(60)


Make = Callable[[str, str, str], Any]
MAKERS: dict[str, Make] = {
    "confluent-kafka": lambda *where: Member(CONSUMER_PROTOCOL, *where),
    "java": JavaMember,
}


@pytest.fixture
def members() -> Iterator[list[Any]]:
    """Those that are left at the end are killed."""
    made: list[Any] = []
    yield made
    for each in made:
        if each.process.poll() is None:
            each.kill()


def settled(members: list[Any]) -> None:
    def share() -> bool:
        assigned = [each.assigned for each in members]
        equal = {len(each) for each in assigned} == {PARTITIONS // len(members)}
        return equal and sorted(it for each in assigned for it in each) == list(range(PARTITIONS))

    wait_until("every partition has one owner, and all have as many", share, seconds=SETTLE_SECONDS)


def send(node: BrokerProcess, topic: str, values: Iterator[int], count: int) -> None:
    producer = Producer({"bootstrap.servers": node.bootstrap})
    for value in itertools.islice(values, count):
        producer.produce(topic, str(value).encode(), partition=value % PARTITIONS)
    assert producer.flush(60) == 0


def group_type(node: BrokerProcess, group_id: str) -> str:
    listed = tool(CONSUMER_GROUPS, "--bootstrap-server", node.bootstrap, "--list", "--type")
    return next(line.split()[1] for line in listed.splitlines() if line.startswith(f"{group_id} "))


@pytest.mark.parametrize("client", MAKERS)
def test_three_members_share_through_joins_leaves_and_kills(
    node: BrokerProcess, topic_name: str, members: list[Any], client: str
) -> None:
    create_topic(node.bootstrap, topic_name, PARTITIONS)
    values = itertools.count()

    def add() -> None:
        members.append(MAKERS[client](node.bootstrap, topic_name, topic_name))

    add()
    settled(members)
    add()
    add()
    settled(members)
    send(node, topic_name, values, 60)
    leaving = members.pop(0)
    assert leaving.leave() in (0, 143)
    settled(members)
    send(node, topic_name, values, 60)
    killed = members.pop(0)
    killed.kill()
    settled(members)
    add()
    settled(members)
    send(node, topic_name, values, 60)

    def all_read() -> bool:
        count = sum(
            len(it.records) if isinstance(it, Member) else it.read for it in (*members, leaving, killed)
        )
        return count >= 180

    wait_until("all is read", all_read, seconds=SETTLE_SECONDS)


def test_kafkas_tool_describes_such_a_group(node: BrokerProcess, topic_name: str, members: list[Any]) -> None:
    create_topic(node.bootstrap, topic_name, PARTITIONS)
    members.append(Member(CONSUMER_PROTOCOL, node.bootstrap, topic_name, topic_name))
    settled(members)
    command = ["--bootstrap-server", node.bootstrap, "--describe", "--group", topic_name]
    state = tool(CONSUMER_GROUPS, *command, "--state", "--verbose")
    assert "Stable" in state
    assert "uniform" in state
    described = tool(CONSUMER_GROUPS, *command, "--members", "--verbose")
    assert f"{topic_name}:0,1,2,3,4,5" in described
    assert group_type(node, topic_name).lower() == "consumer"


def test_a_group_changes_to_the_consumer_protocol_and_back_while_it_reads(
    node: BrokerProcess, topic_name: str, members: list[Any]
) -> None:
    create_topic(node.bootstrap, topic_name, PARTITIONS)
    members.append(Member("confluent", node.bootstrap, topic_name, topic_name))
    settled(members)
    assert group_type(node, topic_name).lower() == "classic"
    newer = Member(CONSUMER_PROTOCOL, node.bootstrap, topic_name, topic_name)
    members.append(newer)
    settled(members)
    assert group_type(node, topic_name).lower() == "consumer"
    members.remove(newer)
    assert newer.leave() == 0
    settled(members)
    assert group_type(node, topic_name).lower() == "classic"
    send(node, topic_name, itertools.count(), 30)
    wait_until("all is read", lambda: len(members[0].records) >= 30, seconds=SETTLE_SECONDS)
