"""A disk without room: appends are refused and resume by themselves, reads go on, and nothing acknowledged is lost."""

from __future__ import annotations

import os

import pytest
from confluent_kafka import KafkaError
from confluent_kafka import Producer as ConfluentProducer

from fastlog import Producer
from tests.conftest import MakeBroker
from tests.fault.conftest import BrokerOn, Inject, MakeDisk
from tests.support.admin import create_topic
from tests.support.broker import wait_until
from tests.support.cli import fastlog
from tests.support.faults.witness import read_all

DISK_MEBIBYTES = 24
VALUE = b"." * 1000
# more than what is reserved ahead for a small segment
FILLING = 200
SECONDS = 20.0
# the disk says by itself that it is full
NO_FLOOR = {"fastlog.disk.floor.bytes": "0"}


def send_until_refused(bootstrap: str, topic: str) -> tuple[int, BaseException]:
    """How many records were acknowledged before one was refused, and what the producer then said."""
    with Producer(bootstrap, delivery_timeout_ms=500, request_timeout_ms=250, linger_ms=0) as producer:
        for number in range(FILLING):
            error = producer.send(topic, VALUE).exception(SECONDS)
            if error is not None:
                return number, error
    raise AssertionError(f"{FILLING} records found room on a full disk")


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_appends_are_refused_reads_go_on_and_all_resumes_by_itself(
    make_disk: MakeDisk, broker_on: BrokerOn, durability: str
) -> None:
    disk = make_disk(mebibytes=DISK_MEBIBYTES)
    broker = broker_on(disk, settings=NO_FLOOR)
    topic = create_topic(broker.bootstrap, "full", config={"fastlog.durability": durability})
    told: list[tuple[object, int, bytes]] = []
    theirs = ConfluentProducer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True})
    with Producer(broker.bootstrap, retry_backoff_ms=20) as ours:
        before = ours.send(topic, b"before").result(SECONDS).offset
        with disk.filled():
            count, error = send_until_refused(broker.bootstrap, topic)
            assert "KAFKA_STORAGE_ERROR" in str(error)
            assert "No space left on device" in str(error)
            assert "free some space, appends resume by themselves" in str(error)
            waiting = [ours.send(topic, b"ours-%d" % number) for number in range(100)]
            for number in range(100):
                theirs.produce(
                    topic,
                    b"theirs-%d" % number,
                    partition=0,
                    on_delivery=lambda error, message: told.append(
                        (error, message.offset(), message.value())
                    ),
                )
            theirs.poll(1.0)
            assert not told
            assert not any(delivery.done() for delivery in waiting)
            assert len(read_all(broker.bootstrap, topic)) == 1 + count
        offsets = [delivery.result(SECONDS).offset for delivery in waiting]
    assert theirs.flush(SECONDS) == 0
    log = read_all(broker.bootstrap, topic)
    assert log[before] == b"before"
    assert [log[offset] for offset in offsets] == [b"ours-%d" % number for number in range(100)]
    assert [(error, log[offset]) for error, offset, value in told] == [(None, value) for _, _, value in told]
    assert len(log) == 1 + count + 200, "lost or doubled"
    assert broker.stop() == 0, broker.log()


def test_a_producer_without_retries_is_told_at_once(make_disk: MakeDisk, broker_on: BrokerOn) -> None:
    disk = make_disk(mebibytes=DISK_MEBIBYTES)
    broker = broker_on(disk, settings=NO_FLOOR)
    topic = create_topic(broker.bootstrap, "full")
    codes: list[int] = []
    with disk.filled():
        send_until_refused(broker.bootstrap, topic)
        producer = ConfluentProducer({"bootstrap.servers": broker.bootstrap, "acks": "1", "retries": 0})
        producer.produce(topic, VALUE, on_delivery=lambda error, _message: codes.append(error.code()))
        assert producer.flush(SECONDS) == 0
    assert codes == [KafkaError.KAFKA_STORAGE_ERROR]


