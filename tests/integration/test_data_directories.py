"""A broker with several data directories: partitions are spread over them, stay or are moved, and none is mixed up."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

from fastlog.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from fastlog.protocol.messages.describe_log_dirs import DescribeLogDirsRequest
from tests.conftest import MakeBroker
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.clients import confluent
from tests.support.raw import RawTcp
from tests.support.samples import Sample

PARTITIONS = 4


def broker_on(make_broker: MakeBroker, *others: Path) -> BrokerProcess:
    broker = make_broker(start=False)
    name_directories(broker, *others)
    return broker.start()


def name_directories(broker: BrokerProcess, *others: Path) -> None:
    """Those beside its first one."""
    broker.arguments = tuple(word for path in others for word in ("--data-dir", str(path)))


def described(broker: BrokerProcess) -> dict[str, list[tuple[str, int]]]:
    """The partitions of each directory, as DescribeLogDirs tells them."""
    with RawTcp("127.0.0.1", broker.tcp_port) as connection:
        results = connection.ask(DescribeLogDirsRequest(topics=None), 4).results
    assert all(it.error_code == 0 and 0 < it.usable_bytes <= it.total_bytes for it in results)
    return {
        it.log_dir: [
            (topic.name, partition.partition_index)
            for topic in it.topics
            for partition in topic.partitions
            if not partition.is_future_key
        ]
        for it in results
    }


def values(broker: BrokerProcess, topic: str, partition: int, count: int) -> list[bytes | None]:
    return [it.value for it in confluent.consume(broker.bootstrap, topic, count, partition=partition)]


def fill(broker: BrokerProcess, topic: str, text: str) -> None:
    """A record in each partition."""
    for partition in range(PARTITIONS):
        sample = Sample(None, f"{text} {partition}".encode(), (), None)
        confluent.produce(broker.bootstrap, topic, [sample], "none", partition=partition)


def refusal(broker: BrokerProcess) -> str:
    ended = subprocess.run(broker.command(), capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("fastlog: ")]
    return line


def test_partitions_are_spread_and_stay_where_they_are(make_broker: MakeBroker, tmp_path: Path) -> None:
    second, third = tmp_path / "second", tmp_path / "third"
    broker = broker_on(make_broker, second)
    create_topic(broker.bootstrap, "orders", PARTITIONS)
    places = described(broker)
    assert list(places) == [str(broker.data_dir), str(second)]
    assert Counter({path: len(found) for path, found in places.items()}) == dict.fromkeys(places, 2)
    fill(broker, "orders", "first")
    broker.kill()
    broker.start()
    assert described(broker) == places
    fill(broker, "orders", "second")
    assert broker.stop() == 0, broker.log()

    # one more is taken in, and has all the room that the others promised to their partitions
    name_directories(broker, second, third)
    broker.start()
    assert described(broker) == places | {str(third): []}
    create_topic(broker.bootstrap, "clicks", 2)
    assert described(broker)[str(third)] == [("clicks", 0), ("clicks", 1)]
    for partition in range(PARTITIONS):
        assert values(broker, "orders", partition, 2) == [
            f"{text} {partition}".encode() for text in ("first", "second")
        ]
    assert broker.stop() == 0, broker.log()


def test_directories_that_are_missing_swapped_or_named_twice(make_broker: MakeBroker, tmp_path: Path) -> None:
    second = tmp_path / "second"
    broker = broker_on(make_broker, second)
    create_topic(broker.bootstrap, "orders", PARTITIONS)
    fill(broker, "orders", "kept")
    assert broker.stop() == 0, broker.log()

    name_directories(broker)
    line = refusal(broker)
    assert str(second) in line
    assert "mount its disk" in line
    away = tmp_path / "away"
    second.rename(away)
    name_directories(broker, second)
    assert str(second) in refusal(broker)
    assert not (second / "meta.properties").exists(), "the empty one was not taken into use"
    name_directories(broker, away, away)
    assert f"{away} and {away} are the same" in refusal(broker)
    swapped = make_broker("away", start=False)
    name_directories(swapped, broker.data_dir)
    assert f"its in {broker.data_dir}" in refusal(swapped)

    # the same disk under another name is the same directory
    name_directories(broker, away)
    broker.start()
    for partition in range(PARTITIONS):
        assert values(broker, "orders", partition, 1) == [f"kept {partition}".encode()]
    assert broker.stop() == 0, broker.log()


def test_a_lost_directory_is_done_without_once_a_person_says_so(
    make_broker: MakeBroker, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    broker = broker_on(make_broker, second)
    create_topic(broker.bootstrap, "orders", PARTITIONS)
    fill(broker, "orders", "kept")
    lost = [partition for _, partition in described(broker)[str(second)]]
    broker.kill()
    known = broker.data_dir / "fastlog.directories"
    text = known.read_text()
    known.write_text("\n".join(f"lost{it[7:]}" if it.endswith("second") else it for it in text.splitlines()))
    name_directories(broker)
    broker.start()
    wait_until("the lost directory is forgotten", lambda: "second" not in known.read_text())
    fill(broker, "orders", "again")
    for partition in range(PARTITIONS):
        expected = ["again"] if partition in lost else ["kept", "again"]
        found = values(broker, "orders", partition, len(expected))
        assert found == [f"{it} {partition}".encode() for it in expected]
    assert broker.stop() == 0, broker.log()


def test_a_partition_that_came_back_twice_is_refused(make_broker: MakeBroker, tmp_path: Path) -> None:
    second = tmp_path / "second"
    broker = broker_on(make_broker, second)
    create_topic(broker.bootstrap, "orders", 1)
    confluent.produce(broker.bootstrap, "orders", [Sample(None, b"kept", (), None)], "none")
    assert broker.stop() == 0, broker.log()
    (second / "orders-0").mkdir()
    line = refusal(broker)
    for words in (str(second / "orders-0"), str(broker.data_dir / "orders-0"), "move the other away"):
        assert words in line
    (second / "orders-0").rmdir()
    broker.start()
    assert values(broker, "orders", 0, 1) == [b"kept"]
    assert broker.stop() == 0, broker.log()


def ask_to_move(broker: BrokerProcess, topic: str, partition: int, directory: Path) -> int:
    """The answer's error code."""
    wanted = AlterReplicaLogDir(str(directory), [AlterReplicaLogDirTopic(topic, [partition])])
    with RawTcp("127.0.0.1", broker.tcp_port) as connection:
        (answered,) = connection.ask(AlterReplicaLogDirsRequest([wanted]), 2).results
    code: int = answered.partitions[0].error_code
    return code


