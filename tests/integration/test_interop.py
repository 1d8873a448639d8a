"""Other people's clients: each reads what each wrote, in every compression."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import ModuleType

import pytest

from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess
from tests.support.clients import aio, confluent, java, kcat, pure
from tests.support.samples import COMPRESSIONS, Sample, samples, text_samples

# clients that carry any bytes and set the time; the others are line-based tools
LIBRARIES = (confluent, aio, pure)
TOOLS = (kcat, java)


def name_of(value: object) -> str:
    return value.__name__.rsplit(".", 1)[-1] if isinstance(value, ModuleType) else str(value)


def without_timestamps(records: Iterable[Sample]) -> list[Sample]:
    return [record.without_timestamp() for record in records]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("writer", LIBRARIES, ids=name_of)
def test_libraries_read_what_a_library_wrote(
    broker: BrokerProcess, topic_name: str, writer: ModuleType, compression: str
) -> None:
    create_topic(broker.bootstrap, topic_name)
    sent = samples()
    writer.produce(broker.bootstrap, topic_name, sent, compression)
    for reader in LIBRARIES:
        assert reader.consume(broker.bootstrap, topic_name, len(sent)) == sent, name_of(reader)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_libraries_and_kcat_read_what_kcat_wrote(
    broker: BrokerProcess, topic_name: str, compression: str
) -> None:
    create_topic(broker.bootstrap, topic_name)
    sent = text_samples()
    before = int(time.time() * 1000)
    kcat.produce(broker.bootstrap, topic_name, sent, compression)
    after = int(time.time() * 1000)
    for reader in (*LIBRARIES, kcat):
        got = reader.consume(broker.bootstrap, topic_name, len(sent))
        assert without_timestamps(got) == sent, name_of(reader)
        assert all(before <= (record.timestamp_ms or 0) <= after for record in got), name_of(reader)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_java_and_others_read_each_other(broker: BrokerProcess, topic_name: str, compression: str) -> None:
    create_topic(broker.bootstrap, topic_name)
    sent = text_samples()
    java.produce(broker.bootstrap, topic_name, sent, compression)
    confluent.produce(broker.bootstrap, topic_name, sent, compression)
    for reader in (*LIBRARIES, *TOOLS):
        got = reader.consume(broker.bootstrap, topic_name, 2 * len(sent))
        assert without_timestamps(got) == sent + sent, name_of(reader)


@pytest.mark.parametrize("writer", LIBRARIES, ids=name_of)
def test_idempotence_off_is_served_too(broker: BrokerProcess, topic_name: str, writer: ModuleType) -> None:
    create_topic(broker.bootstrap, topic_name)
    sent = samples(50)
    writer.produce(broker.bootstrap, topic_name, sent, "none", idempotent=False)
    assert confluent.consume(broker.bootstrap, topic_name, 50) == sent


@pytest.mark.parametrize("reader", [*LIBRARIES, kcat], ids=name_of)
def test_reading_starts_in_the_middle_of_a_batch(
    broker: BrokerProcess, topic_name: str, reader: ModuleType
) -> None:
    create_topic(broker.bootstrap, topic_name)
    sent = text_samples(60)
    confluent.produce(broker.bootstrap, topic_name, sent, "zstd")
    got = reader.consume(broker.bootstrap, topic_name, 23, offset=37)
    assert without_timestamps(got) == sent[37:]
