"""The power is cut under load, on a disk of the broker's own; then the machine starts again."""

from __future__ import annotations

import contextlib
import time

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

import fastlog
from fastlog import Producer
from tests.fault.conftest import BrokerOn, MakeDisk
from tests.fault.test_io_errors import send
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.faults.loop_disk import LoopDisk, set_earlier_boot
from tests.support.faults.witness import Witness, read_all

CUTS = 3
RECORDS_BETWEEN_CUTS = 3_000
WORDS = (b"kept", b"lost", b"other")


def die(disk: LoopDisk, broker: BrokerProcess) -> None:
    """The machine dies, the broker with it, and what is not on the disk: see `LoopDisk.cut_power` for the order."""
    broker.kill()
    disk.cut_power()


def come_back(disk: LoopDisk, broker: BrokerProcess) -> None:
    """The machine starts again."""
    disk.restore_power()
    set_earlier_boot(broker.data_dir)
    broker.start()
    assert 'last_stop="machine died"' in broker.log()


def run_for(witness: Witness, broker: BrokerProcess, records: int) -> None:
    goal = len(witness.acknowledged) + records
    read = len(witness.consumed) + records // 2
    witness.start(broker.bootstrap)
    wait_until(
        "records are acknowledged and read",
        lambda: len(witness.acknowledged) >= goal and len(witness.consumed) >= read,
        seconds=40,
    )


@pytest.mark.timeout(180)
def test_an_fsync_topic_loses_nothing_that_anybody_was_told_of(
    make_disk: MakeDisk, broker_on: BrokerOn
) -> None:
    disk = make_disk()
    broker = broker_on(disk)
    # small segments, so that some are rolled, and made, before each cut
    config = {"fastlog.durability": "fsync", "segment.bytes": str(1 << 20)}
    witness = Witness(create_topic(broker.bootstrap, "synced", config=config))
    for _ in range(CUTS):
        run_for(witness, broker, RECORDS_BETWEEN_CUTS)
        die(disk, broker)
        come_back(disk, broker)
        # the producers went on over the cut
        witness.stop()
        witness.check(read_all(broker.bootstrap, witness.topic))
    assert "committed records are missing" not in broker.log_file.read_text()
    assert broker.stop() == 0, broker.log()


def checkpointed_high_watermark(broker: BrokerProcess, topic: str) -> int:
    lines = (broker.data_dir / "replication-offset-checkpoint").read_text().splitlines()
    (offset,) = {int(line.split()[2]) for line in lines[2:] if line.split()[:2] == [topic, "0"]}
    return offset


@pytest.mark.timeout(120)
def test_an_os_topic_keeps_what_was_synced_and_says_what_is_missing(
    make_disk: MakeDisk, broker_on: BrokerOn
) -> None:
    disk = make_disk()
    broker = broker_on(disk, settings={"replica.high.watermark.checkpoint.interval.ms": "200"})
    witness = Witness(create_topic(broker.bootstrap, "unsynced", config={"fastlog.durability": "os"}))
    run_for(witness, broker, RECORDS_BETWEEN_CUTS)
    witness.stop()
    synced = len(read_all(broker.bootstrap, witness.topic))
    # a clean stop syncs everything
    assert broker.stop() == 0, broker.log()
    broker.start()
    run_for(witness, broker, RECORDS_BETWEEN_CUTS)
    wait_until(
        "a later high watermark is written down",
        lambda: checkpointed_high_watermark(broker, witness.topic) > synced,
    )
    die(disk, broker)
    witness.stop()
    disk.restore_power()
    high_watermark = checkpointed_high_watermark(broker, witness.topic)
    set_earlier_boot(broker.data_dir)
    broker.start()
    survived = read_all(broker.bootstrap, witness.topic)
    witness.check(survived, lost_from=len(survived))
    assert len(survived) >= synced
    assert witness.lost(survived) > 0, "nothing was lost: the cut cut nothing"
    is_told = "committed records are missing at the end of the log" in broker.log()
    assert is_told == (len(survived) < high_watermark)
    # it goes on from there
    later = Witness(witness.topic)
    later.start(broker.bootstrap)
    wait_until("records are acknowledged", lambda: len(later.acknowledged) > 100)
    later.stop()
    assert min(later.acknowledged) == len(survived)
    assert broker.stop() == 0, broker.log()


def next_of(consumer: Consumer) -> bytes | KafkaError:
    """The next record's value, or why there is none; not that the broker is away."""
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        message = consumer.poll(1.0)
        if message is None:
            continue
        error = message.error()
        if error is None:
            return message.value()
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            return error
    raise AssertionError("neither a record nor an error in 30 s")


@pytest.mark.timeout(120)
def test_who_has_read_what_was_lost_is_told_so(make_disk: MakeDisk, broker_on: BrokerOn) -> None:
    """Other records have the offsets now: a consumer that goes on where it was would miss some and never know."""
    disk = make_disk()
    broker = broker_on(disk)
    topic = create_topic(broker.bootstrap, "unsynced", config={"fastlog.durability": "os"})
    kept, lost, other = ([b"%s %d" % (word, number) for number in range(10)] for word in WORDS)
    send(broker.bootstrap, topic, *kept)
    # a clean stop syncs everything
    assert broker.stop() == 0, broker.log()
    broker.start()
    send(broker.bootstrap, topic, *lost)
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": "readers", "auto.offset.reset": "error"}
    with (
        contextlib.closing(Consumer(settings)) as consumer,
        fastlog.Consumer(broker.bootstrap, auto_offset_reset="earliest") as ours,
    ):
        consumer.assign([TopicPartition(topic, 0, 0)])
        ours.assign([(topic, 0)])
        records = iter(ours)
        for values in (kept, lost):
            assert [next_of(consumer) for _ in values] == values
            assert [next(records).value for _ in values] == values
        die(disk, broker)
        come_back(disk, broker)
        # more than was lost: offset 20 is there
        assert send(broker.bootstrap, topic, *other, *other)[0] == 10
        found = next_of(consumer)
        assert [next(records).value for _ in other] == other
    assert isinstance(found, KafkaError), f"it goes on with {found!r}"
    assert "truncation detected at offset 20" in found.str()
    assert "end offset is 10" in found.str()
    assert broker.stop() == 0, broker.log()


@pytest.mark.parametrize("garbage", [bytes(5000), b"\xff" * 70, b"half a batch"], ids=len)
def test_a_torn_tail_is_cut_and_reported(make_disk: MakeDisk, broker_on: BrokerOn, garbage: bytes) -> None:
    """What a file system may leave of what was under way: zeros, remains of other files, a part."""
    disk = make_disk()
    broker = broker_on(disk)
    topic = create_topic(broker.bootstrap, "torn", config={"fastlog.durability": "fsync"})
    with Producer(broker.bootstrap) as producer:
        sent = [producer.send(topic, b"%d" % number, partition=0) for number in range(100)]
        assert [delivery.result(10).offset for delivery in sent] == list(range(100))
    die(disk, broker)
    disk.restore_power()
    segment = broker.data_dir / f"{topic}-0" / f"{0:020d}.log"
    size = segment.stat().st_size
    with segment.open("ab") as file:
        file.write(garbage)
    set_earlier_boot(broker.data_dir)
    broker.start()
    (told,) = [line for line in broker.log().splitlines() if "tail was cut" in line]
    for field in ("topic=torn", "offset=100", f"bytes={len(garbage)}", f"position={size}", "reason="):
        assert field in told
    assert segment.stat().st_size == size
    assert list(read_all(broker.bootstrap, topic).values()) == [b"%d" % number for number in range(100)]
    assert broker.stop() == 0, broker.log()