def moving(broker: BrokerProcess) -> list[tuple[str, int]]:
    """Directory and lag of each copy that is under way."""
    with RawTcp("127.0.0.1", broker.tcp_port) as connection:
        results = connection.ask(DescribeLogDirsRequest(topics=None), 4).results
    return [
        (it.log_dir, partition.offset_lag)
        for it in results
        for topic in it.topics
        for partition in topic.partitions
        if partition.is_future_key
    ]


def test_a_replica_is_moved_while_it_is_written_to_and_the_broker_killed(
    make_broker: MakeBroker, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    rate = "replica.alter.log.dirs.io.max.bytes.per.second"
    broker = make_broker(settings={rate: "200000", "log.segment.bytes": "1048576"}, start=False)
    name_directories(broker, second)
    broker.start()
    create_topic(broker.bootstrap, "orders", 1)
    first = broker.data_dir
    assert described(broker)[str(first)] == [("orders", 0)]
    sent = [Sample(None, b"%d" % number + b"-" * 1000, (), None) for number in range(3_000)]
    confluent.produce(broker.bootstrap, "orders", sent[:2_000], "none")
    assert ask_to_move(broker, "orders", 0, tmp_path / "third") == 57
    assert ask_to_move(broker, "absent", 0, second) == 3
    assert ask_to_move(broker, "orders", 0, second) == 0
    ((path, lag),) = moving(broker)
    assert (path, lag > 0) == (str(second), True)
    wait_until("the copy grows", lambda: any(second.glob("orders-0.*-future/*.log")))
    confluent.produce(broker.bootstrap, "orders", sent[2_000:2_500], "none")
    broker.kill()

    # it is begun anew, now as fast as the disk is, while records come
    broker.settings.pop(rate)
    broker.start()
    confluent.produce(broker.bootstrap, "orders", sent[2_500:], "none")
    wait_until(
        "it was moved", lambda: described(broker)[str(second)] == [("orders", 0)] and not moving(broker)
    )
    assert (described(broker)[str(first)], moving(broker)) == ([], [])
    broker.kill()
    broker.start()
    assert described(broker)[str(second)] == [("orders", 0)]
    assert values(broker, "orders", 0, len(sent)) == [it.value for it in sent]
    # and back, and a stop
    assert ask_to_move(broker, "orders", 0, first) == 0
    wait_until("it was moved back", lambda: ("orders", 0) in described(broker)[str(first)])
    assert broker.stop() == 0, broker.log()
    broker.start()
    assert values(broker, "orders", 0, len(sent)) == [it.value for it in sent]
    assert broker.stop() == 0, broker.log()


def test_moves_that_wait_survive_kill_9(make_broker: MakeBroker, tmp_path: Path) -> None:
    second = tmp_path / "second"
    rate = "replica.alter.log.dirs.io.max.bytes.per.second"
    broker = make_broker(settings={rate: "20000", "log.segment.bytes": "1048576"})
    create_topic(broker.bootstrap, "orders", PARTITIONS)
    sent = [Sample(None, b"%d" % number + b"-" * 1000, (), None) for number in range(200)]
    for partition in range(PARTITIONS):
        confluent.produce(broker.bootstrap, "orders", sent, "none", partition=partition)
    assert broker.stop() == 0, broker.log()
    name_directories(broker, second)
    broker.start()
    first = broker.data_dir
    everywhere = [("orders", partition) for partition in range(PARTITIONS)]
    assert described(broker) == {str(first): everywhere, str(second): []}

    # the first one takes ten seconds at that rate, and the others wait for it; one is given up again
    for partition in range(PARTITIONS):
        assert ask_to_move(broker, "orders", partition, second) == 0
    assert ask_to_move(broker, "orders", 2, first) == 0
    assert [path for path, _ in moving(broker)] == [str(second)] * 3
    broker.kill()
    assert (first / "fastlog.wanted").read_text().count("orders-") == 3

    broker.start()
    assert [path for path, _ in moving(broker)] == [str(second)] * 3
    broker.kill()
    broker.settings.pop(rate)
    broker.start()
    wait_until("they were moved", lambda: not moving(broker))
    assert described(broker) == {
        str(first): [("orders", 2)],
        str(second): [("orders", it) for it in (0, 1, 3)],
    }
    for partition in range(PARTITIONS):
        assert values(broker, "orders", partition, len(sent)) == [it.value for it in sent]
    wait_until("nothing is left to do", lambda: "orders" not in (first / "fastlog.wanted").read_text())

    # a list that was damaged costs what waited, and is told
    assert broker.stop() == 0, broker.log()
    broker.settings[rate] = "20000"
    broker.start()
    assert ask_to_move(broker, "orders", 2, second) == 0
    assert ask_to_move(broker, "orders", 3, first) == 0
    broker.kill()
    wanted = first / "fastlog.wanted"
    wanted.write_text(wanted.read_text().replace("orders-3", "orders-1"))
    for copy in second.glob("*-future"):
        shutil.rmtree(copy)
    broker.start()
    assert not moving(broker)
    assert "which replicas are to be moved is not known any more" in broker.log()
    assert "orders-2" in broker.log()
    assert values(broker, "orders", 2, len(sent)) == [it.value for it in sent]
    assert broker.stop() == 0, broker.log()
