"""The machine's clock is years off, at a start or all of a sudden: it is said, and nothing is lost by it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.conftest import MakeBroker
from tests.fault.conftest import require
from tests.fault.test_sequences_restart import TOPIC as SEQUENCES
from tests.fault.test_sequences_restart import send as send_sequence
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.clients import confluent
from tests.support.faults.clock import YEARS_5, ShiftedClock, library
from tests.support.wire import RawConnection

SECONDS = 20.0
DAY_MS = "86400000"
#: records of producers, and of the broker's time: both are to be deleted when they are a day old
TIMES = {"create": "CreateTime", "append": "LogAppendTime"}
GROUP = "readers"
RECORDS = 10
SETTINGS = {"log.retention.check.interval.ms": "50", "offsets.retention.check.interval.ms": "50"}


@pytest.fixture
def clock(tmp_path: Path) -> ShiftedClock:
    require(library() is not None, "libfaketime is missing (apt-get install libfaketime)")
    return ShiftedClock(tmp_path / "clock")


@pytest.fixture
def make_filled(make_broker: MakeBroker, clock: ShiftedClock) -> Callable[..., BrokerProcess]:
    """A broker under the shifted clock, which is right at first: records, a group's offsets, a producer's sequences."""

    def make(**settings: str) -> BrokerProcess:
        broker = make_broker(
            settings=SETTINGS | {key.replace("_", "."): it for key, it in settings.items()}, start=False
        )
        broker.environment = clock.environment()
        broker.start()
        for topic, kind in TIMES.items():
            create_topic(
                broker.bootstrap, topic, config={"message.timestamp.type": kind, "retention.ms": DAY_MS}
            )
            assert sent(broker, topic, RECORDS) == list(range(RECORDS))
        create_topic(
            broker.bootstrap, "large", config={"retention.bytes": "1", "segment.bytes": str(1 << 20)}
        )
        # what it sends again is dated by the machine's clock, whatever that of the broker is
        create_topic(broker.bootstrap, SEQUENCES, config={"message.timestamp.after.max.ms": str(2**63 - 1)})
        with RawConnection(broker.tcp_port) as connection:
            assert [send_sequence(connection, it) for it in range(3)] == [(0, 0), (0, 1), (0, 2)]
        consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": GROUP})
        consumer.commit(offsets=[TopicPartition("create", 0, 7)], asynchronous=False)
        consumer.close()
        return broker

    return make


def sent(broker: BrokerProcess, topic: str, count: int, timestamp_ms: int = 0) -> list[int]:
    """The offsets that so many records of an idempotent producer got; 0 dates them now."""
    offsets: list[int] = []

    def delivered(error: KafkaError | None, message: object) -> None:
        if error is not None:
            raise KafkaException(error)
        offsets.append(message.offset())  # type: ignore[attr-defined]

    producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True})
    for _ in range(count):
        producer.produce(topic, bytes(100), partition=0, on_delivery=delivered, timestamp=timestamp_ms)
    assert producer.flush(SECONDS) == 0
    return offsets


def log_starts_at(broker: BrokerProcess, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "unused"})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, 0), SECONDS)[0])
    finally:
        consumer.close()


def committed(broker: BrokerProcess) -> int:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": GROUP})
    try:
        (at,) = consumer.committed([TopicPartition("create", 0)], SECONDS)
        return int(at.offset)
    finally:
        consumer.close()


def let_retention_pass(broker: BrokerProcess) -> None:
    """Returns when a pass has begun and ended: what is too large is deleted by it, whatever the clock says."""
    before = log_starts_at(broker, "large")
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for _ in range(4):
        producer.produce("large", bytes(700_000), partition=0, timestamp=1)
    assert producer.flush(SECONDS) == 0
    wait_until(
        "what is too large is deleted", lambda: log_starts_at(broker, "large") > before, seconds=SECONDS
    )


def assert_nothing_is_lost(broker: BrokerProcess, records: int, *, knows_producers: bool = True) -> None:
    """All is readable, the group is where it was, and a producer's sequences are known."""
    for topic in TIMES:
        assert log_starts_at(broker, topic) == 0
        assert len(confluent.consume(broker.bootstrap, topic, records)) == records
    assert committed(broker) == 7
    if not knows_producers:
        return
    with RawConnection(broker.tcp_port) as connection:
        assert send_sequence(connection, 2) == (0, 2), "a batch that came again is not appended again"


@pytest.mark.parametrize("end", [BrokerProcess.stop, BrokerProcess.kill], ids=["stopped", "killed"])
@pytest.mark.parametrize(
    ("shift", "says"), [(YEARS_5, "the clock jumped far ahead"), (-YEARS_5, "the clock is far behind")]
)
def test_years_off_at_a_restart(
    make_filled: Callable[..., BrokerProcess],
    clock: ShiftedClock,
    end: Callable[[BrokerProcess], object],
    shift: int,
    says: str,
) -> None:
    broker = make_filled()
    assert "the clock" not in broker.log()
    end(broker)
    clock.shift(shift)
    broker.start()
    assert says in broker.log()
    let_retention_pass(broker)
    assert_nothing_is_lost(broker, RECORDS)
    # new records go behind the old ones, whatever they are dated
    then_ms = int((time.time() + shift) * 1000)
    for topic in TIMES:
        assert sent(broker, topic, 2, then_ms) == [RECORDS, RECORDS + 1]
    if shift < 0:
        with pytest.raises(KafkaException) as refused:
            sent(broker, "create", 1)
        assert refused.value.args[0].code() == KafkaError.INVALID_TIMESTAMP

    broker.stop()
    clock.shift(0)
    broker.start()
    let_retention_pass(broker)
    # who was replayed while the clock was behind wrote years ago, by a clock that is right again
    is_forgotten = shift < 0 and end is BrokerProcess.kill
    assert_nothing_is_lost(broker, RECORDS + 2, knows_producers=not is_forgotten)
    assert sent(broker, "create", 1) == [RECORDS + 2]


def test_a_clock_that_jumps_while_the_broker_runs(
    make_filled: Callable[..., BrokerProcess], clock: ShiftedClock
) -> None:
    broker = make_filled()
    clock.shift(YEARS_5)
    wait_until("the jump is told", lambda: "the clock jumped far ahead" in broker.log())
    let_retention_pass(broker)
    assert_nothing_is_lost(broker, RECORDS)
    clock.shift(0)
    wait_until("its end is told", lambda: "the clock is right again" in broker.log())
    assert_nothing_is_lost(broker, RECORDS)


def test_in_the_end_the_clock_is_believed(
    make_filled: Callable[..., BrokerProcess], clock: ShiftedClock
) -> None:
    """It is the only one that there is: what it calls old is deleted then, as by Kafka, and offsets go on."""
    broker = make_filled(fastlog_clock_jump_wait_ms="3000")
    broker.stop()
    clock.shift(YEARS_5)
    broker.start()
    assert_nothing_is_lost(broker, RECORDS)
    wait_until("it is told", lambda: "the clock is believed from now on" in broker.log())
    for topic in TIMES:
        wait_until("what is old goes", lambda topic=topic: log_starts_at(broker, topic) == RECORDS)
        assert sent(broker, topic, 1, int((time.time() + YEARS_5) * 1000)) == [RECORDS]
    wait_until("the group's offsets go too", lambda: committed(broker) < 0)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    assert set(TIMES) <= set(admin.list_topics(timeout=SECONDS).topics)
