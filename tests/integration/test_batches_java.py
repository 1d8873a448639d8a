"""Kafka's Java classes read our batches, and we read theirs, in every codec."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastlog.native import _engine
from fastlog.native._records import RecordBatch
from tests.integration.kafka import tool
from tests.support.batches import CODECS, NOW_MS, Row, seal

SOURCE = Path(__file__).parent / "kafka" / "Batches.java"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a batch of Java's in each codec."""
    folder = tmp_path_factory.mktemp("java")
    tool(str(SOURCE), "write", str(folder))
    return folder


def rows() -> list[Row]:
    """What Batches.java writes."""
    return [
        (
            NOW_MS + at % 11,
            b"key-%d" % at if at % 3 else None,
            (b"value-%d-" % at) * 8 if at % 5 else None,
            (("h", b"\x01"), ("h", None)) if at % 7 == 0 else (),
        )
        for at in range(3000)
    ]


def line(offset: int, row: Row) -> str:
    timestamp, key, value, headers = row
    data = ["-" if data is None else f"x{data.hex()}" for data in (key, value)]
    pairs = [f"{name}={'-' if data is None else data.hex()}" for name, data in headers]
    return " ".join([str(offset), str(timestamp), *data, *pairs])


@pytest.mark.parametrize("codec", CODECS)
def test_java_reads_what_we_write(codec: str, tmp_path: Path) -> None:
    batch = seal(rows(), CODECS[codec])
    (tmp_path / "batch").write_bytes(batch)
    assert tool(str(SOURCE), "read", str(tmp_path / "batch")).splitlines() == [
        line(*row) for row in enumerate(rows())
    ]


@pytest.mark.parametrize("codec", CODECS)
def test_we_read_and_accept_what_java_writes(codec: str, written: Path) -> None:
    batch = (written / codec).read_bytes()
    assert _engine.validate_batch(batch, now_ms=NOW_MS) == NOW_MS + 10
    assert batch[22] & 7 == CODECS[codec]
    records = RecordBatch(_engine.open_batch(batch))
    found = [(one.timestamp_ms, one.key, one.value, one.headers) for one in records]
    assert found == rows()
    # uncompressed the two are the same bytes but for the producer's defaults
    if codec == "none":
        assert seal(rows())[61:] == batch[61:]
