"""`fastlog log dump` reads a partition's files without a broker and says what is wrong with them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from fastlog.cli import group
from tests.support.wire import Batch, crc32c, record

NAME = f"{0:020}"


def batch(base_offset: int, *values: bytes) -> bytes:
    """A batch as it lies on disk: the base offset is outside the checksum."""
    data = Batch(records=[record(delta, value, b"k") for delta, value in enumerate(values)]).encode()
    return struct.pack(">q", base_offset) + data[8:]


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    """Two batches, their indexes (one preallocated), a snapshot of one producer."""
    folder = tmp_path / "flights-3"
    folder.mkdir()
    first, second = batch(0, b"a", b"b", b"c"), batch(3, b"\xff", b"e")
    (folder / f"{NAME}.log").write_bytes(first + second)
    (folder / f"{NAME}.index").write_bytes(struct.pack(">ii", 4, len(first)) + bytes(80))
    (folder / f"{NAME}.timeindex").write_bytes(struct.pack(">qi", 1_760_000_000_000, 4))
    body = struct.pack(">iqhiqiqiq", 1, 77, 0, 4, 4, 4, 1_760_000_000_000, -1, -1)
    (folder / f"{NAME[:-1]}5.snapshot").write_bytes(struct.pack(">hI", 1, crc32c(body)) + body)
    (folder / "leader-epoch-checkpoint").write_text("0\n1\n0 0\n")
    return folder


def findings(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, object]]]:
    status = group.run(["log", "dump", "--json", str(path)])
    files = json.loads(capsys.readouterr().out)["files"]
    return status, {Path(finding["file"]).suffix: finding for finding in files}


def test_a_whole_partition_is_in_order(partition: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = findings(partition, capsys)
    assert status == 0
    assert found[".log"]["counts"] == {"batches": 2, "records": 5, "first_offset": 0, "last_offset": 4}
    assert found[".index"]["counts"] == {"entries": 1}
    assert found[".timeindex"]["counts"] == {"entries": 1}
    assert found[".snapshot"]["counts"] == {"producers": 1, "entries": 1}


def test_records_are_json_lines(partition: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert group.run(["log", "dump", "--records", str(partition)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["offset"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["value"] for row in rows] == ["a", "b", "c", {"base64": "/w=="}, "e"]
    assert {(row["topic"], row["partition"], row["key"]) for row in rows} == {("flights", 3, "k")}


def test_batches_and_entries_are_shown(partition: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert group.run(["log", "dump", "--batches", "--entries", str(partition)]) == 0
    out = capsys.readouterr().out
    assert "offsets 0..2 count 3" in out
    assert "offset 4 position" in out
    assert "producer_id 77" in out


def damage(file: Path, position: int, data: bytes) -> None:
    whole = bytearray(file.read_bytes())
    whole[position : position + len(data)] = data
    file.write_bytes(whole)


def test_a_flipped_byte_is_found(partition: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(partition / f"{NAME}.log", 65, b"!")
    status, found = findings(partition, capsys)
    assert status == 1
    (problem,) = found[".log"]["problems"]
    assert problem.startswith("position 0, offset 0: checksum ")


def test_a_torn_tail_is_found(partition: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = partition / f"{NAME}.log"
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    status, found = findings(file, capsys)
    assert status == 1
    assert found[".log"]["counts"]["batches"] == 1
    assert "is cut after" in found[".log"]["problems"][0]


def test_an_index_that_points_beside_a_batch_is_found(
    partition: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(partition / f"{NAME}.index", 4, struct.pack(">i", 7))
    status, found = findings(partition, capsys)
    assert status == 1
    assert "no batch with it at position 7" in found[".index"]["problems"][0]


def test_a_cut_snapshot_is_found(partition: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = partition / f"{NAME[:-1]}5.snapshot"
    file.write_bytes(file.read_bytes()[:-1])
    assert findings(file, capsys)[0] == 1
    file.write_bytes(b"\0")
    assert findings(file, capsys)[0] == 1


def test_a_directory_without_a_log_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert group.run(["log", "dump", str(tmp_path)]) == 1
    assert "name a partition's directory" in capsys.readouterr().err


def test_a_path_that_does_not_exist_is_used_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    assert group.run(["log", "dump", "/nowhere/at/all"]) == 2
    assert "/nowhere/at/all" in capsys.readouterr().err


def test_records_before_and_behind_a_flipped_byte_are_shown(
    partition: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(partition / f"{NAME}.log", 65, b"!")
    assert group.run(["log", "dump", "--records", str(partition)]) == 1
    captured = capsys.readouterr()
    assert [json.loads(line)["offset"] for line in captured.out.splitlines()] == [3, 4]
    assert f"{NAME}.log" in captured.err
    assert captured.err.count("checksum") == 1


def test_a_segment_under_another_name_is_refused_in_one_line(
    partition: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = (partition / f"{NAME}.log").rename(partition / "copy.log")
    assert group.run(["log", "dump", str(file)]) == 1
    assert capsys.readouterr().err == (
        f"fastlog: reading {file}: it is not named by its first offset, as {NAME}.log is; give it that name\n"
    )
