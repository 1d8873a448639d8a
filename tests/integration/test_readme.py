"""What README.md shows works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import MakeBroker
from tests.support.cli import fastlog

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_producer_and_consumer(make_broker: MakeBroker, tmp_path: Path) -> None:
    broker = make_broker()
    producer, consumer = (block.replace("127.0.0.1:9092", broker.bootstrap) for block in blocks("python"))
    for name, program in (("producer", producer), ("consumer", consumer)):
        file = tmp_path / f"{name}.py"
        file.write_text(program)
        done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert lines == sorted(f"0 {number} {f'hello {number}'.encode()}" for number in range(10))


def test_commands(make_broker: MakeBroker, tmp_path: Path) -> None:
    broker = make_broker()
    (tmp_path / "flights.txt").write_text("UA:1545\nDL:461\n")
    commands = [
        line for block in blocks("console") for line in block.splitlines() if line.startswith("fastlog ")
    ]
    assert len(commands) == 8
    seen = {}
    for line in commands[1:]:
        words = line.split()[1:]
        source = b""
        if "<" in words:
            source = (tmp_path / words[words.index("<") + 1]).read_bytes()
            words = words[: words.index("<")]
        where = [] if words[0] == "log" else ["--bootstrap", broker.bootstrap]
        places = {"./data/flights-0": broker.data_dir / "flights-0", "./backups": tmp_path / "backups"}
        words = [str(places.get(word, word)) for word in words]
        done = fastlog(*words, *where, stdin=source)
        assert done.status == 0, f"{line}: {done.err}"
        seen[words[0]] = done
    assert {(row["key"], row["value"]) for row in seen["consume"].rows()} == {("UA", "1545"), ("DL", "461")}


def test_every_make_target_named_in_the_papers_exists() -> None:
    papers = README + (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    # as code, in a line or a block of it: prose may make what it likes
    named = set(re.findall(r"(?:^|`)make (?:-k )?([a-z][a-z-]+)", papers, re.MULTILINE))
    assert {"build", "run", "test", "check", "demo"} <= named
    assert named <= targets
