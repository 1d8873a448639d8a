"""A thread that meets what nobody foresaw: the broker ends and says so, instead of going on without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faults import failing_thread

END_SECONDS = 60

#: the method that raises, the thread that calls it, and whether the stop that follows is a clean one
THREADS = {
    "the ZeroMQ listener": ("fastlog.transport.router RouterListener _take_requests", "fastlog-zmq", True),
    "the control loop": ("fastlog.broker.control_loop ControlLoop _write_events", "fastlog-control", False),
    "groups": ("fastlog.broker.groups.coordinator GroupCoordinator turn", "fastlog-groups", True),
    "housekeeping": ("fastlog.broker.housekeeping Housekeeping run_due", "fastlog-housekeeping", True),
}


@pytest.mark.parametrize("case", THREADS)
def test_a_broker_whose_thread_fails_ends_with_a_status_and_a_reason(case: str, tmp_path: Path) -> None:
    method, thread, is_clean = THREADS[case]
    ended = subprocess.run(
        [
            *(sys.executable, failing_thread.__file__, *method.split(), "-", "-m", "fastlog.cli", "serve"),
            *("--data-dir", str(tmp_path / "data"), "--listen", "PLAINTEXT://127.0.0.1:0"),
            *("--listen", "ZMQ://127.0.0.1:0"),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=END_SECONDS,
    )
    assert ended.returncode == 1, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"fastlog: the thread {thread} failed (ZeroDivisionError: planted)")
    assert 'event="a thread failed"' in ended.stderr
    if is_clean:
        assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()
