"""Runs a cluster for trials until Ctrl-C or SIGTERM: `python -m fastlog.testing.run_cluster`.

Standard output gets one line, `ready PLAINTEXT://HOST:PORT … zookeeper=HOST:PORT`, when all brokers are up. Standard
error tells where data and logs are, and of a process that ends on its own.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fastlog.errors import FastlogError
from fastlog.testing.cluster import Cluster
from fastlog.testing.leash import Leash
from fastlog.testing.ports import is_taken

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PORT = 9092
#: so far above those for Kafka clients are the ports for ZeroMQ
ZMQ_ABOVE = 100
ZOOKEEPER_PORT = 2181
MOST_PORT = 65_535
LOOK_SECONDS = 0.5
HOST = "127.0.0.1"
# a terminal that is closed too: the processes have sessions of their own and would stay
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: list[str]) -> int:
    """The exit status."""
    given = _parse(arguments)
    # not blocked and waited for: the processes that are started would inherit that
    for number in ENDS:
        signal.signal(number, signal.default_int_handler)
    folder: Path = given.folder.absolute()
    cluster = Cluster(
        given.brokers,
        folder=folder,
        settings=given.settings,
        zookeeper_port=given.zookeeper_port,
        ports=given.ports,
    )
    try:
        with _alone(folder), Leash() as cluster.leash:
            _refuse_taken(given.zookeeper_port, given.ports)
            try:
                _run(cluster, folder)
            except KeyboardInterrupt:
                _stop(cluster)
    except (FastlogError, RuntimeError, OSError) as error:  # a TimeoutError is an OSError
        sys.stderr.write(f"make cluster: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 1
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    """The options, with `settings` as a dict, and `ports` by broker id and scheme."""
    parser = argparse.ArgumentParser(prog="make cluster", description="A cluster on this machine.")
    parser.add_argument("--brokers", type=int, default=3, metavar="N", help="how many, with ids from 1 on")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("fastlog-data/cluster"),
        metavar="DIR",
        help="where data and logs are; what is there is gone on with",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all brokers"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=PORT,
        metavar="N",
        help=f"of broker 1 for Kafka clients, {PORT} by default; ZeroMQ's is {ZMQ_ABOVE} above",
    )
    parser.add_argument("--zookeeper-port", type=int, default=ZOOKEEPER_PORT, metavar="N")
    given = parser.parse_args(arguments)
    if not 1 <= given.brokers <= ZMQ_ABOVE:
        parser.error(f"--brokers {given.brokers}: from 1 to {ZMQ_ABOVE}")
    for port in (given.zookeeper_port, given.port, given.port + ZMQ_ABOVE + given.brokers - 1):
        if not 1 <= port <= MOST_PORT:
            parser.error(f"port {port}: from 1 to {MOST_PORT}")
    given.ports = {
        number + 1: {"PLAINTEXT": given.port + number, "ZMQ": given.port + ZMQ_ABOVE + number}
        for number in range(given.brokers)
    }
    given.settings = {}
    for each in given.set:
        key, equals, value = each.partition("=")
        if not equals:
            parser.error(f"--set {each}: it takes KEY=VALUE")
        given.settings[key] = value
    return given


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else runs a cluster on the folder meanwhile; raises FastlogError that names who does."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "lock"
    with file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = file.read_text().strip()
            raise FastlogError(
                f"a cluster runs in {folder} already, by process {who}: use that one, or end it with Ctrl-C in its "
                f"terminal or `kill {who}`"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _refuse_taken(zookeeper_port: int, ports: Mapping[int, Mapping[str, int]]) -> None:
    """Raises FastlogError that names all ports which something else has: somebody else's ZooKeeper must not be ours."""
    wanted = [(zookeeper_port, "ZooKeeper")]
    wanted += [(port, f"broker {number}") for number, each in ports.items() for port in each.values()]
    taken = [f"{HOST}:{port} ({whose})" for port, whose in wanted if is_taken(HOST, port)]
    if taken:
        raise FastlogError(
            f"something else listens at {', '.join(taken)}: end it, a single broker say or what is left of a cluster "
            "that was killed (`ss -ltnp` names the processes), or choose others with ARGS='--port N "
            "--zookeeper-port N'"
        )


def _run(cluster: Cluster, folder: Path) -> None:
    """Starts it, says so, and waits to be interrupted."""
    sys.stderr.write(f"starting ZooKeeper and brokers; data and logs are in {folder}\n")
    cluster.start()
    addresses = " ".join(
        f"PLAINTEXT://{each.bootstrap} ZMQ://{each.zmq_endpoint.removeprefix('tcp://')}"
        for each in cluster.brokers.values()
    )
    zookeeper = cluster.zookeeper.hosts if cluster.zookeeper else ""
    sys.stdout.write(f"ready {addresses} zookeeper={zookeeper}\n")
    sys.stdout.flush()
    processes = ", ".join(f"{number} is process {each.pid}" for number, each in cluster.brokers.items())
    sys.stderr.write(f"broker {processes}; Ctrl-C ends all\n")
    _tell_of_ends(cluster)


def _tell_of_ends(cluster: Cluster) -> None:
    """Tells once of each process that ends; only an interruption ends it."""
    told: set[int] = set()
    zookeeper = cluster.zookeeper
    while True:
        for number, each in cluster.brokers.items():
            if number not in told and not each.is_running:
                told.add(number)
                sys.stderr.write(
                    f"broker {number} {each.ending()}, see {each.log_file}; the others go on. "
                    f"To have it back, in another terminal:\n  {shlex.join(each.command())}\n"
                )
        if zookeeper is not None and 0 not in told and not zookeeper.is_running:
            told.add(0)
            log = zookeeper.servers[0].folder / "zookeeper.log"
            sys.stderr.write(
                f"ZooKeeper ended, see {log}: nothing can be changed any more; end the cluster with Ctrl-C and start "
                "it anew\n"
            )
        time.sleep(LOOK_SECONDS)


def _stop(cluster: Cluster) -> None:
    """Ends it in order; interrupted again, at once."""
    sys.stderr.write("stopping in order; Ctrl-C again kills all\n")
    try:
        cluster.stop()
    except KeyboardInterrupt:
        for number in ENDS:
            signal.signal(number, signal.SIG_IGN)
        raise
    finally:
        # also what did not end
        cluster.close()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
