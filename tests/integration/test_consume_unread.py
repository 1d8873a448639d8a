"""`fastlog consume --exit-at-end` and partitions that cannot be read: it ends, names them, and prints the rest."""

from __future__ import annotations

import re

import pytest

from fastlog import Consumer, Producer, TopicPartition
from fastlog.cli.group import run
from fastlog.errors import KafkaStorageError
from fastlog.protocol.batch import read_batches
from tests.conftest import MakeBroker
from tests.support.backups import make_topic
from tests.support.broker import BrokerProcess

TOPIC = "read"
BAD, GOOD = 0, 1
SECONDS = 2.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds for a minute."""
    monkeypatch.setattr("fastlog.cli.consume.PATIENCE_SECONDS", SECONDS)


def send(broker: BrokerProcess) -> None:
    """A batch for each record, three in each partition."""
    with Producer(broker.bootstrap, linger_ms=0) as producer:
        for number in range(3):
            for partition, name in ((BAD, b"bad"), (GOOD, b"good")):
                producer.send(TOPIC, b"%s-%d" % (name, number), partition=partition).result()


@pytest.fixture
def broker(make_broker: MakeBroker) -> BrokerProcess:
    """One with records in both partitions."""
    broker = make_broker()
    make_topic(broker, TOPIC, partitions=2)
    send(broker)
    return broker


def consume(broker: BrokerProcess, *more: str) -> int:
    return run(
        ["consume", TOPIC, "--from-beginning", "--exit-at-end", "--bootstrap", broker.bootstrap, *more]
    )


def damage(broker: BrokerProcess) -> None:
    """A bit of the second batch turns."""
    path = next((broker.data_dir / f"{TOPIC}-{BAD}").glob("*.log"))
    data = path.read_bytes()
    position = [it.position for it in read_batches(memoryview(data))][2] - 1
    with path.open("r+b") as file:
        file.seek(position)
        file.write(bytes([data[position] ^ 1]))


def take_offline(broker: BrokerProcess) -> None:
    """A start that cannot open the partition."""
    assert broker.stop() == 0
    path = broker.data_dir / f"{TOPIC}-{BAD}" / "partition.metadata"
    path.rename(path.with_suffix(".away"))
    path.write_text("version: 9\ntopic_id: x")
    broker.start()


def bring_back(broker: BrokerProcess) -> None:
    assert broker.stop() == 0
    path = broker.data_dir / f"{TOPIC}-{BAD}" / "partition.metadata"
    path.with_suffix(".away").replace(path)
    broker.start()


def test_a_partition_that_is_offline_is_named_and_the_others_are_printed(
    broker: BrokerProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    take_offline(broker)
    assert consume(broker) == 1
    out, err = capfd.readouterr()
    assert out == "good-0\ngood-1\ngood-2\n"
    assert f"fastlog: not read to the end, tried for 2 s: {TOPIC}-{BAD} (KAFKA_STORAGE_ERROR: " in err
    # who wants no more than there is gets it
    assert consume(broker, "--max", "2") == 0
    assert capfd.readouterr().out == "good-0\ngood-1\n"
    assert consume(broker, "--partition", str(GOOD)) == 0
    assert consume(broker, "--partition", str(BAD)) == 1


@pytest.mark.parametrize("more", [(), ("--group", "all")], ids=["alone", "in-a-group"])
def test_what_comes_before_damage_is_printed_and_the_rest_is_told(
    broker: BrokerProcess, capfd: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    damage(broker)
    assert consume(broker, *more) == 1
    out, err = capfd.readouterr()
    assert sorted(out.splitlines()) == ["bad-0", "good-0", "good-1", "good-2"]
    assert re.search(rf"fastlog: not read to the end, tried for 2 s: {TOPIC}-{BAD} \(.*\boffset 1\b", err)


def test_a_program_learns_why_nothing_comes_of_a_partition(broker: BrokerProcess) -> None:
    take_offline(broker)
    bad, values = TopicPartition(TOPIC, BAD), []
    with Consumer(broker.bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign(positions={bad: 1, TopicPartition(TOPIC, GOOD): 0})
        while len(values) < 3 or not consumer.failures():
            values += [it.value for it in consumer.poll(timeout=0.2)]
        assert values == [b"good-0", b"good-1", b"good-2"]
        (place, failure), *others = consumer.failures().items()
        assert (place, others) == (bad, [])
        assert isinstance(failure, KafkaStorageError)
        assert f"{TOPIC}-{BAD} cannot be fetched at offset 1" in str(failure)
        bring_back(broker)
        while len(values) < 5:
            values += [it.value for it in consumer.poll(timeout=0.2)]
        assert values[3:] == [b"bad-1", b"bad-2"]
        assert bad not in consumer.failures()
