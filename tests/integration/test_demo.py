"""The demo of `make demo`, on a small file, and that it notices a difference."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.flights.__main__ import SILENCE_SECONDS, report, tally_of

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


def test_a_consumer_is_not_made_to_wait_for_records_that_there_are_not(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n1,2\n3,4\n")
    done = demo(str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    (seconds,) = re.findall(r"confluent-kafka +2 records in +([\d.]+) s", done.stdout)
    assert float(seconds) < SILENCE_SECONDS


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("rows.csv", None, "No such file"),
        ("rows.csv", "", "there are no rows in it"),
        ("rows.csv", "a,b\n1,2\n", "row 1 has no column 'color'; it has a, b"),
        ("rows.jsonl", '{"color": 1}\nnot JSON\n', "line 2 is not JSON"),
        ("rows.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("rows.zip", "no archive", "not a zip file"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    done = demo(str(file), "--key", "color")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"demo: reading {file}: ")
    assert said in line


def test_a_difference_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    sent = tally_of([(b"a", b"1"), (b"a", b"2"), (b"b", b"3")])
    changed = tally_of([(b"a", b"1"), (b"a", b"!"), (b"b", b"3")])
    assert report(sent, sent, changed) == 1
    assert "DIFFERS" in capsys.readouterr().out
