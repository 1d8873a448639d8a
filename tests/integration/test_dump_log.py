"""Kafka's own dump tool reads our segments, indexes and snapshots without complaint."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.conftest import MakeBroker
from tests.integration.kafka import dump_log
from tests.support.admin import create_topic
from tests.support.clients import aio, confluent, pure
from tests.support.samples import BASE_TIMESTAMP_MS, COMPRESSIONS, Sample, samples

ROUNDS = 12
COMPLAINTS = ("mismatch", "invalid", "corrupt", "could not", "exception", "not found", "non-consecutive")


def complaints(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if any(word in line.lower() for word in COMPLAINTS)]
    # each batch line says "isvalid: true"; only the opposite is a complaint
    return [line for line in lines if "isvalid: true" not in line]


@pytest.fixture(scope="module")
def partition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A partition directory of a stopped broker: several segments, all clients, all compressions."""
    from tests.support.broker import BrokerProcess

    broker = BrokerProcess(tmp_path_factory.mktemp("dump") / "data").start()
    config = {"segment.bytes": str(1 << 20), "index.interval.bytes": "4096"}
    create_topic(broker.bootstrap, "dumped", config=config)
    # what does not compress, so that every codec fills segments
    sent = [*samples(149), Sample(b"noise", random.Random(7).randbytes(200_000), (), BASE_TIMESTAMP_MS)]
    for number in range(ROUNDS):
        writer = (confluent, aio, pure)[number % 3]
        writer.produce(broker.bootstrap, "dumped", sent, COMPRESSIONS[number % len(COMPRESSIONS)])
    assert broker.stop() == 0, broker.log()
    return broker.data_dir / "dumped-0"


@pytest.mark.timeout(120)
def test_segments_are_deep_checked(partition: Path) -> None:
    logs = sorted(partition.glob("*.log"))
    assert len(logs) >= 2
    text = dump_log(*logs)
    assert complaints(text) == []
    offsets = [int(number) for number in re.findall(r"^\| offset: (\d+)", text, re.MULTILINE)]
    assert offsets == list(range(ROUNDS * 150))


@pytest.mark.timeout(120)
def test_indexes_agree_with_their_segments(partition: Path) -> None:
    indexes = sorted([*partition.glob("*.index"), *partition.glob("*.timeindex")])
    assert len(indexes) >= 4
    assert complaints(dump_log(*indexes)) == []
    sane = dump_log(*indexes, options=("--index-sanity-check",))
    assert sane.count("passed sanity check") == len(indexes), sane


@pytest.mark.timeout(120)
def test_producer_snapshots_are_read(partition: Path) -> None:
    snapshots = sorted(partition.glob("*.snapshot"))
    assert snapshots, sorted(file.name for file in partition.iterdir())
    text = dump_log(*snapshots)
    assert complaints(text) == []
    assert "producerId:" in text


@pytest.mark.timeout(120)
def test_a_log_that_was_cut_by_kill_9_is_whole_after_recovery(make_broker: MakeBroker) -> None:
    broker = make_broker()
    create_topic(broker.bootstrap, "killed")
    confluent.produce(broker.bootstrap, "killed", samples(), "lz4")
    broker.kill()
    segment = broker.data_dir / "killed-0" / f"{0:020}.log"
    with segment.open("ab") as file:
        file.write(b"\0\0\0\0\0\0\0\xc8\0\0\x40\0torn")
    broker.start()
    confluent.produce(broker.bootstrap, "killed", samples(), "zstd")
    assert broker.stop() == 0
    text = dump_log(segment)
    assert complaints(text) == []
    assert len(re.findall(r"^\| offset:", text, re.MULTILINE)) == 400
