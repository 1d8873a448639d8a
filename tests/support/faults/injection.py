"""System calls of a running broker that fail, by strace: only those on the named files, from now on until the end.

`strace` changes what the kernel answers: an error without the call being made, or a result. It attaches to all threads
of the process and lets go of them again; the process does not notice, except that it is slower.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ATTACH_SECONDS = 20.0


@contextmanager
def injected(pid: int, calls: str, fault: str, paths: Iterable[Path] = ()) -> Iterator[Path]:
    """While inside, `calls` (names with commas) on `paths`, all files without any, have the strace `fault`.

    `fault` is strace's own: `error=EIO`, `retval=0`, with `:when=2+` for the second one and later. Gives the file in
    which strace notes the calls.
    """
    notes = Path(f"/tmp/fastlog-strace-{pid}-{time.monotonic_ns()}")
    command = ["strace", "-f", "-y", "-e", "signal=none", "-o", str(notes), "-e", f"trace={calls}"]
    command += ["-e", f"inject={calls}:{fault}"]
    for path in paths:
        command += ["-P", str(path.resolve())]
    process = subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    try:
        wait_until_traced(pid, process)
        yield notes
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=ATTACH_SECONDS)
        notes.unlink(missing_ok=True)


def wait_until_traced(pid: int, process: subprocess.Popen[str]) -> None:
    """Blocks until every thread of `pid` is traced."""
    deadline = time.monotonic() + ATTACH_SECONDS
    while True:
        states = [task.joinpath("status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        if all(f"TracerPid:\t{process.pid}\n" in state for state in states):
            return
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"strace did not attach within {ATTACH_SECONDS} s"
        time.sleep(0.01)
