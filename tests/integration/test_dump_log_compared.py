"""What Kafka's dump tool says of a log that Apache Kafka wrote and of one that fastlog wrote, of the same batches."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest

from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from tests.integration.kafka import dump_log
from tests.integration.kafka.server import KafkaServer
from tests.support.batches import CODECS, Row, seal, with_fields
from tests.support.broker import BrokerProcess
from tests.support.pair import Pair

TOPIC = "dumped"
IDEMPOTENT, OTHER_IDEMPOTENT = 4_711, 4_712
# Kafka forgets at once whoever writes records that are older than producer.id.expiration.ms
BEGAN_MS = int(time.time() * 1_000)
pytestmark = pytest.mark.timeout(300)


def rows(number: int, chances: random.Random) -> list[Row]:
    """Records with and without keys, values and headers; their times grow."""
    at = BEGAN_MS + 10 * number
    return [
        (at, b"key", b"value", ()),
        (at + 1, b"key", None, ()),
        (at + 2, None, "ä€".encode(), (("header", b"\x00\xff"), ("none", None))),
        (at + 3, b"", b"", ()),
        (at + 4, b"noise", chances.randbytes(40_000), ()),
    ]


def batches() -> list[bytes]:
    """Some of each codec, and some of idempotent producers."""
    chances = random.Random(5)
    made, sequences = [], {IDEMPOTENT: 0, OTHER_IDEMPOTENT: 2**31 - 3}
    for number in range(80):
        records = rows(number, chances)
        batch = seal(records, list(CODECS.values())[number % len(CODECS)])
        if number % 4 == 1:
            producer_id = chances.choice(list(sequences))
            sequence = sequences[producer_id]
            batch = with_fields(batch, producer_id=producer_id, producer_epoch=3, base_sequence=sequence)
            sequences[producer_id] = (sequence + len(records)) % 2**31
        made.append(batch)
    return made


@pytest.fixture(scope="module")
def partitions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The partition's directory of a Kafka and of a fastlog that were stopped."""
    kafka = KafkaServer(tmp_path_factory.mktemp("kafka"))
    ours = BrokerProcess(tmp_path_factory.mktemp("dump") / "data").start()
    pair = Pair(kafka.port, ours.tcp_port)
    pair.topic(TOPIC, 1, {"segment.bytes": str(1 << 20), "index.interval.bytes": "100000"})
    for batch in batches():
        data = [PartitionProduceData(0, batch)]
        pair.same(ProduceRequest(None, -1, 30_000, [TopicProduceData(name=TOPIC, partition_data=data)]), 9)
    pair.close()
    kafka.stop(cleanly=True)
    assert ours.stop() == 0, ours.log()
    return kafka.data_dir / f"{TOPIC}-0", ours.data_dir / f"{TOPIC}-0"


def said(partitions: tuple[Path, Path], pattern: str, *options: str) -> list[str]:
    """What the tool says of the files of a kind, of which both have the same ones."""
    files = [sorted(it.glob(pattern)) for it in partitions]
    assert [it.name for it in files[0]] == [it.name for it in files[1]]
    return [
        dump_log(*some, options=options).replace(str(partition), "{partition}")
        for some, partition in zip(files, partitions, strict=True)
    ]


def same(partitions: tuple[Path, Path], pattern: str, *options: str) -> str:
    """Asserts that the tool says the same of the files of a kind; what it says."""
    kafka, ours = said(partitions, pattern, *options)
    assert kafka.splitlines() == ours.splitlines()
    return ours


def producers(dump: str) -> dict[tuple[str, str], str]:
    """The last row of each producer in each snapshot, which is the one that Kafka keeps."""
    rows, file = {}, ""
    for line in dump.splitlines():
        if line.startswith("Dumping "):
            file = line
        else:
            rows[file, line.split()[1]] = re.sub(r"(?<=imestamp: )\d+", "…", line)
    return rows


@pytest.mark.parametrize(
    "options",
    [[], ["--deep-iteration"], ["--print-data-log"], ["--skip-record-metadata", "--print-data-log"]],
    ids=str,
)
def test_segments(partitions: tuple[Path, Path], options: list[str]) -> None:
    told = same(partitions, "*.log", *options)
    assert told.count("Log starting offset: ") >= 3
    assert told.count("baseOffset: ") == len(batches())
    assert ("payload: value" in told) == ("--print-data-log" in options)


@pytest.mark.parametrize("options", [[], ["--index-sanity-check"], ["--verify-index-only"]], ids=str)
@pytest.mark.parametrize("pattern", ["*.index", "*.timeindex"])
def test_indexes(partitions: tuple[Path, Path], pattern: str, options: list[str]) -> None:
    told = same(partitions, pattern, *options)
    if not options:
        assert len(re.findall("^(timestamp|offset): ", told, re.MULTILINE)) > 10


def test_producers(partitions: tuple[Path, Path]) -> None:
    # ours tell of five batches of a producer, and when it wrote last by the broker's clock (docs/log.md)
    kafka, ours = (producers(it) for it in said(partitions, "*.snapshot"))
    assert kafka == ours
    assert {producer for _, producer in ours} == {str(IDEMPOTENT), str(OTHER_IDEMPOTENT)}


def test_records_are_the_same_bytes(partitions: tuple[Path, Path]) -> None:
    kafka, ours = (b"".join(it.read_bytes() for it in sorted(each.glob("*.log"))) for each in partitions)
    assert kafka == ours
