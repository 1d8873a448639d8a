"""Environments of their own for programs whose needs conflict with what development needs.

They live in the tests' cache, each filled from a hashed lock in `requirements` at the first use.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
CACHE = Path.home() / ".cache/fastlog-tests"


def python(name: str) -> Path:
    """The interpreter of an environment with what `requirements/NAME.lock` pins; made the first time."""
    lock_file = REQUIREMENTS / f"{name}.lock"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = hashlib.sha256(lock_file.read_bytes()).hexdigest()[:8]
    folder = CACHE / f"{name}-{version}-{wanted}"
    done = folder / "done"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            # an environment knows its path, so one that was left half made is made anew where it is
            shutil.rmtree(folder, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(folder))
            pip = (str(folder / "bin/python"), "-m", "pip", "install", "-q", "--require-hashes")
            _run(*pip, "-r", str(lock_file))
            done.touch()
    return folder / "bin/python"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
