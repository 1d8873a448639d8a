"""Sends every row through `fastlog.Producer`, reads them back twice, compares by key. Ends by itself."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import Consumer as ConfluentConsumer
from confluent_kafka import TopicPartition as ConfluentPartition

from examples.flights.data import FLIGHTS_KEY, flights_file, read_records
from fastlog import Admin, Consumer, Producer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

PARTITIONS = 4
READY_SECONDS = 30.0
# nothing arrived for this long: the rest will not come
SILENCE_SECONDS = 10.0

# key -> how many records, and the sum of their values' checksums: equal sums mean equal values in any order
Tally = dict[bytes, tuple[int, int]]
# key and value
Pair = tuple[bytes | None, bytes | None]


def main() -> int:
    """The exit status: 0 when both consumers saw exactly what was sent."""
    arguments = parse_arguments()
    path = arguments.file or flights_file()
    key = arguments.key if arguments.file else FLIGHTS_KEY
    try:
        records = read_records(path, key)
    except (OSError, ValueError) as error:
        raise SystemExit(f"demo: reading {path}: {error}") from error
    print(f"{len(records):,} records from {path.name}")
    with running_broker(arguments.bootstrap) as bootstrap:
        topic = f"{arguments.topic}-{int(time.time())}" if arguments.bootstrap else arguments.topic
        with Admin(bootstrap) as admin:
            admin.create_topic(topic, partitions=PARTITIONS)
        sent = timed("fastlog.Producer", lambda: produce(bootstrap, topic, records))
        ours = timed("fastlog.Consumer", lambda: consume(bootstrap, topic, len(records)))
        theirs = timed("confluent-kafka", lambda: consume_with_confluent(bootstrap, topic, len(records)))
    return report(sent, ours, theirs)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="examples.flights", description=__doc__)
    parser.add_argument(
        "file", nargs="?", type=Path, help="CSV or JSON lines (.gz and .zip too); flights without it"
    )
    parser.add_argument("--key", help="the column that is the record's key; the first one by default")
    parser.add_argument("--bootstrap", help="HOST:PORT of a running broker; without it one is started")
    parser.add_argument("--topic", default="flights")
    return parser.parse_args()


@contextlib.contextmanager
def running_broker(bootstrap: str | None) -> Iterator[str]:
    """The address of the named broker, or of one that lives as long as the demo."""
    if bootstrap:
        yield bootstrap
        return
    with tempfile.TemporaryDirectory(prefix="fastlog-demo-") as folder:
        command = [sys.executable, "-m", "fastlog.cli", "serve", "--data-dir", f"{folder}/data"]
        command += ["--listen", "PLAINTEXT://127.0.0.1:0", "--listen", "ZMQ://127.0.0.1:0"]
        log = Path(folder, "broker.log")
        with log.open("w") as errors:
            broker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert broker.stdout is not None
            ready = broker.stdout.readline().split()
            if not ready:
                raise RuntimeError(f"the broker did not start: {log.read_text()[-2000:]}")
            print("broker:", *ready[1:])
            yield next(word for word in ready if word.startswith("PLAINTEXT://")).removeprefix("PLAINTEXT://")
        finally:
            broker.terminate()
            broker.wait(READY_SECONDS)


def timed(name: str, run: Callable[[], Sequence[Pair]]) -> Tally:
    """Runs one step and prints its rate; counting by key is not part of it."""
    start = time.perf_counter()
    records = run()
    seconds = time.perf_counter() - start
    print(
        f"{name:<18} {len(records):>10,} records in {seconds:6.2f} s  {len(records) / seconds:>12,.0f} records/s"
    )
    return tally_of(records)


def tally_of(records: Iterable[Pair]) -> Tally:
    """Counts and checksums by key."""
    tally: Tally = {}
    for key, value in records:
        count, total = tally.get(key or b"", (0, 0))
        tally[key or b""] = (count + 1, total + zlib.crc32(value or b""))
    return tally


def produce(bootstrap: str, topic: str, records: Sequence[tuple[bytes, bytes]]) -> Sequence[Pair]:
    """Sends all records and waits until each is acknowledged; a failed delivery ends the demo."""
    with Producer(bootstrap, linger_ms=5, compression="lz4") as producer:
        deliveries = [producer.send(topic, value, key=key) for key, value in records]
        producer.flush()
        for delivery in deliveries:
            delivery.result()
    return records


def consume(bootstrap: str, topic: str, count: int) -> Sequence[Pair]:
    """Reads `count` records with our consumer, or fewer where no more come."""
    found: list[Pair] = []
    with Consumer(bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.subscribe([topic])
        while len(found) < count:
            polled = consumer.poll(max_records=10_000, timeout=SILENCE_SECONDS)
            if not polled:
                break
            found += [(record.key, record.value) for record in polled]
    return found


def consume_with_confluent(bootstrap: str, topic: str, count: int) -> Sequence[Pair]:
    """The same with librdkafka's consumer, by explicit assignment."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "demo", "auto.offset.reset": "earliest"}
    # its defaults stall on a quick broker; these do not
    tuned = {
        "queued.min.messages": 1_000_000,
        "queued.max.messages.kbytes": 1_048_576,
        "fetch.queue.backoff.ms": 5,
    }
    consumer = ConfluentConsumer({**settings, **tuned, "enable.auto.commit": False})
    consumer.assign([ConfluentPartition(topic, number, 0) for number in range(PARTITIONS)])
    found: list[Pair] = []
    while len(found) < count:
        # it waits until it has as many as it was asked for, so never for more than there are
        polled = consumer.consume(min(10_000, count - len(found)), SILENCE_SECONDS)
        if not polled:
            break
        found += [(message.key(), message.value()) for message in polled if message.error() is None]
    consumer.close()
    return found


def report(sent: Tally, ours: Tally, theirs: Tally) -> int:
    """Prints the counts by key; 1 where a consumer saw something else than was sent."""
    print(f"\n{'key':<12} {'sent':>10} {'fastlog':>10} {'confluent':>10}")
    keys = sorted(sent.keys() | ours.keys() | theirs.keys(), key=lambda key: -sent.get(key, (0, 0))[0])
    wrong = [key for key in keys if not sent.get(key) == ours.get(key) == theirs.get(key)]
    for key in keys[:20] + [key for key in wrong if key in keys[20:]]:
        counts = [tally.get(key, (0, 0))[0] for tally in (sent, ours, theirs)]
        mark = "  DIFFERS" if key in wrong else ""
        print(f"{key.decode(errors='replace'):<12} {counts[0]:>10,} {counts[1]:>10,} {counts[2]:>10,}{mark}")
    if len(keys) > 20:
        print(f"… {len(keys)} keys in all")
    print("\nall counts and checksums agree" if not wrong else f"\n{len(wrong)} keys differ", flush=True)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
