"""`fastlog bench soak`: ten seconds of it, a minute in the long form, and what it says when something breaks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeBroker
from tests.integration.test_bench import processes_below
from tests.support.broker import PROGRAM, wait_until
from tests.unit.bench.test_result import KEYS


def soak(*arguments: str, seconds: float) -> tuple[int, list[dict[str, Any]], str]:
    command = [PROGRAM, "bench", "soak", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def check(rows: list[dict[str, Any]], records: int) -> dict[str, Any]:
    """What holds for each soak that passed."""
    *windows, total = rows
    assert [row["name"] for row in rows] == ["soak.window"] * len(windows) + ["soak"]
    assert all(list(row)[: len(KEYS)] == KEYS and list(row)[-1] == "settings" for row in rows)
    assert sum(row["records"] for row in windows) == records
    assert (total["passed"], total["problems"]) == (True, [])
    assert total["records"] == total["online_records"] == total["batch_records"] == records
    assert total["rewinding_records"] > 0
    assert total["rewinding_cold_passes"] >= total["rewinding_passes"] >= 2
    assert total["compacted_passes"] >= 2
    assert total["compacted_kept"] <= total["compacted_written"] == records // 10
    assert total["batch_batches"] >= 2
    assert total["deleted_records"] > 0
    assert 0 < total["p50_ms"] <= total["p99_ms"]
    return total


def test_ten_seconds(tmp_path: Path) -> None:
    arguments = ("--rate", "2000", "--size", "1000", "--partitions", "1", "--directory", str(tmp_path))
    status, rows, errors = soak("--minutes", "0.16", *arguments, seconds=55)
    assert status == 0, errors
    total = check(rows, records=2000 * 96 // 10)
    assert total["rss_growth"] is None, "a warm-up says nothing of growth"
    assert list(tmp_path.iterdir()) == []
    assert processes_below(tmp_path) == []


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_minute_without_growth(tmp_path: Path) -> None:
    status, rows, errors = soak("--minutes", "1", "--directory", str(tmp_path), seconds=200)
    assert status == 0, errors
    total = check(rows, records=600_000)
    assert total["compacted_kept"] < total["compacted_written"], "the cleaner took nothing"
    assert total["rss_growth"] <= 1.05
    assert total["descriptors_growth"] <= 1.05


def test_a_broker_that_dies_ends_the_soak_with_a_reason(tmp_path: Path) -> None:
    """Its own broker; nothing may be left although the broker did not end by itself."""
    command = [PROGRAM, "bench", "soak", "--minutes", "5", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until("the broker runs", lambda: broker_of(tmp_path) is not None, seconds=20)
        wait_until("records come", lambda: has_records(tmp_path), seconds=20)
        subprocess.run(["kill", "-9", str(broker_of(tmp_path))], check=True)
        out, err = process.communicate(timeout=50)
    assert process.returncode == 1, out
    assert "broker has ended by itself" in err
    assert processes_below(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def has_records(directory: Path) -> bool:
    """Whether a partition below a directory has any."""
    return any(path.stat().st_size for path in directory.rglob("fastlog-bench-*-0/*.log"))


def broker_of(directory: Path) -> int | None:
    """The broker below a directory."""
    found = [
        pid for pid in processes_below(directory) if b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return found[0] if found else None


def test_lost_records_are_found(make_broker: MakeBroker) -> None:
    """A cluster whose records are deleted under its consumers: they are too late, and say so."""
    from fastlog import Admin

    broker = make_broker()
    arguments = ("--minutes", "5", "--bootstrap", broker.bootstrap, "--json")
    command = [PROGRAM, "bench", "soak", *arguments]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        Admin(broker.bootstrap) as admin,
    ):
        wait_until("the topics are made", lambda: len(admin.list_topics()) == 2, seconds=20)
        names = [listing.name for listing in admin.list_topics()]
        # the compacted one has one partition
        (topic,) = [name for name in names if len(admin.describe_topic(name).partitions) == 2]
        place = (topic, 0)
        # the batch consumer comes back every twelve seconds; this is in between
        wait_until(
            "records come", lambda: admin.list_offsets({place: "latest"})[place].offset > 0, seconds=20
        )
        admin.delete_records({place: admin.list_offsets({place: "latest"})[place].offset})
        out, err = process.communicate(timeout=50)
    assert process.returncode == 1, err
    total = json.loads(out.splitlines()[-1])
    assert total["passed"] is False
    assert any(problem.startswith("batch consumer: ") for problem in total["problems"]), total["problems"]
    assert total["problems"][0] in err
