"""From `import fastlog` to a broker that answers, in a fresh interpreter each round.

`pytest benchmarks/test_start.py --benchmark-only --benchmark-columns=median,iqr,rounds`; a round includes the start
and the end of the interpreter, so the bare interpreter stands beside it.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

EMBEDDED = """
import fastlog
with fastlog.Broker() as broker:
    broker.bootstrap
"""


@pytest.mark.parametrize("program", ["pass", EMBEDDED], ids=["bare interpreter", "embedded broker"])
def test_start(benchmark: Any, program: str) -> None:
    command = [sys.executable, "-c", program]
    benchmark.pedantic(subprocess.run, args=(command,), kwargs={"check": True}, rounds=10, warmup_rounds=1)
