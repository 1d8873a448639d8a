"""Memory follows the bytes that are there, not what they claim or expand to; threads do not disturb each other."""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastlog.native import _engine
from fastlog.native._records import RecordBatch
from tests.support.batches import CODECS, NOW_MS, build, seal

PEAK = """
import sys
from fastlog.native import _engine

def peak_kib():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

batch = open(sys.argv[1], "rb").read()
before = peak_kib()
_engine.validate_batch(batch, now_ms=1_700_000_000_000, max_batch_bytes=1 << 30)
print(peak_kib() - before)
"""
EXPANDED_BYTES = 64 << 20


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_checking_a_batch_takes_no_memory_for_what_it_expands_to(codec: str, tmp_path: Path) -> None:
    # a third of a megabyte of noise lifts the cap to what the zeros expand to
    value = random.Random(1).randbytes(300_000) + bytes(EXPANDED_BYTES)
    (tmp_path / "batch").write_bytes(seal([(NOW_MS, None, value, ())], CODECS[codec]))
    command = [sys.executable, "-c", PEAK, str(tmp_path / "batch")]
    grown_kib = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown_kib * 1024 < EXPANDED_BYTES // 8


def test_threads_seal_open_and_check_at_the_same_time() -> None:
    def work(seed: int) -> None:
        noise = random.Random(seed)
        values = [noise.randbytes(noise.randrange(200)) * noise.randrange(1, 5) for _ in range(300)]
        for codec in CODECS.values():
            builder = build([(NOW_MS, None, value, ()) for value in values])
            batch = _engine.seal_batch(builder, compression=codec)
            assert _engine.validate_batch(batch, now_ms=NOW_MS) == NOW_MS
            assert RecordBatch(_engine.open_batch(batch)).values() == values

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
