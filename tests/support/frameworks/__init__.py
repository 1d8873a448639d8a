"""Frameworks that users build on other people's clients, with the hello worlds of their documents as programs.

What they need conflicts with what development needs (Quix Streams wants an older confluent-kafka), so they live in an
environment of their own in the tests' cache, filled from `requirements/frameworks.lock` at the first use.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from tests.support import environments

STOP_SECONDS = 30.0


class HelloWorld:
    """One run of a framework's hello world; it prints the id of each user that it reads."""

    def __init__(self, name: str, folder: Path, *arguments: str) -> None:
        self._out, self._log = folder / f"{name}.out", folder / f"{name}.err"
        program = Path(__file__).with_name(f"{name}_hello.py")
        with self._out.open("w") as out, self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(environments.python("frameworks")), str(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )

    def users(self) -> list[int]:
        """The ids that it has read, in the order it did; a framework's own lines are passed over."""
        text = self._out.read_text()
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [int(line) for line in lines if line.isdigit()]

    def log(self) -> str:
        """What it complained of."""
        return self._log.read_text()

    def stop(self) -> int:
        """SIGTERM, as a supervisor would; the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL, if it is alive."""
        self._process.kill()
        self._process.wait()
