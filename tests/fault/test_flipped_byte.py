"""One byte of a segment flips on the disk: it never reaches an application as a record, and nothing is deleted."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Consumer as ConfluentConsumer
from confluent_kafka import TopicPartition

from fastlog import Consumer, Producer
from fastlog.errors import CorruptMessageError
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from tests.conftest import MakeBroker
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.raw import RawTcp

RECORDS = 300
# the batch that is damaged, of as many batches as records; and where in it: the header is 61 bytes
DAMAGED = 100
SECONDS = 10.0
VALUE = b"%06d " + b"." * 1100


@pytest.fixture
def broker(make_broker: MakeBroker) -> BrokerProcess:
    return filled(make_broker())


def filled(made: BrokerProcess) -> BrokerProcess:
    """The broker with a topic `flipped` of RECORDS batches of one record each."""
    create_topic(made.bootstrap, "flipped")
    with Producer(made.bootstrap, batch_bytes=1024) as producer:
        sent = [producer.send("flipped", VALUE % number, partition=0) for number in range(RECORDS)]
        assert [one.result(SECONDS).offset for one in sent] == list(range(RECORDS))
    return made


def segment(broker: BrokerProcess) -> Path:
    return broker.data_dir / "flipped-0" / f"{0:020d}.log"


def flip(broker: BrokerProcess, *, at: int) -> None:
    """Flips a bit of byte `at` of the damaged batch; a running broker shares the page cache and sees it at once."""
    path = segment(broker)
    assert path.stat().st_size % RECORDS == 0, "batches differ in size"
    position = path.stat().st_size // RECORDS * DAMAGED + at
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))


def answer(broker: BrokerProcess) -> int:
    """The code that a fetch of the damaged batch is answered with; 0 where its bytes are sent as they are."""
    wanted = FetchPartition(0, fetch_offset=DAMAGED, partition_max_bytes=1 << 20)
    request = FetchRequest(max_bytes=1 << 20, topics=[FetchTopic(topic="flipped", partitions=[wanted])])
    with RawTcp("127.0.0.1", broker.tcp_port) as raw:
        return int(raw.ask(request, 12).responses[0].partitions[0].error_code)


def read_ours(bootstrap: str) -> tuple[list[bytes | None], str]:
    """The values that our consumer gives, and the error after which it gives no more."""
    values: list[bytes | None] = []
    with Consumer(bootstrap) as consumer:
        consumer.assign([("flipped", 0)])
        consumer.seek_to_beginning()
        while len(values) < RECORDS:
            try:
                more = [record.value for record in consumer.poll(timeout=1.0)]
            except CorruptMessageError as error:
                return values, str(error)
            if not more:
                return values, ""
            values += more
    return values, ""


def read_theirs(bootstrap: str, start: int) -> list[bytes | None]:
    """What librdkafka gives, which checks checksums when it is told to, until it gives no more."""
    config = {"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False}
    consumer = ConfluentConsumer({**config, "check.crcs": True})
    consumer.assign([TopicPartition("flipped", 0, start)])
    values: list[bytes | None] = []
    while start + len(values) < RECORDS:
        messages = consumer.consume(500, 1.0)
        good = [message.value() for message in messages if message.error() is None]
        values += good
        if not good:
            break
    consumer.close()
    return values


@pytest.mark.parametrize(
    ("state", "at", "code"),
    [
        # its CRC does not cover the length, by which the broker walks from batch to batch
        ("running", 9, 56),
        # the rest is sent as it is: clients check it
        ("running", 150, 0),
        ("stopped", 16, 56),
        ("stopped", 19, 0),
        # what was not synced is read before it is served
        ("killed", 150, 56),
    ],
    ids=[
        "running-length",
        "running-record",
        "stopped-magic",
        "stopped-crc",
        "killed-record",
    ],
)
def test_a_flipped_byte_never_reaches_an_application(
    broker: BrokerProcess, caplog: pytest.LogCaptureFixture, state: str, at: int, code: int
) -> None:
    if state == "stopped":
        assert broker.stop() == 0
    elif state == "killed":
        broker.kill()
    flip(broker, at=at)
    damaged = segment(broker).read_bytes()
    if state != "running":
        broker.start()
    good = [VALUE % number for number in range(RECORDS)]
    assert answer(broker) == code
    values, error = read_ours(broker.bootstrap)
    assert values == good[:DAMAGED]
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    if code == 0:
        assert "the batch at offset 100 of flipped-0 cannot be read: the CRC-32C" in error
    else:
        assert any("flipped-0 cannot be fetched at offset 100" in line for line in told), told
        wait_until("the broker says where", lambda: f"(offset {DAMAGED})" in broker.log())
        assert f"next readable offset: {DAMAGED + 1}; nothing was deleted" in broker.log()
    assert read_theirs(broker.bootstrap, 0) == good[:DAMAGED]
    assert read_theirs(broker.bootstrap, DAMAGED + 1) == good[DAMAGED + 1 :]
    assert segment(broker).read_bytes() == damaged
    with Producer(broker.bootstrap) as producer:
        assert producer.send("flipped", b"more", partition=0).result(SECONDS).offset == RECORDS
    assert broker.stop() == 0, broker.log()


@pytest.mark.parametrize("at", [7, 1], ids=["near", "far"])
def test_an_offset_that_turned_never_reaches_an_application(
    broker: BrokerProcess, caplog: pytest.LogCaptureFixture, at: int
) -> None:
    """No checksum covers the base offset of a batch. Our consumer holds it against the batches beside it: it neither
    gives a record another's offset nor passes over those that such an offset would hide."""
    flip(broker, at=at)
    assert read_ours(broker.bootstrap)[0] == [VALUE % number for number in range(DAMAGED)]
    # which it asks for again, and then the broker sees it too
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any(f"flipped-0 cannot be fetched at offset {DAMAGED}" in line for line in told), told
    assert f"(offset {DAMAGED}): " in broker.log()
    behind = read_theirs(broker.bootstrap, DAMAGED + 1)
    assert behind == [VALUE % number for number in range(DAMAGED + 1, RECORDS)]


@pytest.mark.parametrize("at", [9, 150], ids=["length", "record"])
def test_the_scrub_of_one_broker_finds_a_flipped_byte_and_says_what_to_do(
    make_broker: MakeBroker, at: int
) -> None:
    """Nobody else has the batch: it is refused from then on, all others are served, and the line says where it is."""
    broker = filled(make_broker(settings={"fastlog.scrub.interval.ms": "1000"}))
    flip(broker, at=at)
    found = "the scrub found records that turned bad, they are not served"
    wait_until("the scrub finds it", lambda: found in broker.log())
    assert answer(broker) == 56
    (line,) = [line for line in broker.log().splitlines() if found in line]
    position = segment(broker).stat().st_size // RECORDS * DAMAGED
    for part in (
        "flipped",
        str(segment(broker)),
        str(position),
        f"{DAMAGED + 1}",
        "seek to the next readable",
    ):
        assert part in line, line
    good = [VALUE % number for number in range(RECORDS)]
    assert read_theirs(broker.bootstrap, 0) == good[:DAMAGED]
    assert read_theirs(broker.bootstrap, DAMAGED + 1) == good[DAMAGED + 1 :]
    with Producer(broker.bootstrap) as producer:
        assert producer.send("flipped", b"more", partition=0).result(SECONDS).offset == RECORDS
    assert broker.stop() == 0, broker.log()
    # it is known to the next start, which has nothing to recover
    broker.start()
    assert answer(broker) == 56
