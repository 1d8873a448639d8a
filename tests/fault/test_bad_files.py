"""Files of a stopped broker that were damaged, cut, swapped or brought from elsewhere.

A clear error or the right answer: nothing is lost, and nothing that is not true is served.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fastlog import Admin, Consumer, Producer
from fastlog.backup.partitions import Partitions
from fastlog.errors import KafkaError
from tests.conftest import MakeBroker
from tests.fault.test_refused_directories import refusal
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until

RECORDS = 400
SECONDS = 20.0
START_MS = 1_700_000_000_000
TOPIC, OTHER = "orders", "payments"
YEAR_2100_MS = 4_102_444_800_000

Values = list[bytes | None]


def value(topic: str, number: int) -> bytes:
    """Of another length for each, and not the same in two topics."""
    return b"%s-%06d " % (topic.encode(), number) + b"." * random.Random(f"{topic}{number}").randrange(
        40, 900
    )


def timestamp(topic: str, number: int) -> int:
    """Up and down, and not the same in two topics."""
    return START_MS + number * 1000 + random.Random(f"{topic}@{number}").randrange(20_000)


SETTINGS = {"log.retention.ms": "-1"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a broker that was stopped, with two topics of several segments."""
    made = BrokerProcess(tmp_path_factory.mktemp("sound") / "data", settings=SETTINGS).start()
    try:
        for topic in (TOPIC, OTHER):
            create_topic(made.bootstrap, topic, config={"segment.ms": "60000", "index.interval.bytes": "512"})
            with Producer(made.bootstrap, batch_bytes=2048) as producer:
                for number in range(RECORDS):
                    time_ms = timestamp(topic, number)
                    producer.send(topic, value(topic, number), timestamp_ms=time_ms, partition=0)
                producer.flush()
        assert made.stop() == 0, made.log()
    finally:
        made.kill()
    return made.data_dir


@pytest.fixture
def broker(make_broker: MakeBroker, sound: Path) -> BrokerProcess:
    """Stopped; its directory is a copy of the sound one."""
    made = make_broker(settings=SETTINGS, start=False)
    shutil.copytree(sound, made.data_dir)
    return made


def folder(broker: BrokerProcess, topic: str = TOPIC) -> Path:
    return broker.data_dir / f"{topic}-0"


def files(broker: BrokerProcess, suffix: str, topic: str = TOPIC) -> list[Path]:
    found = sorted(folder(broker, topic).glob(f"*{suffix}"))
    assert len(found) > 3, found
    return found


def batches(broker: BrokerProcess) -> dict[str, bytes]:
    """What all segments hold."""
    return {str(path): path.read_bytes() for path in sorted(broker.data_dir.rglob("*.log"))}


def read(broker: BrokerProcess, topic: str = TOPIC, start: int = 0) -> Values:
    """All values from an offset on."""
    values: Values = []
    with Consumer(broker.bootstrap) as consumer:
        consumer.assign([(topic, 0)])
        consumer.seek((topic, 0), start)
        while start + len(values) < RECORDS:
            more = consumer.poll(timeout=SECONDS)
            assert more, f"nothing at {start + len(values)}"
            values += [it.value for it in more]
    return values


