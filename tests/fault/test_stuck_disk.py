"""One of two disks hangs: who reads from it waits, nobody else does, and what was asked for comes when it is back."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from typing import Any

import pytest

import fastlog
from fastlog import Producer
from fastlog.protocol.codec import decode_response_frame
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from tests.conftest import MakeBroker
from tests.fault.conftest import MakeDisk, require
from tests.fault.test_data_directories import broker_with
from tests.fault.test_io_errors import send
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.faults.stuck_disk import forget, is_possible, stuck, waits_for_a_disk
from tests.support.faults.witness import read_all
from tests.support.raw import RawTcp, RawZmq

FETCH_VERSION = 12
LIST_VERSION = 7
SEGMENT_BYTES = 1 << 20
# several segments, and more batches than those at the end whose places are kept in memory
RECORDS = 400
VALUE_BYTES = 20_000
# more than the broker has I/O threads
READERS = 8
SECONDS = 60.0
OFTEN = (
    "log.retention.check.interval.ms",
    "log.flush.offset.checkpoint.interval.ms",
    "log.flush.start.offset.checkpoint.interval.ms",
    "replica.high.watermark.checkpoint.interval.ms",
)
FILES = ("recovery-point-offset-checkpoint", "log-start-offset-checkpoint", "replication-offset-checkpoint")


def fetch(topic: str, offset: int) -> FetchRequest:
    wanted = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
    topics = [FetchTopic(topic=topic, partitions=[wanted])]
    return FetchRequest(max_wait_ms=500, min_bytes=1, max_bytes=1 << 20, topics=topics)


def first_since(topic: str, timestamp: int) -> ListOffsetsRequest:
    asked = ListOffsetsPartition(partition_index=0, timestamp=timestamp)
    return ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=[asked])])


def received(connection: RawTcp, api_key: int, version: int) -> Any:
    return decode_response_frame(api_key, version, connection.receive_frame())[1]


def begins(broker: BrokerProcess, topic: str) -> int:
    """The log's start."""
    with RawTcp("127.0.0.1", broker.tcp_port) as connection:
        answer = connection.ask(first_since(topic, -2), LIST_VERSION)
    return int(answer.topics[0].partitions[0].offset)


def value(number: int) -> bytes:
    return b"%09d" % number * (VALUE_BYTES // 9)


@pytest.mark.timeout(180)
def test_retention_and_checkpoints_of_other_disks_do_not_wait_for_one_that_hangs(
    make_disk: MakeDisk, make_broker: MakeBroker
) -> None:
    require(is_possible(), "the blkio controller of cgroup version 1 is missing")
    disk = make_disk("second")
    second = disk.path / "data"
    broker = make_broker(start=False)
    broker.arguments = ("--data-dir", str(second))
    broker.settings |= dict.fromkeys(OFTEN, "300")
    broker.start()
    small = {"segment.bytes": str(SEGMENT_BYTES), "file.delete.delay.ms": "0"}
    bad = create_topic(broker.bootstrap, "bad", config=small)
    assert broker.stop() == 0
    # as an operator would move it
    shutil.move(broker.data_dir / "bad-0", second / "bad-0")
    before = time.time()
    broker.start()
    wait_until("all is written down", lambda: all((second / it).stat().st_mtime > before for it in FILES))
    good, other = (create_topic(broker.bootstrap, name, config=small) for name in ("good", "other"))
    assert (broker.data_dir / "good-0").is_dir()
    with Producer(broker.bootstrap) as producer:
        sent = [producer.send(good, value(number)) for number in range(RECORDS)]
        assert [it.result(SECONDS).offset for it in sent] == list(range(RECORDS))
    with fastlog.Admin(broker.bootstrap) as admin, stuck(disk, broker.pid, writes=True):
        assert send(broker.bootstrap, bad, b"which moves its high watermark") == [0]
        wait_until("a checkpoint hangs there", lambda: waits_for_a_disk(broker.pid), seconds=SECONDS)
        admin.alter_configs({"retention.bytes": str(3 * SEGMENT_BYTES)}, topic=good)
        wait_until("segments go", lambda: begins(broker, good) > 0, seconds=SECONDS)
        start = begins(broker, good)
        file = broker.data_dir / FILES[1]
        wait_until("it is written down", lambda: f"good 0 {start}" in file.read_text(), seconds=SECONDS)
        assert admin.delete_records({(good, 0): RECORDS}) == {(good, 0): RECORDS}
        admin.delete_topic(other)
    assert read_all(broker.bootstrap, bad) == {0: b"which moves its high watermark"}
    assert broker.stop() == 0, broker.log()


def test_a_disk_that_hangs_stops_those_alone_who_read_from_it(
    make_disk: MakeDisk, make_broker: MakeBroker
) -> None:
    require(is_possible(), "the blkio controller of cgroup version 1 is missing")
    disk = make_disk("second")
    second = disk.path / "data"
    broker = broker_with(make_broker, second)
    create = {"segment.bytes": str(SEGMENT_BYTES)}
    bad = create_topic(broker.bootstrap, "bad", config=create)
    assert broker.stop() == 0
    # as an operator would move it
    shutil.move(broker.data_dir / "bad-0", second / "bad-0")
    broker.start()
    good = create_topic(broker.bootstrap, "good")
    assert (broker.data_dir / "good-0").is_dir()
    with Producer(broker.bootstrap) as producer:
        for number in range(RECORDS):
            # a batch each
            assert producer.send(bad, value(number)).result(SECONDS).offset == number
    assert len(list((second / "bad-0").glob("*.log"))) > 3
    forget(second / "bad-0")
    with ExitStack() as connections:
        lister, *readers = [
            connections.enter_context(RawTcp("127.0.0.1", broker.tcp_port, seconds=SECONDS))
            for _ in range(READERS + 1)
        ]
        zmq = connections.enter_context(RawZmq(broker.zmq_endpoint, seconds=SECONDS))
        with stuck(disk, broker.pid):
            for number, reader in enumerate(readers):
                reader.send(fetch(bad, 10 * number), FETCH_VERSION)
            lister.send(first_since(bad, 0), LIST_VERSION)
            zmq.send(fetch(bad, 5), FETCH_VERSION)
            time.sleep(0.5)
            for number in range(20):
                assert send(broker.bootstrap, good, b"%d" % number) == [number]
            assert read_all(broker.bootstrap, good) == {number: b"%d" % number for number in range(20)}
            create_topic(broker.bootstrap, "fresh")
            for reader in (*readers, lister):
                reader.socket.settimeout(0.01)
                with pytest.raises(TimeoutError):
                    reader.socket.recv(1)
                reader.socket.settimeout(SECONDS)
        for number, reader in enumerate(readers):
            answer = received(reader, FetchRequest.API_KEY, FETCH_VERSION)
            assert value(10 * number) in bytes(answer.responses[0].partitions[0].records)
        listed = received(lister, ListOffsetsRequest.API_KEY, LIST_VERSION)
        assert listed.topics[0].partitions[0].offset == 0
        _, answer = zmq.receive(FetchRequest.API_KEY, FETCH_VERSION)
        assert value(5) in bytes(answer.responses[0].partitions[0].records)
    found = read_all(broker.bootstrap, bad)
    assert found == {number: value(number) for number in range(RECORDS)}
    assert broker.stop() == 0, broker.log()
