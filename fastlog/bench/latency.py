"""The time of single records at a fixed rate, in an open loop, unbatched.

`latency.acknowledged` is from when a record was due to its acknowledgement in the producer's callback, beside the same
round trip through a bare DEALER → ROUTER → write. `latency.end_to_end` is to its arrival at a consumer in the same
process.
"""

from __future__ import annotations

import struct
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fastlog.bench.harness import machine
from fastlog.bench.harness.bare_zmq import BareDealer
from fastlog.bench.harness.cluster import cluster_at
from fastlog.bench.harness.open_loop import pace, sharpen_timers
from fastlog.bench.harness.result import Result, from_pairs
from fastlog.bench.harness.sending import producer_at
from fastlog.bench.harness.statistics import Pairs, Round, run_pairs
from fastlog.bench.harness.workload import batch_of
from fastlog.client.consumer.consumer import Consumer
from fastlog.errors import FastlogError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.bench.harness.cluster import Cluster
    from fastlog.native._sending import Delivery

LIMIT = "bare DEALER -> ROUTER -> write round trip at the same rate"
DUE = struct.Struct("<q")
#: a consumer that got nothing for so long has missed something
SILENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench latency`; `seconds` are for each side, over all pairs."""

    rate: int = 1_000
    seconds: float = 10.0
    acks: str = "all"
    size: int = 100
    pairs: int = 5

    @property
    def records(self) -> int:
        """The records of one round."""
        return max(1, round(self.rate * self.seconds / self.pairs))


class Bench:
    """The rounds of both measures and of the limit."""

    def __init__(self, settings: Settings, cluster: Cluster, dealer: BareDealer) -> None:
        self.settings = settings
        self._cluster = cluster
        self._dealer = dealer
        self._message = batch_of(settings.size, 1 << 20, records=1).data
        # the due time leads, the rest is filling
        self._filling = bytes(settings.size - DUE.size)

    def acknowledged(self) -> Round:
        """A round of acknowledged records."""
        times: list[int] = []
        errors: list[BaseException] = []

        def on_send(delivery: Delivery, due_ns: int) -> None:
            def settled(done: Delivery) -> None:
                times.append(time.perf_counter_ns() - due_ns)
                error = done.exception()
                if error is not None:
                    errors.append(error)

            delivery.add_done_callback(settled)

        with self._cluster.topic() as topic:
            done = self._paced(topic, times, on_send)
        if errors:
            raise errors[0]
        return done

    def end_to_end(self) -> Round:
        """A round of records that a consumer receives."""
        times: list[int] = []
        with self._cluster.topic() as topic:
            reader = threading.Thread(target=self._read, args=(topic, times), daemon=True)
            reader.start()
            done = self._paced(topic, times, lambda _delivery, _due_ns: None, reader)
        if len(times) < self.settings.records:
            raise FastlogError(
                f"reading {topic}: {len(times)} of {self.settings.records} records came; look at the broker's log"
            )
        return done

    def bare(self) -> Round:
        """A round of the limit."""
        self._dealer.fresh_file()
        start = time.perf_counter()
        settings = self.settings
        times = self._dealer.send_paced(self._message, rate=settings.rate, count=settings.records)
        return Round(len(times), time.perf_counter() - start, len(times) * settings.size, times)

    def _paced(
        self,
        topic: str,
        times: list[int],
        on_send: Callable[[Delivery, int], None],
        reader: threading.Thread | None = None,
    ) -> Round:
        settings = self.settings
        with producer_at(self._cluster.bootstrap, acks=settings.acks, linger_ms=0) as producer:
            # connects; a consumer that reads meanwhile takes no note of it
            producer.send(topic, b"").result()

            def timed() -> Round:
                start = time.perf_counter()
                pace(
                    lambda _number, due_ns: on_send(
                        producer.send(topic, DUE.pack(due_ns) + self._filling), due_ns
                    ),
                    rate=settings.rate,
                    count=settings.records,
                )
                producer.flush()
                if reader is not None:
                    reader.join()
                seconds = time.perf_counter() - start
                return Round(settings.records, seconds, settings.records * settings.size, times)

            return self._cluster.with_broker_cpu(timed)

    def _read(self, topic: str, times: list[int]) -> None:
        with Consumer(self._cluster.bootstrap, topics=topic, auto_offset_reset="earliest") as consumer:
            while len(times) < self.settings.records:
                records = consumer.poll(timeout=SILENCE_SECONDS)
                now = time.perf_counter_ns()
                if not records:
                    return
                times.extend(now - DUE.unpack_from(record.value)[0] for record in records if record.value)


def run(
    settings: Settings, *, bootstrap: str | None, directory: Path | None, done: Callable[[int], None]
) -> list[Result]:
    """Both measures beside the limit; `done` is told of each pair, `2 * pairs` in all. Blocks."""
    with (
        cluster_at(bootstrap, directory=directory) as cluster,
        TemporaryDirectory(prefix="fastlog-bench-", dir=directory) as name,
        BareDealer(Path(name)) as dealer,
    ):
        sharp = sharpen_timers()
        bench = Bench(settings, cluster, dealer)
        found = {
            "latency.acknowledged": run_pairs(bench.acknowledged, bench.bare, settings.pairs, done),
            "latency.end_to_end": run_pairs(bench.end_to_end, bench.bare, settings.pairs, done),
        }
    shown = {
        **asdict(settings),
        "linger_ms": 0,
        "sharp_timers": sharp,
        "bootstrap": bootstrap,
        **machine.describe(directory),
    }
    return [result_of(name, pairs, shown) for name, pairs in found.items()]


def result_of(name: str, pairs: Pairs, settings: dict[str, object]) -> Result:
    """The result of one measure; the ratio compares medians, since the rate is the same on both sides."""
    return from_pairs(name, pairs, limit=LIMIT, settings=settings, measure=lambda one: one.quickness)
