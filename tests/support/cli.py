"""The command line as a user runs it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from tests.support.broker import PROGRAM

COMMAND_SECONDS = 30.0


@dataclass(frozen=True)
class Run:
    """What a command left behind."""

    status: int
    out: bytes
    err: str

    def rows(self) -> list[Any]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def fastlog(*arguments: str, stdin: bytes = b"") -> Run:
    """Runs `fastlog` to its end."""
    done = subprocess.run(
        [PROGRAM, *arguments], input=stdin, capture_output=True, timeout=COMMAND_SECONDS, check=False
    )
    return Run(done.returncode, done.stdout, done.stderr.decode())
