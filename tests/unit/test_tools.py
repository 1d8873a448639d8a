"""The project's own gates: what they must catch, they catch."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tidy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load("tidy")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def write(root: Path, name: str, text: str) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return Path(name)


def test_tidy_refuses_a_long_function(tidy: ModuleType, tmp_path: Path) -> None:
    body = "".join(f"    x{i} = {i}\n" for i in range(70))
    (complaint,) = tidy.complaints(write(tmp_path, "a.py", f"def f():\n{body}"))
    assert complaint == "a.py:1: f has 71 lines, over 70"


def test_tidy_refuses_a_long_file_unless_a_program_wrote_it(tidy: ModuleType, tmp_path: Path) -> None:
    text = "x = 1\n" * 601
    assert tidy.complaints(write(tmp_path, "a.rs", text)) == ["a.rs: 601 lines, over 600"]
    assert tidy.complaints(write(tmp_path, "b.rs", "// Generated: do not edit.\n" + text)) == []


@pytest.mark.parametrize("leftover", ["# TO" + "DO: later", "to" + "do!()", "# FIX" + "ME"])
def test_tidy_refuses_leftovers(tidy: ModuleType, tmp_path: Path, leftover: str) -> None:
    (complaint,) = tidy.complaints(write(tmp_path, "a.rs", leftover + "\n"))
    assert complaint.startswith("a.rs:1: ")


@pytest.mark.parametrize(
    "text",
    [
        "from fastlog.native._engine import Engine\n",
        "def f():\n    from fastlog.native import _records\n",
        "import fastlog.native._engine\n",
        "if TYPE_CHECKING:\n    x = 1\nelse:\n    import fastlog.native._engine\n",
    ],
)
def test_tidy_refuses_an_import_of_a_compiled_module(tidy: ModuleType, tmp_path: Path, text: str) -> None:
    (complaint,) = tidy.complaints(write(tmp_path, "fastlog/cluster/a.py", text))
    assert complaint.startswith(f"fastlog/cluster/a.py:{text.count(chr(10))}: fastlog.native._")
    assert tidy.complaints(write(tmp_path, "fastlog/client/a.py", text)) == []
    assert tidy.complaints(write(tmp_path, "tests/a.py", text)) == []


def test_tidy_lets_types_come_from_anywhere(tidy: ModuleType, tmp_path: Path) -> None:
    text = "if TYPE_CHECKING:\n    from fastlog.native._engine import Engine\n"
    assert tidy.complaints(write(tmp_path, "fastlog/cluster/a.py", text)) == []


def test_lock_check_refuses_an_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lock = load("lock")
    assert lock.check() == 0
    bad = tmp_path / "dev.lock"
    bad.write_text("--index-url https://example.org/simple\n" + lock.DEV.read_text())
    monkeypatch.setattr(lock, "DEV", bad)
    assert lock.check() == 1


def test_lock_check_refuses_a_version_outside_the_range_and_a_missing_hash(tmp_path: Path) -> None:
    lock = load("lock")
    old = tmp_path / "old.lock"
    old.write_text("click==7.0\n")
    complaints = lock.misfits(["click>=8", "rich>=15"], old)
    assert [c.split(" ", 1)[1] for c in complaints] == [
        "pins click 7.0, asked for is click>=8",
        "does not pin rich",
        "has no hash for click==7.0",
    ]


def test_timed_passes_the_status_on_and_says_the_budget() -> None:
    command = [
        sys.executable,
        ROOT / "tools/timed.py",
        "x",
        "10",
        sys.executable,
        "-c",
        "raise SystemExit(3)",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    assert run.returncode == 3
    assert "of 10 s  FAILED (3)" in run.stdout


def test_a_missing_tool_is_one_line() -> None:
    run = subprocess.run(
        ["/bin/sh", ROOT / "tools/tools.sh"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/nowhere"},
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert "Python 3.11" in run.stderr


def test_an_old_rust_is_one_line(tmp_path: Path) -> None:
    for name, text in {"cc": "", "cargo": "", "rustc": "echo rustc 1.80.1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": str(tmp_path), "PYTHON": sys.executable}
    run = subprocess.run(
        ["/bin/sh", ROOT / "tools/tools.sh"], capture_output=True, text=True, check=False, env=env
    )
    assert run.returncode == 1
    assert run.stderr.startswith(
        "fastlog: building needs Rust 1.89 or newer with Cargo, and this is rustc 1.80.1."
    )
    assert run.stderr.count("\n") == 1


def test_fuzz_runs_every_target_of_the_crate_and_finds_its_folders() -> None:
    names = load("fuzz").targets()
    files = {path.stem for path in (ROOT / "rust/fuzz/src/targets").glob("*.rs")}
    assert set(names) == files - {"mod", "table"}
    assert {path.name for path in (ROOT / "rust/fuzz/regressions").iterdir()} <= set(names)


def test_fuzz_tells_of_a_finding_what_it_was_where_it_lies_and_how_to_see_it_again() -> None:
    output = "#9\tNEW cov: 7 ft: 9 corp: 3/40b\npanicked at x.rs:1\nTest unit written to /w/frame/crash-1\n"
    module = load("fuzz")
    outcome = module.Outcome(target="frame", seconds=20, output=output, status=77)
    assert outcome.line().split() == [
        *("fuzz", "frame", "20", "s", "0", "executions", "0/s"),
        *("corpus", "3", "(40b)", "edges", "7", "FAILED"),
    ]
    finding = outcome.finding()
    assert "panicked at x.rs:1" in finding
    assert "make fuzz-replay TARGET=frame FILE=/w/frame/crash-1" in finding
    died = module.Outcome(target="frame", seconds=20, output="out of memory\n", status=-9)
    assert died.finding() == "out of memory\nfuzz: frame ended with status -9 and left no input"
