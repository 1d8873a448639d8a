"""Consumer groups with other people's clients: partitions are shared out, positions last."""

from __future__ import annotations

import itertools
import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

import fastlog
from tests.conftest import MakeBroker
from tests.integration.kafka import dump_log, tool
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.clients import kcat
from tests.support.clients.members import LIBRARIES, Member

PARTITIONS = 6
# so long a rebalance may take: a killed member's session, then everybody's next heartbeat
SETTLE_SECONDS = 60.0
JoinGroup = Callable[..., Member]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    settings = {"group.initial.rebalance.delay.ms": "200"}
    made = BrokerProcess(tmp_path_factory.mktemp("groups") / "data", settings=settings).start()
    yield made
    assert made.stop() == 0, made.log()
    assert "Traceback" not in made.log()


@pytest.fixture
def member() -> Iterator[JoinGroup]:
    """Makes members; those that are left at the end are killed."""
    made: list[Member] = []

    def make(*arguments: str) -> Member:
        made.append(Member(*arguments))
        return made[-1]

    yield make
    for each in made:
        if each.process.poll() is None:
            each.process.send_signal(signal.SIGCONT)
            each.kill()


class Load:
    """Records with numbers, spread over the partitions; which were acknowledged."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1})
        self._topic = topic
        self._next = itertools.count()
        self.acknowledged: set[str] = set()

    def send(self, count: int) -> None:
        """Sends so many and waits for the acknowledgements."""
        for _ in range(count):
            value = str(next(self._next))
            self._producer.produce(
                self._topic, value.encode(), partition=int(value) % PARTITIONS, on_delivery=self._delivered
            )
        assert self._producer.flush(30) == 0

    def _delivered(self, error: object, message: object) -> None:
        assert error is None, error
        self.acknowledged.add(message.value().decode())  # type: ignore[attr-defined]


def share(members: list[Member]) -> bool:
    """Whether the members have every partition once between them, and each has some."""
    assigned = [each.assigned for each in members]
    return all(assigned) and sorted(it for each in assigned for it in each) == list(range(PARTITIONS))


def settled(members: list[Member]) -> None:
    wait_until("every partition has one owner", lambda: share(members), seconds=SETTLE_SECONDS)


def read_all(load: Load, members: list[Member]) -> None:
    def done() -> bool:
        return load.acknowledged <= {value for each in members for _, _, value in each.records}

    wait_until("every record was read by someone", done, seconds=SETTLE_SECONDS)


@pytest.mark.parametrize("library", LIBRARIES)
def test_one_goes_on_where_the_last_one_left(
    node: BrokerProcess, topic_name: str, member: JoinGroup, library: str
) -> None:
    create_topic(node.bootstrap, topic_name, PARTITIONS)
    load = Load(node.bootstrap, topic_name)
    load.send(100)
    first = member(library, node.bootstrap, topic_name, topic_name)
    read_all(load, [first])
    assert first.leave() == 0
    assert len(first.records) == 100
    load.send(50)
    second = member(library, node.bootstrap, topic_name, topic_name)
    wait_until("the new ones are read", lambda: len(second.records) >= 50, seconds=SETTLE_SECONDS)
    assert second.leave() == 0
    assert {int(value) for _, _, value in second.records} == set(range(100, 150))


EVENTS = ["leave", "kill", "join", "stall", "leave", "join", "kill", "join"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("rebalances", [len(EVENTS), pytest.param(20, marks=pytest.mark.long)])
def test_three_libraries_share_a_group_through_joins_leaves_kills_and_stalls(
    node: BrokerProcess, topic_name: str, member: JoinGroup, rebalances: int
) -> None:
    create_topic(node.bootstrap, topic_name, PARTITIONS)
    load = Load(node.bootstrap, topic_name)
    live = [member(library, node.bootstrap, topic_name, topic_name) for library in LIBRARIES]
    everyone = list(live)
    settled(live)
    seed = random.randrange(1000)
    print("seed", seed)
    rng = random.Random(seed)
    for number, what in enumerate(itertools.islice(itertools.cycle(EVENTS), rebalances)):
        load.send(60)
        if what == "join":
            fresh = member(LIBRARIES[number % 3], node.bootstrap, topic_name, topic_name)
            live.append(fresh)
            everyone.append(fresh)
        elif what == "stall":
            # a member that is stopped past its session is replaced, and comes back as a new one
            (stalled,) = rng.sample(live, 1)
            stalled.process.send_signal(signal.SIGSTOP)
            others = [it for it in live if it is not stalled]
            settled(others)
            stalled.process.send_signal(signal.SIGCONT)
        else:
            gone = live.pop(rng.randrange(len(live)))
            gone.leave() if what == "leave" else gone.kill()
        if len(live) < 2:
            fresh = member(LIBRARIES[number % 3], node.bootstrap, topic_name, topic_name)
            live.append(fresh)
            everyone.append(fresh)
        settled(live)
        read_all(load, everyone)
    for each in live:
        assert each.leave() == 0, each.library
    read = [record for each in everyone for record in each.records]
    assert load.acknowledged == {value for _, _, value in read}
    owned = [owner for each in everyone for owner in each.owned]
    assert len(owned) == len(set(owned)), "two members read a partition in one generation"
    assert len({generation for generation, _ in owned}) >= rebalances // 2
    # only what was read and not committed by one that was killed or stalled is read again
    assert len(read) - len(set(read)) <= rebalances * 60


@pytest.mark.parametrize("library", ["confluent", "kafka-python", "aiokafka"])
def test_a_static_member_comes_back_without_a_rebalance(
    node: BrokerProcess, topic_name: str, member: JoinGroup, library: str
) -> None:
    create_topic(node.bootstrap, topic_name, PARTITIONS)
    stays = member("confluent", node.bootstrap, topic_name, topic_name, "i1")
    goes = member(library, node.bootstrap, topic_name, topic_name, "i2")
    settled([stays, goes])
    had, told = goes.assigned, stays.assignments
    goes.kill()
    back = member(library, node.bootstrap, topic_name, topic_name, "i2")
    wait_until("it is back", lambda: back.assigned, seconds=SETTLE_SECONDS)
    assert back.assigned == had
    assert stays.assignments == told
    for each in (stays, back):
        each.leave()


def test_kcat_reads_as_a_group(node: BrokerProcess, topic_name: str) -> None:
    create_topic(node.bootstrap, topic_name, PARTITIONS)
    load = Load(node.bootstrap, topic_name)
    load.send(30)
    run = ["-b", node.bootstrap, "-G", topic_name, "-X", "auto.offset.reset=earliest", "-q"]
    first = kcat.run([*run, "-c", "30", topic_name])
    assert {int(line) for line in first.split()} == set(range(30))
    load.send(10)
    second = kcat.run([*run, "-c", "10", topic_name])
    assert {int(line) for line in second.split()} == set(range(30, 40))


@pytest.mark.timeout(240)
def test_javas_tools_use_and_manage_groups(node: BrokerProcess, topic_name: str) -> None:
    create_topic(node.bootstrap, topic_name, 2)
    load = Load(node.bootstrap, topic_name)

    def sent(count: int) -> None:
        for _ in range(count):
            load._producer.produce(topic_name, b"x")
        assert load._producer.flush(30) == 0

    sent(20)
    server = ["--bootstrap-server", node.bootstrap]
    read = tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *server, "--topic", topic_name, "--group", topic_name, "--from-beginning", "--max-messages", "20",
        "--timeout-ms", "30000",
    )  # fmt: skip
    assert read.split() == ["x"] * 20
    verified = tool(
        "org.apache.kafka.tools.VerifiableConsumer",
        *server, "--topic", topic_name, "--group-id", f"{topic_name}-v", "--max-messages", "20",
        "--reset-policy", "earliest",
    )  # fmt: skip
    events = [json.loads(line) for line in verified.splitlines()]
    assert sum(it["count"] for it in events if it["name"] == "records_consumed") == 20
    assert all(it["success"] for it in events if it["name"] == "offsets_committed")

    def groups(*arguments: str) -> str:
        return tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", *server, *arguments)

    assert {topic_name, f"{topic_name}-v"} <= set(groups("--list").split())
    sent(4)
    described = groups("--describe", "--group", topic_name)
    rows = [line.split() for line in described.splitlines() if line.startswith(topic_name)]
    assert sum(int(row[3]) for row in rows) == 20
    assert sum(int(row[5]) for row in rows) == 4
    assert "Empty" in groups("--describe", "--group", topic_name, "--state")
    reset = ["--reset-offsets", "--group", topic_name, "--topic", topic_name, "--to-earliest", "--execute"]
    groups(*reset)
    described = groups("--describe", "--group", topic_name)
    rows = [line.split() for line in described.splitlines() if line.startswith(topic_name)]
    assert [row[3] for row in rows] == ["0", "0"]
    deleted = groups("--delete-offsets", "--group", topic_name, "--topic", topic_name)
    assert "Successful" in deleted
    assert "successful" in groups("--delete", "--group", topic_name)
    assert topic_name not in groups("--list").split()
    performance = tool(
        "org.apache.kafka.tools.ConsumerPerformance",
        *server, "--topic", topic_name, "--messages", "20", "--timeout", "30000",
    )  # fmt: skip
    assert int(performance.splitlines()[-1].split(",")[4]) >= 20


def test_no_tool_deletes_the_topic_of_groups(node: BrokerProcess, topic_name: str) -> None:
    create_topic(node.bootstrap, topic_name, 1)
    consumer = Consumer({"bootstrap.servers": node.bootstrap, "group.id": topic_name})
    consumer.commit(offsets=[TopicPartition(topic_name, 0, 7)], asynchronous=False)
    command = ["--bootstrap-server", node.bootstrap, "--delete", "--topic", f"__consumer.*|{topic_name}"]
    with pytest.raises(AssertionError, match="holds the positions of all groups; delete groups instead"):
        tool("org.apache.kafka.tools.TopicCommand", *command)
    with (
        fastlog.Admin(node.bootstrap) as admin,
        pytest.raises(fastlog.errors.InvalidTopicError, match="positions of all groups"),
    ):
        admin.delete_topic("__consumer_offsets")
    create_topic(node.bootstrap, f"{topic_name}-2", 1)
    consumer.commit(offsets=[TopicPartition(f"{topic_name}-2", 0, 7)], asynchronous=False)
    consumer.close()


def test_confluents_admin_manages_groups(node: BrokerProcess, topic_name: str) -> None:
    from confluent_kafka import ConsumerGroupTopicPartitions

    create_topic(node.bootstrap, topic_name, 1)
    consumer = Consumer({"bootstrap.servers": node.bootstrap, "group.id": topic_name})
    consumer.commit(offsets=[TopicPartition(topic_name, 0, 7, "words")], asynchronous=False)
    consumer.close()
    admin = AdminClient({"bootstrap.servers": node.bootstrap})
    listed = admin.list_consumer_groups().result().valid
    assert topic_name in {group.group_id for group in listed}
    described = admin.describe_consumer_groups([topic_name])[topic_name].result()
    assert described.state.name == "EMPTY"
    asked = [ConsumerGroupTopicPartitions(topic_name)]
    (offset,) = admin.list_consumer_group_offsets(asked)[topic_name].result().topic_partitions
    assert (offset.offset, offset.metadata) == (7, "words")
    wanted = [ConsumerGroupTopicPartitions(topic_name, [TopicPartition(topic_name, 0, 3)])]
    admin.alter_consumer_group_offsets(wanted)[topic_name].result()
    (offset,) = admin.list_consumer_group_offsets(asked)[topic_name].result().topic_partitions
    assert offset.offset == 3
    admin.delete_consumer_groups([topic_name])[topic_name].result()
    listed = admin.list_consumer_groups().result().valid
    assert topic_name not in {group.group_id for group in listed}


def test_what_is_in_the_topic_of_groups_is_what_kafkas_tools_read(make_broker: MakeBroker) -> None:
    broker = make_broker(settings={"group.initial.rebalance.delay.ms": "0"})
    create_topic(broker.bootstrap, "t", 1)
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "g", "client.id": "c"})
    assigned: list[object] = []
    consumer.subscribe(["t"], on_assign=lambda _, partitions: assigned.append(partitions))
    deadline = time.monotonic() + SETTLE_SECONDS
    while not assigned:
        consumer.poll(0.1)
        assert time.monotonic() < deadline
    consumer.commit(offsets=[TopicPartition("t", 0, 5, "words", 0)], asynchronous=False)
    files = [path for path in Path(broker.data_dir).glob("__consumer_offsets-*/*.log") if path.stat().st_size]
    assert len(files) == 1
    dumped = dump_log(files[0], options=("--offsets-decoder",))
    consumer.close()
    assert '"group":"g","topic":"t","partition":0' in dumped.replace(" ", "")
    assert '"offset":5' in dumped.replace(" ", "")
    # with a zero behind it, which librdkafka sends
    assert '"metadata":"words' in dumped.replace(" ", "")
    assert '"protocolType":"consumer"' in dumped.replace(" ", "")
    assert '"clientId":"c"' in dumped.replace(" ", "")


def test_a_stop_does_not_wait_for_members_that_wait(make_broker: MakeBroker, member: JoinGroup) -> None:
    broker = make_broker(settings={"group.initial.rebalance.delay.ms": "60000"})
    create_topic(broker.bootstrap, "t", PARTITIONS)
    waiting = member("confluent", broker.bootstrap, "g", "t")
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})

    def joined() -> bool:
        try:
            found = admin.describe_consumer_groups(["g"])["g"].result()
        except KafkaException as error:
            # librdkafka does not ask again
            if error.args[0].code() != KafkaError.COORDINATOR_LOAD_IN_PROGRESS:
                raise
            return False
        return bool(found.state.name == "PREPARING_REBALANCING")

    wait_until("it has joined", joined, seconds=SETTLE_SECONDS)
    began = time.monotonic()
    assert broker.stop() == 0
    # fastlog.shutdown.timeout.ms is 10 s
    assert time.monotonic() - began < 5
    waiting.kill()
