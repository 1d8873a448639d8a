"""A disk that answers with errors: the data directory goes offline, loses nothing and says why; a restart mends it."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer as ConfluentProducer

from fastlog import Consumer, Producer
from fastlog.errors import KafkaStorageError
from tests.conftest import MakeBroker
from tests.fault.conftest import BrokerOn, Inject, MakeDisk
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess
from tests.support.cli import fastlog
from tests.support.faults.witness import read_all

FIRST_SEGMENT = f"{0:020d}.log"
SECONDS = 20.0


def segment(broker: BrokerProcess, topic: str) -> Path:
    return broker.data_dir / f"{topic}-0" / FIRST_SEGMENT


def send(bootstrap: str, topic: str, *values: bytes) -> list[int]:
    with Producer(bootstrap) as producer:
        deliveries = [producer.send(topic, value, partition=0) for value in values]
        return [delivery.result(SECONDS).offset for delivery in deliveries]


def refusal(bootstrap: str, topic: str) -> str:
    """What our producer says of a record that is not taken."""
    with Producer(bootstrap, delivery_timeout_ms=500, request_timeout_ms=250) as producer:
        error = producer.send(topic, b"refused", partition=0).exception(SECONDS)
    assert error is not None
    return str(error)


def code_of_refusal(bootstrap: str, topic: str) -> int:
    """What another client is told: the code alone."""
    codes: list[int] = []
    producer = ConfluentProducer({"bootstrap.servers": bootstrap, "acks": "1", "retries": 0})
    producer.produce(
        topic, b"refused", partition=0, on_delivery=lambda error, _message: codes.append(error.code())
    )
    assert producer.flush(SECONDS) == 0
    return codes[0]


def check_offline(broker: BrokerProcess, topic: str, kept: dict[int, bytes]) -> None:
    """Appends are refused by name, to every client and in every topic; reads are served; the process lives."""
    for name in (topic, "other"):
        said = refusal(broker.bootstrap, name)
        assert "KAFKA_STORAGE_ERROR" in said
        assert "is offline since a write failed" in said
        assert "check the disk, then restart" in said
        assert code_of_refusal(broker.bootstrap, name) == KafkaStorageError.code
    found = read_all(broker.bootstrap, topic)
    assert {offset: found[offset] for offset in kept} == kept
    assert fastlog("topics", "list", "--bootstrap", broker.bootstrap).status == 0
    assert broker.is_running()


def check_restart(broker: BrokerProcess, topic: str, kept: dict[int, bytes]) -> None:
    """The stop says that it was not clean and leaves no mark; the next start has everything and takes more."""
    assert broker.stop() == 1
    assert broker.log().splitlines()[-1].startswith("fastlog: KAFKA_STORAGE_ERROR: the data directory ")
    assert not (broker.data_dir / ".kafka_cleanshutdown").exists()
    broker.start()
    # the page cache outlived the process, but no longer has what the disk did not take
    assert "recovered as after a power cut" in broker.log().splitlines()[-2]
    after = read_all(broker.bootstrap, topic)
    assert {offset: after[offset] for offset in kept} == kept
    assert send(broker.bootstrap, topic, b"after") == [len(after)]
    assert broker.stop() == 0, broker.log()


@pytest.mark.parametrize(
    ("durability", "calls"),
    [("os", "pwritev"), ("fsync", "pwritev"), ("fsync", "fdatasync")],
)
def test_an_error_of_the_disk_takes_the_directory_offline(
    inject: Inject, make_broker: MakeBroker, durability: str, calls: str
) -> None:
    broker = make_broker()
    topic = create_topic(broker.bootstrap, "failing", config={"fastlog.durability": durability})
    create_topic(broker.bootstrap, "other")
    values = [b"%d" % number for number in range(20)]
    kept = dict(zip(send(broker.bootstrap, topic, *values), values, strict=True))
    with inject(broker.pid, calls, "error=EIO", [segment(broker, topic)]):
        assert "Input/output error" in refusal(broker.bootstrap, topic)
    # the disk answers well again, but nobody knows what is on it
    check_offline(broker, topic, kept)
    assert "data directory offline" in broker.log()
    check_restart(broker, topic, kept)


def test_a_file_system_that_became_read_only_takes_the_directory_offline(
    make_disk: MakeDisk, broker_on: BrokerOn
) -> None:
    disk = make_disk()
    broker = broker_on(disk)
    topic = create_topic(broker.bootstrap, "failing", config={"fastlog.durability": "fsync"})
    create_topic(broker.bootstrap, "other")
    values = [b"%d" % number for number in range(20)]
    kept = dict(zip(send(broker.bootstrap, topic, *values), values, strict=True))
    disk.make_read_only()
    assert "Read-only file system" in refusal(broker.bootstrap, topic)
    check_offline(broker, topic, kept)
    assert broker.stop() == 1
    with pytest.raises(AssertionError, match=r"fastlog: .*Read-only file system"):
        broker.start()
    disk.restore_power()
    broker.start()
    assert read_all(broker.bootstrap, topic) == kept
    assert broker.stop() == 0, broker.log()


@pytest.mark.parametrize("fault", ["error=ENOSPC", "error=EIO"])
def test_an_index_that_cannot_be_written_costs_no_record(
    inject: Inject, make_broker: MakeBroker, fault: str
) -> None:
    """Index entries that find no room wait; a disk that fails takes the directory offline all the same."""
    broker = make_broker(settings={"log.index.interval.bytes": "4096"})
    topic = create_topic(broker.bootstrap, "failing")
    create_topic(broker.bootstrap, "other")
    # more entries than wait in memory: 512
    values = [b"%d " % number + b"." * 5000 for number in range(600)]
    indexes = [segment(broker, topic).with_suffix(f".{kind}") for kind in ("index", "timeindex")]
    kept: dict[int, bytes] = {}
    refused = 0
    with (
        inject(broker.pid, "pwritev", fault, indexes) as notes,
        # strace stops every write, and a loaded machine takes its time
        Producer(
            broker.bootstrap,
            batch_bytes=4096,
            delivery_timeout_ms=50_000 if fault == "error=ENOSPC" else 6_000,
            request_timeout_ms=5_000,
        ) as producer,
    ):
        waiting = [(value, producer.send(topic, value, partition=0)) for value in values]
        for value, delivery in waiting:
            error = delivery.exception(60)
            if error is None:
                kept[delivery.result().offset] = value
            else:
                assert isinstance(error, KafkaStorageError) or "KAFKA_STORAGE_ERROR" in str(error)
                refused += 1
        assert "INJECTED" in notes.read_text()
    if fault == "error=ENOSPC":
        assert refused == 0
        assert read_all(broker.bootstrap, topic) == kept
        send(broker.bootstrap, topic, b"more")
        assert broker.stop() == 0
        broker.start()
        assert len(read_all(broker.bootstrap, topic)) == len(values) + 1
    else:
        assert refused > 0
        check_offline(broker, topic, kept)
        check_restart(broker, topic, kept)


def test_a_stop_whose_sync_fails_is_not_clean(inject: Inject, make_broker: MakeBroker) -> None:
    broker = make_broker()
    topic = create_topic(broker.bootstrap, "failing")
    values = [b"%d" % number for number in range(20)]
    kept = dict(zip(send(broker.bootstrap, topic, *values), values, strict=True))
    with inject(broker.pid, "fdatasync", "error=EIO", [segment(broker, topic)]):
        assert broker.stop() == 1
    last = broker.log().splitlines()[-1]
    assert last.startswith("fastlog: KAFKA_STORAGE_ERROR: could not sync ")
    assert "Input/output error" in last
    assert not (broker.data_dir / ".kafka_cleanshutdown").exists()
    broker.start()
    assert read_all(broker.bootstrap, topic) == kept
    assert broker.stop() == 0, broker.log()


def test_a_write_that_is_cut_short_leaves_nothing_behind(make_broker: MakeBroker) -> None:
    """The kernel writes up to the limit of a file's size, a part of a batch, and refuses the rest."""
    broker = make_broker()
    topic = create_topic(broker.bootstrap, "failing")
    # larger than the metadata store's files, which have the same limit
    values = [b"%d " % number + b"." * 1000 for number in range(1000)]
    send(broker.bootstrap, topic, *values)
    size = segment(broker, topic).stat().st_size
    _, hard = resource.prlimit(broker.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (size + 30, hard))
    said = refusal(broker.bootstrap, topic)
    assert "File too large" in said
    assert "appends resume by themselves" in said
    assert segment(broker, topic).stat().st_size == size
    assert list(read_all(broker.bootstrap, topic).values()) == values
    resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert send(broker.bootstrap, topic, b"more") == [len(values)]
    broker.kill()
    broker.start()
    assert list(read_all(broker.bootstrap, topic).values()) == [*values, b"more"]


