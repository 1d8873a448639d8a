"""Tiered storage on a broker whose S3 server keeps half, refuses single objects, lies, or never answers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

import fastlog
from tests.conftest import MakeBroker
from tests.integration.test_tiers import (
    EARLIEST_LOCAL,
    TOPIC,
    check_all_there,
    consumed,
    offset,
    produce,
    segments,
    settings,
    tiered,
    values,
)
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.object_store import BUCKET, DENIED, FaultyStore, ObjectStore

pytestmark = pytest.mark.timeout(180)

#: of three parts
PARTS_BYTES = 18 << 20
#: a request to the store has 30 s, and is tried again
SECONDS_WITHOUT_STORE = 15.0


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


def wait_given_up(broker: BrokerProcess, topic: str, seconds: float = 60.0) -> None:
    wait_until(
        f"of {topic} only the active segment is on the disk",
        lambda: len(segments(broker, topic)) == 1,
        seconds=seconds,
    )


def test_a_store_that_says_yes_and_keeps_half_takes_nothing_from_the_disk(
    make_broker: MakeBroker, s3: FaultyStore, topic_name: str
) -> None:
    broker, sent = make_broker(settings=settings(f"s3://{BUCKET}/tiers/{topic_name}")), values()
    create_topic(broker.bootstrap, topic_name, config=TOPIC)
    s3.cuts_uploads = True
    produce(broker, topic_name, sent)
    wait_until("the broker says so", lambda: "bytes, and has" in broker.log(), seconds=30)
    full = len(segments(broker, topic_name))
    before = len(s3.requests)
    wait_until("it tries again", lambda: len(s3.requests) > before + 30, seconds=30)
    assert len(segments(broker, topic_name)) == full > 5, "the disk gave up what the store does not have"
    s3.cuts_uploads = False
    wait_given_up(broker, topic_name, 90)
    check_all_there(broker, topic_name, sent)


def test_what_the_store_lost_is_uploaded_again_before_the_disk_gives_it_up(
    make_broker: MakeBroker, s3: FaultyStore, server: ObjectStore, topic_name: str
) -> None:
    prefix = f"tiers/{topic_name}"
    broker, sent = make_broker(settings=settings(f"s3://{BUCKET}/{prefix}")), values()
    create_topic(broker.bootstrap, topic_name, config={**TOPIC, "local.retention.ms": "-2"})
    produce(broker, topic_name, sent)
    full = len(segments(broker, topic_name)) - 1

    def objects() -> list[str]:
        return sorted(key for key in server.keys(prefix) if key.endswith(".log"))

    wait_until("all full segments are in the store", lambda: len(objects()) == full > 5, seconds=60)
    assert len(segments(broker, topic_name)) == full + 1
    lost = objects()[1::2]
    for key in lost:
        server.delete(key)
    with fastlog.Admin(broker.bootstrap) as admin:
        admin.alter_configs({"local.retention.ms": "1"}, topic=topic_name)
    wait_given_up(broker, topic_name)
    assert "uploaded again from the disk" in broker.log()
    assert len(objects()) == full
    assert not set(lost) & set(objects())
    check_all_there(broker, topic_name, sent)


@pytest.mark.parametrize("denied", ["PUT", "POST"], ids=["a part", "the end"])
def test_an_upload_in_parts_that_fails_leaves_none_in_the_store(
    make_broker: MakeBroker, s3: FaultyStore, server: ObjectStore, topic_name: str, denied: str
) -> None:
    broker, sent = make_broker(settings=settings(f"s3://{BUCKET}/tiers/{topic_name}")), 3 * values()
    spoilt: list[str] = []

    def deny(method: str, key: str, status: int, body: bytes) -> tuple[int, bytes, int]:
        # the answer to the request that begins it, a POST too, is not spoilt
        if method == denied and key.endswith(".log") and b"InitiateMultipartUpload" not in body:
            spoilt.append(key)
            return 403, DENIED, len(DENIED)
        return status, body, len(body)

    s3.fault = deny
    create_topic(broker.bootstrap, topic_name, config={**TOPIC, "segment.bytes": str(PARTS_BYTES)})
    produce(broker, topic_name, sent)
    wait_until("an upload is aborted", lambda: spoilt and spoilt[0] in s3.aborted, seconds=60)
    s3.fault = None
    wait_given_up(broker, topic_name)
    assert server.unfinished() == []
    assert consumed(broker, topic_name, len(sent)) == sent


def test_objects_that_are_refused_keep_no_other_topic_from_the_store(
    make_broker: MakeBroker, s3: FaultyStore, topic_name: str
) -> None:
    broker, sent = make_broker(settings=settings(f"s3://{BUCKET}/tiers/{topic_name}")), values()[:300]
    refused, others = [f"{topic_name}-a{it}" for it in range(4)], [f"{topic_name}-z"]

    def deny(method: str, key: str, status: int, body: bytes) -> tuple[int, bytes, int]:
        if f"{topic_name}-a" in key:
            status, body = 403, DENIED
        return status, body, len(body)

    s3.fault = deny
    for topic in (*refused, *others):
        create_topic(broker.bootstrap, topic, config=TOPIC)
        produce(broker, topic, sent)
    wait_given_up(broker, others[0])
    assert all(len(segments(broker, topic)) > 1 for topic in refused)
    s3.fault = None
    for topic in (*refused, *others):
        wait_given_up(broker, topic)
        assert consumed(broker, topic, len(sent)) == sent


def flipped(chance: random.Random, body: bytes) -> bytes:
    place = chance.randrange(len(body))
    return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


@pytest.mark.parametrize(
    "lie",
    [flipped, lambda _, body: body[:-1], lambda _, body: body + b"x", lambda _, body: body[::-1]],
    ids=["another bit", "one byte less", "one byte more", "another order"],
)
def test_what_is_not_what_was_stored_is_never_served(
    make_broker: MakeBroker,
    s3: FaultyStore,
    topic_name: str,
    lie: Callable[[random.Random, bytes], bytes],
) -> None:
    broker, sent = make_broker(settings=settings(f"s3://{BUCKET}/tiers/{topic_name}")), values()
    tiered(broker, topic_name, sent)
    # so that nothing of it is in memory
    broker.kill()
    chance = random.Random(7)

    def lies(method: str, key: str, status: int, body: bytes) -> tuple[int, bytes, int]:
        if method == "GET" and status in (200, 206) and body and key.startswith("tiers/"):
            body = lie(chance, body)
        return status, body, len(body)

    s3.fault = lies
    broker.start()
    assert consumed(broker, topic_name, 1, seconds=4) == []
    assert "could not be read" in broker.log()
    s3.fault = None
    check_all_there(broker, topic_name, sent)


def test_a_store_that_never_answers_keeps_nobody_from_the_disk(
    make_broker: MakeBroker, s3: FaultyStore, topic_name: str
) -> None:
    broker, sent = make_broker(settings=settings(f"s3://{BUCKET}/tiers/{topic_name}")), values()
    half = len(sent) // 2
    tiered(broker, topic_name, sent[:half])
    local = offset(broker, topic_name, EARLIEST_LOCAL)
    s3.goes_on.clear()
    began = time.monotonic()
    options = {"bootstrap.servers": broker.bootstrap, "linger.ms": 5, "batch.size": 60_000}
    producer = Producer({**options, "acks": "all"})
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": "disk", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic_name, 0, local)])
    # somebody waits for what only the store has meanwhile
    waiting = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": "store", "enable.auto.commit": False}
    )
    waiting.assign([TopicPartition(topic_name, 0, 0)])
    try:
        found: list[bytes | None] = []
        for value in sent[half:]:
            producer.produce(topic_name, value, partition=0)
            assert waiting.poll(0) is None
        assert producer.flush(SECONDS_WITHOUT_STORE) == 0
        while len(found) < len(sent) - local:
            assert time.monotonic() < began + SECONDS_WITHOUT_STORE, f"{len(found)} records came"
            found += [it.value() for it in consumer.consume(500, timeout=0.2) if it.error() is None]
        assert found == sent[local:]
        assert not s3.goes_on.is_set()
        # and who waited gets it when the store answers
        s3.goes_on.set()
        message = waiting.poll(60)
        assert message is not None
        assert (message.offset(), message.value()) == (0, sent[0])
    finally:
        s3.goes_on.set()
        consumer.close()
        waiting.close()


def test_a_store_that_replaces_what_is_only_to_be_made_is_not_used(
    make_broker: MakeBroker, s3: FaultyStore, server: ObjectStore, topic_name: str
) -> None:
    prefix = f"tiers/{topic_name}"
    broker, sent = make_broker(settings=settings(f"s3://{BUCKET}/{prefix}")), values()
    create_topic(broker.bootstrap, topic_name, config=TOPIC)
    s3.ignores_conditions = True
    produce(broker, topic_name, sent)
    wait_until("the broker says so", lambda: "If-None-Match" in broker.log(), seconds=30)
    assert len(segments(broker, topic_name)) > 5, "something went from the disk that no manifest names"
    assert not [key for key in server.keys(prefix) if "manifest-" in key]
    s3.ignores_conditions = False
    wait_given_up(broker, topic_name, 90)
    check_all_there(broker, topic_name, sent)
    # by which it was tried; the name has no other use
    assert [key for key in server.keys(prefix) if "probe" in key] == [f"{prefix}/fastlog-probe"]


def test_a_store_that_is_slow_is_asked_about_many_topics_at_a_time(
    make_broker: MakeBroker, s3: FaultyStore, topic_name: str
) -> None:
    broker, sent = make_broker(settings=settings(f"s3://{BUCKET}/tiers/{topic_name}")), values()[:300]
    topics = [f"{topic_name}-{it}" for it in range(6)]

    def deny(method: str, key: str, status: int, body: bytes) -> tuple[int, bytes, int]:
        # what tells which store it is comes, else nothing is begun
        if "/fastlog-" not in key:
            status, body = 403, DENIED
        return status, body, len(body)

    s3.fault = deny
    for topic in topics:
        create_topic(broker.bootstrap, topic, config=TOPIC)
        produce(broker, topic, sent)

    def all_wait() -> bool:
        before = len(s3.requests)
        # none of them is answered from now on; of a turn that has begun some were
        s3.goes_on.clear()
        deadline = time.monotonic() + 3
        while len(s3.requests) < before + len(topics):
            if time.monotonic() > deadline:
                s3.goes_on.set()
                return False
            time.sleep(0.01)
        return True

    wait_until("all wait for the store at once", all_wait, seconds=30)
    s3.fault = None
    s3.goes_on.set()
    for topic in topics:
        wait_given_up(broker, topic)
        assert consumed(broker, topic, len(sent)) == sent
