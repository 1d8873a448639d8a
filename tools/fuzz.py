"""Builds the fuzz targets of rust/fuzz and runs them, or one input of one of them again.

`fuzz.py run [--seconds N] [TARGET…]` runs targets for N seconds each, as many at a time as there are cores, and prints
a line for each: executions, their rate, the inputs that reach something of their own, the edges they reach. What it
learns stays in rust/target/fuzz-work for the next run. A finding fails it and is told with its stack, its file and the
command that runs it again, `fuzz.py replay TARGET FILE`.

libFuzzer drives the targets. They are built by the stable compiler: coverage comes from LLVM's own pass, which needs
no more than flags. Address checking would need a nightly one; unsafe code lies in rust/sys only.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CRATE = ROOT / "rust/fuzz"
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "rust/target"))
WORK = BUILT / "fuzz-work"
# the coverage that libFuzzer reads: a counter and an address for each edge, and the operands of comparisons
COVERAGE = (
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
)
TARGET_ROW = re.compile(r'Target \{ name: "(\w+)"')
# an input may take so long and the process hold so much
INPUT_SECONDS = 10
RSS_MIB = 1024
INPUT_BYTES_MAX = 8192
# of the output of a failed run: what precedes it is libFuzzer's progress
TAIL_LINES = 80


class Outcome(NamedTuple):
    """What one target did."""

    target: str
    seconds: int
    output: str
    status: int

    def line(self) -> str:
        """The line that is printed about it."""
        found = re.findall(r"cov: (\d+) ft: \d+ corp: (\d+)/(\S+)", self.output)
        edges, inputs, size = found[-1] if found else ("?", "?", "?")
        executions = re.search(r"stat::number_of_executed_units:\s+(\d+)", self.output)
        count = int(executions.group(1)) if executions else 0
        verdict = "ok" if self.status == 0 else "FAILED"
        return (
            f"fuzz {self.target:<9} {self.seconds:4} s  {count:>9,} executions  {count // self.seconds:>6,}/s"
            f"  corpus {inputs} ({size})  edges {edges}  {verdict}"
        )

    def finding(self) -> str:
        """What went wrong, where the input lies, and how to see it again."""
        tail = "\n".join(self.output.splitlines()[-TAIL_LINES:])
        written = re.search(r"Test unit written to (\S+)", self.output)
        if written is None:
            return f"{tail}\nfuzz: {self.target} ended with status {self.status} and left no input"
        file = Path(written.group(1))
        return (
            f"{tail}\nfuzz: {self.target} found an input: {file}\n"
            f"  again: make fuzz-replay TARGET={self.target} FILE={file}\n"
            f"  keep it for `cargo test` with the mend: cp {file} rust/fuzz/regressions/{self.target}/"
        )


def targets() -> list[str]:
    """The names in the crate's own list."""
    return TARGET_ROW.findall((CRATE / "src/targets/mod.rs").read_text())


def build() -> Path:
    """Builds the program and answers where it is; raises CalledProcessError."""
    told = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    host = dict(line.split(": ", 1) for line in told.splitlines() if ": " in line)["host"]
    # with a target of its own the flags reach neither build scripts nor procedural macros
    command = ["cargo", "build", "--manifest-path", str(ROOT / "rust/Cargo.toml"), "--locked", "--quiet"]
    command += ["-p", "fastlog-fuzz", "--features", "link", "--profile", "fuzz", "--target", host]
    flags = " ".join(COVERAGE)
    environment = {**os.environ, "RUSTFLAGS": flags, "CARGO_TARGET_DIR": str(BUILT)}
    subprocess.run(command, check=True, env=environment)
    return BUILT / host / "fuzz/fastlog-fuzz"


def invoke(program: Path, target: str, arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    """Starts the program on one target, its output to be read."""
    return subprocess.Popen(
        [str(program), *arguments],
        env={**os.environ, "FUZZ_TARGET": target, "RUST_BACKTRACE": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def fuzz(program: Path, target: str, seconds: int) -> Outcome:
    """Runs one target for so long, or until it finds something; blocks."""
    corpus, seeds, kept = WORK / target / "corpus", WORK / target / "seeds", CRATE / "regressions" / target
    for folder in (corpus, seeds):
        folder.mkdir(parents=True, exist_ok=True)
    arguments = [str(folder) for folder in (corpus, seeds, kept) if folder.is_dir()]
    arguments += [f"-max_total_time={seconds}", f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={RSS_MIB}"]
    arguments += [f"-dict={CRATE}/numbers.dict", f"-max_len={INPUT_BYTES_MAX}"]
    arguments += [f"-artifact_prefix={WORK / target}/", "-print_final_stats=1"]
    process = invoke(program, target, arguments, FUZZ_SEEDS=str(seeds))
    output, _ = process.communicate()
    return Outcome(target=target, seconds=seconds, output=output, status=process.returncode)


def run(chosen: list[str], seconds: int) -> int:
    """Runs the targets and prints what came of each; 1 where one found something."""
    program = build()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = []
        for outcome in pool.map(lambda target: fuzz(program, target, seconds), chosen):
            print(outcome.line(), flush=True)
            outcomes.append(outcome)
    failed = [outcome for outcome in outcomes if outcome.status != 0]
    for outcome in failed:
        print(outcome.finding(), flush=True)
    return int(bool(failed))


def replay(target: str, file: Path) -> int:
    """Runs one input again and prints what it does."""
    process = invoke(build(), target, [str(file)])
    output, _ = process.communicate()
    print(output, end="")
    return process.returncode


def main() -> int:
    """Does what the command line says."""
    names = targets()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="fuzz for some time")
    running.add_argument("--seconds", type=int, default=20, help="for each target")
    running.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(names)}; all without")
    again = commands.add_parser("replay", help="run one input again")
    again.add_argument("target", choices=names)
    again.add_argument("file", type=Path)
    commands.add_parser("build", help="only build")
    options = parser.parse_args()
    if options.command == "replay":
        return replay(options.target, options.file)
    if options.command == "build":
        build()
        return 0
    unknown = set(options.targets) - set(names)
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return run(options.targets or names, options.seconds)


if __name__ == "__main__":
    sys.exit(main())