def check_all(broker: BrokerProcess, topic: str = TOPIC) -> None:
    """Every record is read, from any offset on, and found by its time; and the log goes on."""
    expected = [value(topic, number) for number in range(RECORDS)]
    for start in (0, 1, RECORDS // 3, RECORDS // 2, RECORDS - 1):
        assert read(broker, topic, start) == expected[start:]
    times = [timestamp(topic, number) for number in range(RECORDS)]
    with Admin(broker.bootstrap) as admin:
        for asked in range(START_MS - 5_000, max(times) + 1, 37_000):
            first = next(number for number, time in enumerate(times) if time >= asked)
            found = admin.list_offsets({(topic, 0): asked})[topic, 0]
            assert (found.offset, found.timestamp_ms) == (first, times[first]), f"first at or after {asked}"


def swap(first: Path, second: Path) -> None:
    meanwhile = first.with_name("meanwhile")
    first.rename(meanwhile)
    second.rename(first)
    meanwhile.rename(second)


def swap_neighbours(broker: BrokerProcess, suffix: str) -> None:
    found = files(broker, suffix)
    for first, second in zip(found[::2], found[1::2], strict=False):
        swap(first, second)


def take_from_other_topic(broker: BrokerProcess, suffix: str) -> None:
    for path, foreign in zip(files(broker, suffix), files(broker, suffix, OTHER), strict=False):
        shutil.copyfile(foreign, path)


def take_newest(broker: BrokerProcess, suffix: str) -> None:
    found = files(broker, suffix)
    for path in found[:-2]:
        shutil.copyfile(found[-2], path)


def cut(broker: BrokerProcess, suffix: str) -> None:
    entry_bytes = {".index": 8, ".timeindex": 12}[suffix]
    for number, path in enumerate(files(broker, suffix)):
        size = path.stat().st_size
        # whole entries of one, a part of an entry of the next
        kept = size // 2 // entry_bytes * entry_bytes if number % 2 else max(size - 5, 0)
        os.truncate(path, kept)


def empty(broker: BrokerProcess, suffix: str) -> None:
    for path in files(broker, suffix):
        path.write_bytes(b"")


@pytest.mark.parametrize("suffixes", [(".index",), (".timeindex",), (".index", ".timeindex")])
@pytest.mark.parametrize("spoil", [swap_neighbours, take_from_other_topic, take_newest, cut, empty])
def test_indexes_that_are_not_their_segments(
    broker: BrokerProcess, suffixes: tuple[str, ...], spoil: Callable[[BrokerProcess, str], None]
) -> None:
    before = batches(broker)
    for suffix in suffixes:
        spoil(broker, suffix)
    broker.start()
    check_all(broker)
    assert broker.stop() == 0, broker.log()
    assert batches(broker) == before
    assert "Traceback" not in broker.log()


@pytest.mark.parametrize(
    "damage",
    [b"", b"not a snapshot", None],
    ids=["empty", "something else", "another topic's"],
)
def test_snapshots_of_producers_that_are_not_this_logs(broker: BrokerProcess, damage: bytes | None) -> None:
    foreign = files(broker, ".snapshot", OTHER)
    for path, other in zip(files(broker, ".snapshot"), foreign, strict=False):
        path.write_bytes(other.read_bytes() if damage is None else damage)
    broker.start()
    check_all(broker)
    with Producer(broker.bootstrap) as producer:
        assert producer.send(TOPIC, b"more", partition=0).result(SECONDS).offset == RECORDS


@pytest.mark.parametrize("text", ["0\n1\n31 0\n", "0\n2\n0 0\n7 40\n", "0\n1\n", "", "what?\n"])
def test_leader_epochs_that_are_not_this_logs(broker: BrokerProcess, text: str) -> None:
    path = folder(broker) / "leader-epoch-checkpoint"
    sound = path.read_text()
    broker.start()
    with Partitions(broker.bootstrap) as partitions:
        expected = partitions.end_of_epoch((TOPIC, 0), 0)
    assert broker.stop() == 0
    path.write_text(text)
    broker.start()
    with Partitions(broker.bootstrap) as partitions:
        assert partitions.end_of_epoch((TOPIC, 0), 0) == expected
    check_all(broker)
    assert broker.stop() == 0, broker.log()
    assert path.read_text() == sound
    assert "built anew" in broker.log()


@pytest.mark.parametrize(
    "name",
    ["recovery-point-offset-checkpoint", "replication-offset-checkpoint", "log-start-offset-checkpoint"],
)
@pytest.mark.parametrize("damage", [b"0\n5\norders 0 7\n", b"\x00" * 40, b"2\n0\n"])
def test_checkpoints_that_do_not_read(broker: BrokerProcess, name: str, damage: bytes) -> None:
    before = batches(broker)
    path = broker.data_dir / name
    path.write_bytes(damage)
    line = refusal(broker.data_dir)
    for words in (str(path), "no offset checkpoint of version 0", "restore it or move it away"):
        assert words in line
    # which is what it advises
    path.rename(broker.data_dir / "away")
    broker.start()
    check_all(broker)
    assert broker.stop() == 0, broker.log()
    assert batches(broker) == before


def offline_reason(broker: BrokerProcess) -> str:
    """The log line about the topic's partition, which must be refused to clients while others are served."""
    said = "a partition could not be opened, it is offline"
    wait_until("it is said", lambda: said in broker.log())
    (line,) = [line for line in broker.log().splitlines() if said in line and TOPIC in line]
    with Partitions(broker.bootstrap) as partitions, pytest.raises(KafkaError):
        partitions.fetch((TOPIC, 0), "", 0)
    check_all(broker, OTHER)
    return line


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastlog.backup.partitions.PATIENCE_MS", 300)


@pytest.mark.usefixtures("_impatient")
def test_a_log_start_of_another_directory_deletes_nothing(broker: BrokerProcess) -> None:
    before = batches(broker)
    path = broker.data_dir / "log-start-offset-checkpoint"
    sound = path.read_bytes() if path.exists() else b"0\n0\n"
    path.write_text(f"0\n1\n{TOPIC} 0 100000\n")
    broker.start()
    line = offline_reason(broker)
    for words in (
        "log-start-offset-checkpoint",
        "starts at offset 100000",
        f"ends at {RECORDS}",
        "another directory",
    ):
        assert words in line
    assert broker.stop() == 0, broker.log()
    assert batches(broker) == before
    path.write_bytes(sound)
    broker.start()
    check_all(broker)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("damage", [None, b"", b"version: 0\ntopic_id: ?\n", b"version: 9\ntopic_id: x"])
def test_a_partition_of_another_topic_or_of_none(broker: BrokerProcess, damage: bytes | None) -> None:
    before = batches(broker)
    path = folder(broker) / "partition.metadata"
    sound = path.read_bytes()
    foreign = (folder(broker, OTHER) / "partition.metadata").read_bytes()
    path.write_bytes(foreign if damage is None else damage)
    broker.start()
    assert str(folder(broker)) in offline_reason(broker)
    assert broker.stop() == 0, broker.log()
    assert batches(broker) == before
    path.write_bytes(sound)
    broker.start()
    check_all(broker)


@pytest.mark.parametrize("when", [0.0, YEAR_2100_MS / 1000], ids=["1970", "2100"])
def test_dates_of_files_say_nothing(make_broker: MakeBroker, when: float) -> None:
    settings = {"log.retention.check.interval.ms": "50", "log.retention.ms": "3600000"}
    broker = make_broker(settings=settings)
    create_topic(broker.bootstrap, TOPIC)
    with Producer(broker.bootstrap, batch_bytes=2048) as producer:
        for number in range(RECORDS):
            producer.send(TOPIC, value(TOPIC, number), partition=0)
        producer.flush()
    assert broker.stop() == 0, broker.log()
    for path in broker.data_dir.rglob("*"):
        os.utime(path, (when, when))
    broker.start()
    looked_at_once(broker)
    assert read(broker) == [value(TOPIC, number) for number in range(RECORDS)]


def looked_at_once(broker: BrokerProcess) -> None:
    """Returns when retention has looked at all logs: it has deleted a topic's old records."""
    old = create_topic(broker.bootstrap, "old")
    with Producer(broker.bootstrap) as producer:
        producer.send(old, b"v", timestamp_ms=1, partition=0).result(SECONDS)

    def is_deleted() -> bool:
        with Admin(broker.bootstrap) as admin:
            return admin.list_offsets({(old, 0): "earliest"})[old, 0].offset == 1

    wait_until("records of 1970 are deleted, as by Kafka", is_deleted)


def test_records_of_the_future_are_kept_and_told(make_broker: MakeBroker) -> None:
    settings = {"log.retention.check.interval.ms": "50", "log.retention.ms": "3600000"}
    broker = make_broker(settings=settings)
    late = create_topic(broker.bootstrap, "late", config={"message.timestamp.after.max.ms": str(1 << 62)})
    create_topic(broker.bootstrap, TOPIC)
    with Producer(broker.bootstrap) as producer:
        producer.send(late, b"v", timestamp_ms=YEAR_2100_MS, partition=0).result(SECONDS)
        # by default Kafka takes no record from more than an hour ahead
        with pytest.raises(KafkaError, match="TIMESTAMP"):
            producer.send(TOPIC, b"v", timestamp_ms=YEAR_2100_MS, partition=0).result(SECONDS)
    looked_at_once(broker)
    said = "records are dated in the future"
    wait_until("it is said", lambda: said in broker.log())
    with Admin(broker.bootstrap) as admin:
        assert admin.list_offsets({(late, 0): "earliest"})[late, 0].offset == 0
    (line,) = [line for line in broker.log().splitlines() if said in line]
    for words in ("late", str(YEAR_2100_MS), "retention.bytes", "DeleteRecords"):
        assert words in line