@pytest.mark.parametrize("fault", ["retval=0:when=1", "error=EIO:when=1"])
def test_a_send_that_breaks_off_ends_the_connection_and_consumers_go_on(
    inject: Inject, make_broker: MakeBroker, fault: str
) -> None:
    broker = make_broker()
    topic = create_topic(broker.bootstrap, "failing")
    values = [b"%d " % number + b"." * 1000 for number in range(2000)]
    send(broker.bootstrap, topic, *values)
    with inject(broker.pid, "sendfile", fault, [segment(broker, topic)]) as notes:
        assert list(read_all(broker.bootstrap, topic).values()) == values
        assert "INJECTED" in notes.read_text()
    with inject(broker.pid, "sendfile", fault, [segment(broker, topic)]) as notes:
        with Consumer(broker.bootstrap, auto_offset_reset="earliest") as consumer:
            consumer.subscribe([topic])
            found: list[bytes | None] = []
            deadline = time.monotonic() + SECONDS
            while len(found) < len(values) and time.monotonic() < deadline:
                found += [record.value for record in consumer.poll(timeout=1.0)]
        assert found == values
        assert "INJECTED" in notes.read_text()
    assert broker.stop() == 0, broker.log()


def test_a_page_that_cannot_be_read_costs_its_partition_and_no_other(
    inject: Inject, make_broker: MakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that has been begun can only break off with its connection. The next one says 56 for that partition,
    and has the others; else whoever reads from this broker would get nothing any more."""
    broker = make_broker()
    values = [b"%d " % number + b"." * 1000 for number in range(2000)]
    for name in ("failing", "sound"):
        create_topic(broker.bootstrap, name)
        send(broker.bootstrap, name, *values)
    found: dict[str, list[bytes | None]] = {"failing": [], "sound": []}
    with (
        inject(broker.pid, "sendfile", "error=EIO", [segment(broker, "failing")]) as notes,
        Consumer(broker.bootstrap) as consumer,
    ):
        consumer.assign([("failing", 0), ("sound", 0)])
        consumer.seek_to_beginning()
        deadline = time.monotonic() + 2 * SECONDS
        while len(found["sound"]) < len(values) and time.monotonic() < deadline:
            for record in consumer.poll(timeout=1.0):
                found[record.topic].append(record.value)
        assert "INJECTED" in notes.read_text()
    assert found == {"failing": [], "sound": values}
    assert any("failing-0 cannot be fetched at offset 0" in it.getMessage() for it in caplog.records)
    assert f"could not read {segment(broker, 'failing')}: the disk could not read its byte 0" in broker.log()
    # it is tried again, and the disk can now
    assert list(read_all(broker.bootstrap, "failing").values()) == values
    assert broker.stop() == 0, broker.log()
