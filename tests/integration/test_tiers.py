"""Tiered storage as users see it: other people's clients read what only the object store has, whatever it does."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

import fastlog
from fastlog.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from tests.conftest import MakeBroker
from tests.support.admin import create_topic
from tests.support.broker import PROGRAM, BrokerProcess, wait_until
from tests.support.cli import fastlog as fastlog_command
from tests.support.object_store import BUCKET, DENIED, FaultyStore, ObjectStore, objects_in
from tests.support.raw import RawTcp

pytestmark = pytest.mark.timeout(180)

RECORDS, VALUE_BYTES = 900, 8_000
SEGMENT_BYTES = 1 << 20
TOPIC = {
    "remote.storage.enable": "true",
    "segment.bytes": str(SEGMENT_BYTES),
    "local.retention.ms": "1",
    "file.delete.delay.ms": "0",
}
EARLIEST, LATEST_TIERED, EARLIEST_LOCAL = -2, -5, -4
FIRST_MS = int(time.time() * 1000) - 3_600_000
Listed = Callable[[], list[str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("store")) as started:
        yield started


@pytest.fixture
def s3(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    """A proxy before the server, which the environment names."""
    with FaultyStore(server) as proxy:
        for name, value in proxy.environment().items():
            monkeypatch.setenv(name, value)
        yield proxy


def settings(url: str) -> dict[str, str]:
    return {
        "remote.log.storage.system.enable": "true",
        "fastlog.remote.store.url": url,
        "remote.log.manager.task.interval.ms": "100",
        "log.retention.check.interval.ms": "200",
        "log.flush.start.offset.checkpoint.interval.ms": "200",
    }


def values() -> list[bytes]:
    chance = random.Random(5)
    return [b"%d " % number + chance.randbytes(VALUE_BYTES) for number in range(RECORDS)]


def produce(broker: BrokerProcess, topic: str, sent: list[bytes], first: int = 0) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 5, "batch.size": 60_000})
    for number, value in enumerate(sent, first):
        producer.produce(topic, value, partition=0, timestamp=FIRST_MS + number)
        producer.poll(0)
    assert producer.flush(60) == 0


def consumed(broker: BrokerProcess, topic: str, count: int, *, seconds: float = 60.0) -> list[bytes]:
    """Values from the beginning on, until there are so many or the time is over."""
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": "tiers", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    found: list[bytes] = []
    end = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < end:
        for message in consumer.consume(500, timeout=0.5):
            if message.error() is None:
                value = message.value()
                assert value is not None
                found.append(value)
    consumer.close()
    return found


def offset(broker: BrokerProcess, topic: str, timestamp: int) -> int:
    request = ListOffsetsRequest(-1, 0, [ListOffsetsTopic(topic, [ListOffsetsPartition(0, -1, timestamp)])])
    with RawTcp("127.0.0.1", broker.tcp_port) as connection:
        (partition,) = connection.ask(request, 9).topics[0].partitions
    assert partition.error_code == 0
    return int(partition.offset)


def segments(broker: BrokerProcess, topic: str) -> list[Path]:
    return sorted((broker.data_dir / f"{topic}-0").glob("*.log"))


def tiered(broker: BrokerProcess, topic: str, sent: list[bytes]) -> None:
    """A topic of which only the last segment is on the disk."""
    create_topic(broker.bootstrap, topic, config=TOPIC)
    produce(broker, topic, sent)
    wait_until(
        "only the active segment is on the disk", lambda: len(segments(broker, topic)) == 1, seconds=60
    )


def check_all_there(broker: BrokerProcess, topic: str, sent: list[bytes]) -> None:
    assert consumed(broker, topic, len(sent)) == sent
    local = offset(broker, topic, EARLIEST_LOCAL)
    assert offset(broker, topic, EARLIEST) == 0
    assert 0 < local == offset(broker, topic, LATEST_TIERED) + 1
    # by time, in the store and on the disk
    for number in (0, 123, local - 1, local, len(sent) - 1):
        assert offset(broker, topic, FIRST_MS + number) == number
    assert offset(broker, topic, -3) == len(sent) - 1


def test_a_directory_as_the_store(make_broker: MakeBroker, tmp_path: Path, topic_name: str) -> None:
    store = tmp_path / "store"
    broker, sent = make_broker(settings=settings(str(store))), values()
    tiered(broker, topic_name, sent)
    check_all_there(broker, topic_name, sent)
    broker.kill()
    broker.start()
    check_all_there(broker, topic_name, sent)
    with fastlog.Admin(broker.bootstrap) as admin:
        before = len(list(store.rglob("*.log")))
        admin.delete_records({(topic_name, 0): 400})
        wait_until("segments go from the store", lambda: len(list(store.rglob("*.log"))) < before, seconds=30)
        assert offset(broker, topic_name, EARLIEST) == 400
        assert consumed(broker, topic_name, RECORDS - 400) == sent[400:]
        assert broker.stop() == 0
        broker.start()
    with fastlog.Admin(broker.bootstrap) as admin:
        assert consumed(broker, topic_name, RECORDS - 400) == sent[400:]
        admin.delete_topic(topic_name)
        wait_until("the store is empty", lambda: not objects_in(store), seconds=30)
    assert "Traceback" not in broker.log()
    assert broker.stop() == 0


def test_s3_as_the_store_that_denies_breaks_off_and_lies(
    make_broker: MakeBroker, s3: FaultyStore, topic_name: str
) -> None:
    broker, sent = make_broker(settings=settings(f"s3://{BUCKET}/tiers/{topic_name}")), values()
    create_topic(broker.bootstrap, topic_name, config=TOPIC)
    s3.fault = lambda method, key, status, body: (403, DENIED, len(DENIED))
    produce(broker, topic_name, sent)
    wait_until("the broker says so", lambda: "tiered storage failed" in broker.log(), seconds=30)
    assert len(segments(broker, topic_name)) > 5, "something went from the disk that is not uploaded"
    # every other request breaks off
    turns = iter(range(10_000_000))
    broken = 0

    def breaks_off(method: str, key: str, status: int, body: bytes) -> tuple[int, bytes, int] | None:
        nonlocal broken
        if next(turns) % 2:
            broken += 1
            return None
        return status, body, len(body)

    s3.fault = breaks_off
    wait_until("many requests broke off", lambda: broken > 20, seconds=60)
    s3.fault = None
    wait_until(
        "only the active segment is on the disk", lambda: len(segments(broker, topic_name)) == 1, seconds=90
    )

    def flipped(method: str, key: str, status: int, body: bytes) -> tuple[int, bytes, int]:
        if method == "GET" and key.endswith(".log") and len(body) > 1000:
            body = body[:500] + bytes([body[500] ^ 1]) + body[501:]
        return status, body, len(body)

    s3.fault = flipped
    assert consumed(broker, topic_name, 1, seconds=4) == []
    assert "is not what was stored" in broker.log()
    s3.fault = None
    check_all_there(broker, topic_name, sent)


def test_retention_deletes_in_the_store_and_disabling_deletes_all(
    make_broker: MakeBroker, tmp_path: Path, topic_name: str
) -> None:
    store = tmp_path / "store"
    broker, sent = make_broker(settings=settings(str(store))), values()
    tiered(broker, topic_name, sent)
    with fastlog.Admin(broker.bootstrap) as admin:
        admin.alter_configs({"retention.bytes": str(3 * SEGMENT_BYTES)}, topic=topic_name)
        wait_until("the log starts later", lambda: offset(broker, topic_name, EARLIEST) > 0, seconds=30)
        wait_until("segments go from the store", lambda: len(list(store.rglob("*.log"))) <= 3, seconds=30)
        start = offset(broker, topic_name, EARLIEST)
        assert consumed(broker, topic_name, RECORDS - start) == sent[start:]
        with pytest.raises(fastlog.errors.InvalidConfigError, match=r"remote\.log\.delete\.on\.disable"):
            admin.alter_configs({"remote.storage.enable": "false"}, topic=topic_name)
        local = offset(broker, topic_name, EARLIEST_LOCAL)
        off = {"remote.storage.enable": "false", "remote.log.delete.on.disable": "true"}
        admin.alter_configs(off, topic=topic_name)
        wait_until("the store is empty", lambda: not objects_in(store), seconds=30)
    assert offset(broker, topic_name, EARLIEST) == local
    assert consumed(broker, topic_name, RECORDS - local) == sent[local:]


def test_what_cannot_be_is_refused(make_broker: MakeBroker, tmp_path: Path, topic_name: str) -> None:
    broker = make_broker(settings=settings(str(tmp_path / "store")))
    for config, said in (
        ({"remote.storage.enable": "true", "cleanup.policy": "compact"}, "cleanup.policy=compact"),
        (
            {"remote.storage.enable": "true", "retention.ms": "10", "local.retention.ms": "11"},
            "local.retention.ms",
        ),
        (
            {"remote.storage.enable": "true", "retention.ms": "10", "local.retention.ms": "-1"},
            "local.retention.ms",
        ),
    ):
        with (
            fastlog.Admin(broker.bootstrap) as admin,
            pytest.raises(fastlog.errors.InvalidConfigError, match=said),
        ):
            admin.create_topic(topic_name, configs=config)


def test_a_broker_without_the_store_does_not_serve_what_is_there(
    make_broker: MakeBroker, tmp_path: Path, topic_name: str
) -> None:
    """The partition is offline, which tools tell in seconds. Nothing of it is lost: it is back with the settings."""
    broker, sent = make_broker(settings=settings(str(tmp_path / "store"))), values()
    tiered(broker, topic_name, sent)
    create_topic(broker.bootstrap, f"{topic_name}-plain")
    assert broker.stop() == 0
    before, broker.settings = broker.settings, {}
    seen = len(broker.log())
    broker.start()
    log = broker.log()[seen:]
    assert f"records of {broker.data_dir}/{topic_name}-0 are in an object store" in log
    assert "set remote.log.storage.system.enable" in log
    assert "of no known topic" not in log
    assert "does not read" not in log
    assert consumed(broker, topic_name, 1, seconds=3) == []

    began, why = time.monotonic(), "it is offline there"
    described = fastlog_command("topics", "describe", topic_name, "--bootstrap", broker.bootstrap)
    assert time.monotonic() - began < 15
    assert described.status == 1
    assert "partition 0 cannot be read: KAFKA_STORAGE_ERROR" in described.out.decode()
    assert why in described.out.decode()
    assert "remote.storage.enable = true" in described.out.decode()
    listed = fastlog_command("disks", "list", "--bootstrap", broker.bootstrap)
    assert listed.status == 1
    assert f"whose log says why: {topic_name}:0\n" in listed.out.decode()
    replicas = fastlog_command("disks", "list", "--replicas", "--bootstrap", broker.bootstrap).out.decode()
    assert [line.split()[1] for line in replicas.splitlines() if f"{topic_name}:0" in line] == ["offline"]
    reading = [PROGRAM, "consume", topic_name, "--from-beginning", "--bootstrap", broker.bootstrap]
    with subprocess.Popen(reading, stderr=subprocess.PIPE, text=True) as process:
        began = time.monotonic()
        assert process.stderr is not None
        line = process.stderr.readline()
        process.terminate()
    assert time.monotonic() - began < 15
    assert f"{topic_name}-0 is tried again" in line
    assert why in line

    assert broker.stop() == 0
    broker.settings = before
    broker.start()
    check_all_there(broker, topic_name, sent)
    assert fastlog_command("disks", "list", "--bootstrap", broker.bootstrap).status == 0


def test_killed_again_and_again_while_it_uploads_and_deletes(
    make_broker: MakeBroker, tmp_path: Path, topic_name: str
) -> None:
    store, seed = tmp_path / "store", time.time_ns()
    print("seed", seed)  # shown where it fails
    chance = random.Random(seed)
    broker, sent = make_broker(settings=settings(str(store))), values()
    create_topic(broker.bootstrap, topic_name, config=TOPIC)
    part = len(sent) // 6
    for number in range(6):
        produce(broker, topic_name, sent[number * part : (number + 1) * part], first=number * part)
        time.sleep(chance.uniform(0, 0.5))
        broker.kill()
        # of what a process was at in the store nothing is taken back with it
        broker.start()
    wait_until(
        "only the active segment is on the disk", lambda: len(segments(broker, topic_name)) == 1, seconds=60
    )
    check_all_there(broker, topic_name, sent)
    with fastlog.Admin(broker.bootstrap) as admin:
        admin.delete_records({(topic_name, 0): offset(broker, topic_name, EARLIEST_LOCAL)})
    # none is left that nobody names
    wait_until(
        "no segment is in the store",
        lambda: not [*store.rglob("*.log"), *store.rglob("*.indexes")],
        seconds=30,
    )


def test_a_topic_that_was_compacted_before(make_broker: MakeBroker, tmp_path: Path, topic_name: str) -> None:
    """What the cleaner left goes to the store with its gaps, and is what it was at every offset."""
    options = {**settings(str(tmp_path / "store")), "log.cleaner.backoff.ms": "100"}
    broker, sent = make_broker(settings=options), values()
    compact = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.0", "file.delete.delay.ms": "0"}
    create_topic(broker.bootstrap, topic_name, config={**compact, "segment.bytes": str(SEGMENT_BYTES)})
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 5, "batch.size": 60_000})
    for number, value in enumerate(sent):
        # of every ten records one stays, and of a stretch as long as some segments none
        key = b"%d" % (0 if 300 <= number < 600 else number if number % 10 == 0 else number % 10)
        producer.produce(topic_name, value, key, partition=0, timestamp=FIRST_MS + number)
        producer.poll(0)
    assert producer.flush(60) == 0

    def at_offsets() -> dict[int, bytes]:
        return {it.offset: it.value or b"" for it in all_records(broker, topic_name)}

    def is_clean() -> bool:
        """Below the active segment each key is there once."""
        active = int(segments(broker, topic_name)[-1].stem)
        repeated = [it for it in at_offsets() if it < active and (300 <= it < 600 or it % 10)]
        return len(repeated) <= 10

    wait_until("the cleaner is through", is_clean, seconds=60)
    tiers = {"cleanup.policy": "delete", "remote.storage.enable": "true", "local.retention.ms": "1"}
    with fastlog.Admin(broker.bootstrap) as admin:
        admin.alter_configs(tiers, topic=topic_name)
    before = at_offsets()
    wait_until("it is in the store", lambda: len(segments(broker, topic_name)) == 1, seconds=60)
    assert at_offsets() == before
    # whoever asks for an offset that is gone begins at the next one
    for number in (301, 450, 599):
        first = next(iter(all_records(broker, topic_name, number)))
        assert first.offset == min(it for it in before if it >= number)
    with (
        fastlog.Admin(broker.bootstrap) as admin,
        pytest.raises(fastlog.errors.InvalidConfigError, match=r"cleanup\.policy=compact"),
    ):
        admin.alter_configs({"cleanup.policy": "compact"}, topic=topic_name)
    broker.kill()
    broker.start()
    assert at_offsets() == before


def test_quotas_hold_uploads_and_reads_and_may_be_changed_while_they_do(
    make_broker: MakeBroker, tmp_path: Path, topic_name: str
) -> None:
    copy, fetch = (f"remote.log.manager.{it}.max.bytes.per.second" for it in ("copy", "fetch"))
    store, rate = tmp_path / "store", 2 * SEGMENT_BYTES
    broker, sent = make_broker(settings={**settings(str(store)), copy: str(rate), fetch: "1000"}), values()
    began = time.monotonic()
    tiered(broker, topic_name, sent)
    uploaded = sum(it.stat().st_size for it in store.rglob("*.log"))
    # what a second saved up, and one segment ahead, come on top
    assert time.monotonic() - began > (uploaded - SEGMENT_BYTES) / rate - 1
    # the first of the store's chunks comes at once, the next a quarter of an hour later
    assert 0 < len(consumed(broker, topic_name, len(sent), seconds=5)) < len(sent) // 2
    with fastlog.Admin(broker.bootstrap) as admin:
        admin.alter_configs({fetch: str(1 << 40)}, broker=admin.describe_cluster().controller_id)
    check_all_there(broker, topic_name, sent)
    began = time.monotonic()
    assert broker.stop() == 0
    assert time.monotonic() - began < 20


def all_records(broker: BrokerProcess, topic: str, first: int = 0) -> list[fastlog.Record]:
    """What is there from an offset on, up to the last record."""
    with fastlog.Admin(broker.bootstrap) as admin:
        end = admin.list_offsets({(topic, 0): "latest"})[topic, 0].offset
    found: list[fastlog.Record] = []
    with fastlog.Consumer(broker.bootstrap) as consumer:
        consumer.assign(positions={(topic, 0): first})
        while not found or found[-1].offset < end - 1:
            records = consumer.poll(timeout=30)
            assert records, f"nothing came after {len(found)} records, the end is {end}"
            found += records
    return found
