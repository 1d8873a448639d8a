"""Record batches that are wrong: Kafka's error code, nothing appended, and the connection goes on."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator

import pytest

from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess
from tests.support.clients import confluent
from tests.support.samples import Sample
from tests.support.wire import Batch, RawConnection, produce_error, produce_request, record

CORRUPT_MESSAGE, MESSAGE_TOO_LARGE, INVALID_TOPIC, INVALID_ACKS = 2, 10, 17, 21
INVALID_TIMESTAMP, OUT_OF_ORDER_SEQUENCE, INVALID_EPOCH, INVALID_RECORD = 32, 45, 47, 87
UNKNOWN_TOPIC, UNSUPPORTED_FORMAT, UNSUPPORTED_COMPRESSION = 3, 43, 76
REFUSED = {CORRUPT_MESSAGE, INVALID_RECORD}
HOUR_MS = 3_600_000
GOOD = Batch().encode()


@pytest.fixture(scope="module")
def topic(broker: BrokerProcess) -> str:
    return create_topic(broker.bootstrap, "bad-batches")


@pytest.fixture
def connection(broker: BrokerProcess) -> Iterator[RawConnection]:
    with RawConnection(broker.tcp_port) as raw:
        yield raw


def send(connection: RawConnection, topic: str, records: bytes | None, **options: int) -> int:
    answer = connection.ask(produce_request(topic, records, **options))
    assert answer is not None, "the connection was closed"
    return produce_error(answer)


def now_ms() -> int:
    return int(time.time() * 1000)


@pytest.mark.parametrize(
    ("records", "codes"),
    [
        pytest.param(Batch(crc=1).encode(), {CORRUPT_MESSAGE}, id="wrong checksum"),
        pytest.param(GOOD[:-1], REFUSED, id="cut by one byte"),
        pytest.param(GOOD[:40], REFUSED, id="cut inside its header"),
        pytest.param(b"", REFUSED, id="no batch at all"),
        pytest.param(None, REFUSED, id="null instead of a batch"),
        pytest.param(GOOD + GOOD, REFUSED, id="two batches"),
        pytest.param(GOOD + b"\0" * 30, REFUSED, id="a batch and garbage"),
        pytest.param(Batch(batch_length=-1).encode(), REFUSED, id="negative length"),
        pytest.param(Batch(batch_length=2**31 - 1).encode(), REFUSED, id="huge length"),
        pytest.param(Batch(magic=3).encode(), {*REFUSED, UNSUPPORTED_FORMAT}, id="magic 3"),
        pytest.param(Batch(magic=1).encode(), {*REFUSED, UNSUPPORTED_FORMAT}, id="magic 1"),
        pytest.param(Batch(count=2).encode(), REFUSED, id="count too high"),
        pytest.param(Batch(count=0, last_offset_delta=0).encode(), REFUSED, id="count 0"),
        pytest.param(Batch(count=2**31 - 1).encode(), REFUSED, id="two billion records"),
        pytest.param(Batch(count=-1, last_offset_delta=0).encode(), REFUSED, id="count -1"),
        pytest.param(Batch(last_offset_delta=5).encode(), REFUSED, id="last offset delta"),
        pytest.param(
            Batch(records=[record(d, b"v") for d in (0, 0, 2)]).encode(), REFUSED, id="offset deltas 0, 0, 2"
        ),
        pytest.param(Batch(records=[b"\xff" * 20]).encode(), REFUSED, id="varint overflow"),
        pytest.param(Batch(payload=b"", count=1).encode(), REFUSED, id="no records inside"),
        pytest.param(Batch(attributes=5).encode(), {*REFUSED, UNSUPPORTED_COMPRESSION}, id="codec 5"),
        pytest.param(Batch(attributes=7).encode(), {*REFUSED, UNSUPPORTED_COMPRESSION}, id="codec 7"),
        pytest.param(Batch(attributes=1, payload=b"junk" * 9).encode(), REFUSED, id="junk as gzip"),
        pytest.param(Batch(attributes=2, payload=b"junk" * 9).encode(), REFUSED, id="junk as snappy"),
        pytest.param(Batch(attributes=3, payload=b"junk" * 9).encode(), REFUSED, id="junk as lz4"),
        pytest.param(Batch(attributes=4, payload=b"junk" * 9).encode(), REFUSED, id="junk as zstd"),
        pytest.param(
            Batch(attributes=1, payload=gzip.compress(record(0, b"v" * 500))[:-20]).encode(),
            REFUSED,
            id="gzip cut",
        ),
        pytest.param(
            Batch(attributes=1, payload=gzip.compress(b"\0" * (300 << 20), 9)).encode(),
            REFUSED,
            id="gzip bomb",
        ),
        pytest.param(Batch(attributes=0x20).encode(), REFUSED, id="control batch from a client"),
        pytest.param(
            Batch(producer_id=4000, base_sequence=0).encode(), {*REFUSED, 42, INVALID_EPOCH}, id="no epoch"
        ),
        pytest.param(
            Batch(base_timestamp=now_ms() + 24 * HOUR_MS).encode(),
            {INVALID_TIMESTAMP},
            id="a day in the future",
        ),
        pytest.param(
            Batch(records=[record(0, b"v" * (1 << 20))]).encode(), {MESSAGE_TOO_LARGE}, id="too large"
        ),
    ],
)
def test_a_bad_batch_is_refused(
    broker: BrokerProcess, connection: RawConnection, topic: str, records: bytes | None, codes: set[int]
) -> None:
    before = broker.rss_bytes()
    assert send(connection, topic, records) in codes
    assert broker.rss_bytes() - before < 150 << 20
    assert send(connection, topic, GOOD) == 0


def test_nothing_of_a_bad_batch_is_there(
    broker: BrokerProcess, topic_name: str, connection: RawConnection
) -> None:
    create_topic(broker.bootstrap, topic_name)
    for bad in (Batch(crc=7), Batch(count=2), Batch(attributes=4, payload=b"junk")):
        assert send(connection, topic_name, bad.encode()) != 0
    assert send(connection, topic_name, GOOD) == 0
    assert confluent.consume(broker.bootstrap, topic_name, 1) == [
        Sample(None, b"v", (), Batch().base_timestamp)
    ]


@pytest.mark.parametrize("acks", [5, -2, 2])
def test_acks_that_mean_nothing(connection: RawConnection, topic: str, acks: int) -> None:
    assert send(connection, topic, GOOD, acks=acks) == INVALID_ACKS


def test_sequences(connection: RawConnection, topic: str) -> None:
    def batch(sequence: int, epoch: int = 1) -> bytes:
        return Batch(producer_id=987_654, producer_epoch=epoch, base_sequence=sequence).encode()

    assert send(connection, topic, batch(0)) == 0
    assert send(connection, topic, batch(0)) == 0, "a duplicate is acknowledged again"
    assert send(connection, topic, batch(5)) == OUT_OF_ORDER_SEQUENCE
    assert send(connection, topic, batch(1, epoch=0)) == INVALID_EPOCH
    assert send(connection, topic, batch(1)) == 0


@pytest.mark.parametrize("name", ["../x", "..", ".", "", "a/b", "x" * 250, "a\0b", "naïve", "a b"])
def test_topic_names_that_could_leave_the_directory(
    broker: BrokerProcess, connection: RawConnection, name: str
) -> None:
    assert send(connection, name, GOOD) in {INVALID_TOPIC, UNKNOWN_TOPIC}
    assert not list(broker.data_dir.parent.glob("x*"))


@pytest.mark.parametrize("partition", [1, -1, 2**31 - 1])
def test_partitions_that_do_not_exist(connection: RawConnection, topic: str, partition: int) -> None:
    assert send(connection, topic, GOOD, partition=partition) == UNKNOWN_TOPIC
