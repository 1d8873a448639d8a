"""The demo of `make demo`, on a small file, and that it notices a difference."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.flights.__main__ import report, tally_of

ROOT = Path(__file__).resolve().parents[2]


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.flights", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)


def test_a_csv_goes_in_and_comes_out(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(
        "number,color\n" + "".join(f"{i},{('red', 'green', 'blue')[i % 3]}\n" for i in range(3000))
    )
    done = demo(str(file), "--key", "color")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all counts and checksums agree" in done.stdout
    assert "green             1,000      1,000      1,000" in done.stdout


def test_json_lines_too(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"id": {i % 10}, "text": "wért"}}\n' for i in range(100)))
    done = demo(str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_difference_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    sent = tally_of([(b"a", b"1"), (b"a", b"2"), (b"b", b"3")])
    changed = tally_of([(b"a", b"1"), (b"a", b"!"), (b"b", b"3")])
    assert report(sent, sent, changed) == 1
    assert "DIFFERS" in capsys.readouterr().out
