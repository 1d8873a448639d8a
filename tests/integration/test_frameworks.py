"""FastStream and Quix Streams: the hello worlds of their documents read in a group and go on where they stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

import fastlog
from tests.support.broker import BrokerProcess, wait_until
from tests.support.frameworks import HelloWorld

PARTITIONS = 3
READ_SECONDS = 30.0
Start = Callable[..., HelloWorld]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker with a short wait for more members."""
    settings = {"group.initial.rebalance.delay.ms": "200"}
    made = BrokerProcess(tmp_path_factory.mktemp("frameworks") / "data", settings=settings).start()
    yield made
    assert made.stop() == 0, made.log()
    assert "Traceback" not in made.log()


@pytest.fixture
def start(node: BrokerProcess, topic_name: str, tmp_path: Path) -> Iterator[Start]:
    """Makes the topic of users; runs hello worlds on it, in a group of the topic's name."""
    with fastlog.Admin(node.bootstrap) as admin:
        admin.create_topic(topic_name, partitions=PARTITIONS)
        admin.create_topic(f"{topic_name}-out", partitions=1)
    made: list[HelloWorld] = []

    def run(name: str, *arguments: str) -> HelloWorld:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(HelloWorld(name, folder, node.bootstrap, topic_name, topic_name, *arguments))
        return made[-1]

    yield run
    for one in made:
        one.kill()


def register(bootstrap: str, topic: str, ids: Iterable[int]) -> None:
    """Sends users, four keys among them."""
    with fastlog.Producer(bootstrap) as producer:
        for number in ids:
            user = {"user": f"u{number}", "user_id": number}
            producer.send(topic, json.dumps(user).encode(), key=str(number % 4).encode())
        producer.flush()


def read(program: HelloWorld, expected: Iterable[int]) -> None:
    """Waits until the program has read these and nothing else, and stops it."""
    wanted = sorted(expected)
    try:
        wait_until("all are read", lambda: len(program.users()) >= len(wanted), seconds=READ_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}; {program.users()}; {program.log()}") from None
    assert program.stop() == 0, program.log()
    assert sorted(program.users()) == wanted


def answers(bootstrap: str, topic: str, count: int) -> list[str]:
    """The first answers that the program wrote."""
    with fastlog.Consumer(bootstrap, topics=f"{topic}-out", auto_offset_reset="earliest") as consumer:
        found: list[str] = []

        def enough() -> bool:
            found.extend((record.value or b"").decode() for record in consumer.poll(timeout=0.2))
            return len(found) >= count

        wait_until("the answers are there", enough)
    return found


def lag(bootstrap: str, group: str) -> int:
    """How many records the group has not read."""
    with fastlog.Admin(bootstrap) as admin:
        (described,) = admin.describe_groups(group)
    assert described.state == "Empty"
    return sum(one.lag or 0 for one in described.offsets)


# making the environment takes most of a minute, the first time
@pytest.mark.timeout(300)
def test_faststreams_hello_world_goes_on_where_it_stopped(
    node: BrokerProcess, topic_name: str, start: Start
) -> None:
    register(node.bootstrap, topic_name, range(20))
    read(start("faststream"), range(20))
    assert lag(node.bootstrap, topic_name) == 0
    register(node.bootstrap, topic_name, range(20, 30))
    read(start("faststream"), range(20, 30))
    assert sorted(answers(node.bootstrap, topic_name, 30)) == sorted(
        f"User: {number} - u{number} registered" for number in range(30)
    )


@pytest.mark.timeout(300)
def test_quix_streams_hello_world_goes_on_where_it_stopped_with_what_it_counted(
    node: BrokerProcess, topic_name: str, start: Start, tmp_path: Path
) -> None:
    register(node.bootstrap, topic_name, range(20))
    read(start("quix", str(tmp_path / "here")), range(20))
    assert lag(node.bootstrap, topic_name) == 0
    register(node.bootstrap, topic_name, range(20, 30))
    # on another machine: its counts come out of the changelog topic
    read(start("quix", str(tmp_path / "there")), range(20, 30))
    assert sorted(answers(node.bootstrap, topic_name, 30)) == sorted(
        f"User: {number} - u{number} registered, {number // 4 + 1} with this key" for number in range(30)
    )
