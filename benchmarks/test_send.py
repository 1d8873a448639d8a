"""What `send` and `send_many` cost the calling thread, and what a delivery's result does; no broker, no sender.

`pytest benchmarks/test_send.py --benchmark-only --benchmark-columns=median,iqr,rounds`; the JSON has
`records_per_second`. One round is 20,000 records of 100 bytes into batches of 256 KiB, which are then thrown away.
"""

from __future__ import annotations

import array
from typing import TYPE_CHECKING, Any

import pytest

from fastlog.native._column import Column
from tests.support.sending import TOPIC, StillProducer

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDS = 20_000
VALUES = [b"%0100d" % at for at in range(RECORDS)]
KEYS = [b"%012d" % (at * 7919 % RECORDS) for at in range(RECORDS)]
VALUE_COLUMN = Column(b"".join(VALUES), array.array("i", range(0, 100 * RECORDS + 1, 100)))
KEY_COLUMN = Column(b"".join(KEYS), array.array("i", range(0, 12 * RECORDS + 1, 12)))


def producer() -> StillProducer:
    return StillProducer(4, batch_bytes=256 * 1024, max_request_bytes=1 << 20)


def measure(benchmark: Any, work: Callable[[StillProducer], object]) -> None:
    benchmark.pedantic(work, setup=lambda: ((producer(),), {}), rounds=50, warmup_rounds=3)
    if benchmark.stats is not None:
        benchmark.extra_info["records_per_second"] = round(RECORDS / benchmark.stats.stats.median)


@pytest.mark.parametrize("keys", [None, KEYS], ids=["no keys", "keys"])
def test_send(benchmark: Any, keys: list[bytes] | None) -> None:
    def plain(still: StillProducer) -> None:
        send = still.send
        for value in VALUES:
            send(TOPIC, value)

    def keyed(still: StillProducer) -> None:
        send = still.send
        for value, key in zip(VALUES, KEYS, strict=True):
            send(TOPIC, value, key=key)

    measure(benchmark, keyed if keys else plain)


@pytest.mark.parametrize(
    ("values", "keys"),
    [(VALUES, None), (VALUES, KEYS), (VALUE_COLUMN, None), (VALUE_COLUMN, KEY_COLUMN)],
    ids=["list", "list, keys", "column", "column, keys"],
)
def test_send_many(benchmark: Any, values: Any, keys: Any) -> None:
    measure(benchmark, lambda still: still.send_many(values, keys))


def test_results(benchmark: Any) -> None:
    still = producer()
    deliveries = [still.send(TOPIC, value) for value in VALUES]
    still.accumulator.flush()
    for partition in range(4):
        for batch in still.batches(partition):
            batch.complete(0, -1)

    def work(_: StillProducer) -> None:
        for delivery in deliveries:
            delivery.result()

    measure(benchmark, work)
