"""Runs a cluster for trials until Ctrl-C or SIGTERM: `python -m fastlog.testing.run_cluster`.

Standard output gets one line, `ready PLAINTEXT://HOST:PORT … zookeeper=HOST:PORT`, when all brokers are up.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from fastlog.testing.cluster import Cluster

PLAINTEXT_PORT = 9092
ZMQ_PORT = 9192
ZOOKEEPER_PORT = 2181


def main(arguments: list[str]) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="make cluster", description="A cluster on this machine.")
    parser.add_argument("--brokers", type=int, default=3, metavar="N")
    parser.add_argument("--folder", type=Path, default=Path("fastlog-data/cluster"), metavar="DIR")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    given = parser.parse_args(arguments)
    settings = {}
    for each in given.settings:
        key, equals, value = each.partition("=")
        if not equals:
            parser.error(f"--set {each}: it takes KEY=VALUE")
        settings[key] = value
    # not blocked and waited for: the processes that are started would inherit that
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    cluster = Cluster(
        given.brokers,
        folder=given.folder.absolute(),
        settings=settings,
        zookeeper_port=ZOOKEEPER_PORT,
        ports={
            number: {"PLAINTEXT": PLAINTEXT_PORT + number - 1, "ZMQ": ZMQ_PORT + number - 1}
            for number in range(1, given.brokers + 1)
        },
    )
    try:
        _run(cluster)
    except (RuntimeError, TimeoutError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        cluster.stop()
    return 0


def _run(cluster: Cluster) -> None:
    """Starts it, says so, and waits to be interrupted."""
    cluster.start()
    addresses = " ".join(
        f"PLAINTEXT://{each.bootstrap} ZMQ://{each.zmq_endpoint.removeprefix('tcp://')}"
        for each in cluster.brokers.values()
    )
    zookeeper = cluster.zookeeper.hosts if cluster.zookeeper else ""
    sys.stdout.write(f"ready {addresses} zookeeper={zookeeper}\n")
    sys.stdout.flush()
    while True:
        signal.pause()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
