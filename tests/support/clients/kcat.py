"""kcat: text lines only, one set of headers for all records, the system's time."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence

from tests.support.clients import CONSUME_SECONDS
from tests.support.samples import Sample


def run(arguments: Sequence[str], text: str = "") -> str:
    """kcat's standard output; its standard error when it fails."""
    done = subprocess.run(
        ["kcat", *arguments], input=text, capture_output=True, text=True, timeout=CONSUME_SECONDS, check=False
    )
    assert done.returncode == 0, f"kcat {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def produce(
    bootstrap: str, topic: str, samples: Sequence[Sample], compression: str, *, idempotent: bool = True
) -> None:
    """Sends all; an empty value is sent as null."""
    lines = "".join(f"{(s.key or b'').decode()}\t{(s.value or b'').decode()}\n" for s in samples)
    headers = [
        word for name, value in samples[0].headers for word in ("-H", f"{name}={(value or b'').decode()}")
    ]
    settings = ["-X", f"enable.idempotence={str(idempotent).lower()}", "-X", "linger.ms=20"]
    where = ["-P", "-b", bootstrap, "-t", topic, "-p", "0", "-K", "\t", "-Z", "-z", compression]
    run([*where, *headers, *settings], lines)


def consume(bootstrap: str, topic: str, count: int, *, offset: int = 0) -> list[Sample]:
    """The first `count` records from `offset` on, as kcat's JSON shows them."""
    out = run(
        ["-C", "-b", bootstrap, "-t", topic, "-p", "0", "-o", str(offset), "-c", str(count), "-e", "-J", "-q"]
    )
    return [_sample(json.loads(line)) for line in out.splitlines()]


def _sample(row: dict[str, object]) -> Sample:
    flat = row.get("headers") or []
    assert isinstance(flat, list)
    headers = tuple((flat[i], _bytes(flat[i + 1])) for i in range(0, len(flat), 2))
    timestamp = row["ts"]
    assert isinstance(timestamp, int)
    return Sample(_bytes(row["key"]), _bytes(row["payload"]), headers, timestamp)


def _bytes(text: object) -> bytes | None:
    return None if text is None else str(text).encode()