def test_metadata_is_refused_by_name_and_goes_on_by_itself(make_disk: MakeDisk, broker_on: BrokerOn) -> None:
    disk = make_disk(mebibytes=DISK_MEBIBYTES)
    broker = broker_on(disk, settings=NO_FLOOR)
    with disk.filled():
        refused = fastlog("topics", "create", "later", "--bootstrap", broker.bootstrap)
        assert refused.status == 1
        assert "KAFKA_STORAGE_ERROR" in refused.err
        assert "disk is full; free some space" in refused.err
        assert "Traceback" not in broker.log()
    assert fastlog("topics", "create", "later", "--bootstrap", broker.bootstrap).status == 0
    assert broker.stop() == 0, broker.log()


def test_a_topic_that_finds_no_room_leaves_nothing(inject: Inject, make_broker: MakeBroker) -> None:
    """There may be room for the metadata and none for the logs."""
    broker = make_broker()
    create = ("topics", "create", "later", "--partitions", "2", "--bootstrap", broker.bootstrap)
    with inject(broker.pid, "mkdir,mkdirat", "error=ENOSPC"):
        refused = fastlog(*create)
        assert refused.status == 1
        assert "KAFKA_STORAGE_ERROR" in refused.err
        assert "No space left on device" in refused.err
        assert fastlog("topics", "list", "--bootstrap", broker.bootstrap).out == b""
    assert fastlog(*create).status == 0
    with Producer(broker.bootstrap) as producer:
        for partition in (0, 1):
            assert producer.send("later", VALUE, partition=partition).result(SECONDS).offset == 0
    assert broker.stop() == 0, broker.log()


def test_a_stop_and_a_start_on_a_full_disk_lose_nothing(make_disk: MakeDisk, broker_on: BrokerOn) -> None:
    disk = make_disk(mebibytes=DISK_MEBIBYTES)
    broker = broker_on(disk, settings=NO_FLOOR)
    topic = create_topic(broker.bootstrap, "full")
    with disk.filled():
        count, _ = send_until_refused(broker.bootstrap, topic)
        assert broker.stop() == 1
        last = broker.log().splitlines()[-1]
        assert last.startswith("fastlog: KAFKA_STORAGE_ERROR: ")
        assert "No space left on device" in last
        assert not (broker.data_dir / ".kafka_cleanshutdown").exists()
        with pytest.raises(AssertionError, match=r"fastlog: KAFKA_STORAGE_ERROR: .*No space left on device"):
            broker.start()
    broker.start()
    assert len(read_all(broker.bootstrap, topic)) == count
    assert broker.stop() == 0, broker.log()
    wait_until("closed cleanly", (broker.data_dir / ".kafka_cleanshutdown").exists)


def test_below_the_floor_appends_are_refused_and_resume_by_themselves(
    make_disk: MakeDisk, broker_on: BrokerOn
) -> None:
    disk = make_disk(mebibytes=DISK_MEBIBYTES)
    broker = broker_on(disk, settings={"fastlog.disk.floor.bytes": str(6 << 20)})
    topic = create_topic(broker.bootstrap, "low")
    with Producer(broker.bootstrap, retry_backoff_ms=20) as producer:
        before = producer.send(topic, b"before").result(SECONDS).offset
        free = os.statvfs(disk.path).f_bavail * os.statvfs(disk.path).f_frsize
        ballast = disk.path / "ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - (5 << 20))
        wait_until("it is noticed", lambda: "appends are refused" in broker.log())
        _, error = send_until_refused(broker.bootstrap, topic)
        assert "KAFKA_STORAGE_ERROR" in str(error)
        assert "6291456 are kept (fastlog.disk.floor.bytes)" in str(error)
        waiting = producer.send(topic, b"waited")
        assert read_all(broker.bootstrap, topic) == {before: b"before"}
        assert fastlog("topics", "create", "other", "--bootstrap", broker.bootstrap).status == 0
        assert not waiting.done()
        ballast.unlink()
        offset = waiting.result(SECONDS).offset
    assert "there is room again" in broker.log()
    assert read_all(broker.bootstrap, topic) == {before: b"before", offset: b"waited"}
    assert broker.stop() == 0, broker.log()
