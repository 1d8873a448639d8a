"""`fastlog serve`: runs a broker until Ctrl-C or SIGTERM.

It ends by itself, with status 1, where one of its threads fails: better gone than half there, since others lead then.

Standard output gets exactly one line, `ready SCHEME://HOST:PORT …`, when the broker answers. Logs go to standard error.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastlog.events import Event, quoted

if TYPE_CHECKING:
    from fastlog.config import Config

# a thread that wants the interpreter waits this long for one that computes; the default, 5 ms, would be in every answer
# that meets a busy thread (0.28 ms instead, measured)
SWITCH_INTERVAL_SECONDS = 0.0002


@click.command()
@click.option(
    "--config", "file", type=click.Path(dir_okay=False, path_type=Path), help="A TOML file of settings."
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting; overrides the file."
)
@click.option(
    "--data-dir",
    "data_dirs",
    multiple=True,
    metavar="DIR",
    help="A data directory (log.dirs); one for each disk, the first has the metadata.  [./fastlog-data]",
)
@click.option("--node-id", metavar="N", help="The broker's id (node.id).  [1]")
@click.option(
    "--listen",
    "listeners",
    multiple=True,
    metavar="SCHEME://HOST:PORT",
    help="Where to listen: PLAINTEXT for Kafka clients, ZMQ for ZeroMQ; port 0 picks one.",
)
@click.option(
    "--zookeeper",
    metavar="HOST:PORT[,…][/PATH]",
    help="The ZooKeeper of the cluster to be a broker of (zookeeper.connect).  [a cluster of one]",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least level that is logged.",
)
def serve(
    *,
    file: Path | None,
    assignments: tuple[str, ...],
    data_dirs: tuple[str, ...],
    node_id: str | None,
    listeners: tuple[str, ...],
    zookeeper: str | None,
    log_level: str,
) -> None:
    """Run a broker until Ctrl-C or SIGTERM.

    Keys are Kafka's: `fastlog serve --set log.segment.bytes=1048576`.
    """
    # what a start imports and makes stays for good: an eighth of the start went into looking whether it is garbage
    gc.disable()
    from fastlog.config import load

    options = {
        "log.dirs": ",".join(data_dirs) or None,
        "node.id": node_id,
        "listeners": ",".join(listeners) or None,
        "zookeeper.connect": zookeeper,
    }
    given = {key: value for key, value in options.items() if value is not None}
    config = load(file=file, assignments=assignments, options=given)
    _configure_logging(log_level)
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    _serve(config)


def _serve(config: Config) -> None:
    from fastlog.broker.broker import Broker
    from fastlog.cli.thread_failures import ThreadFailures
    from fastlog.native._engine import end_process_on_panic, keep_freed_memory
    from fastlog.transport.descriptors import allow_many

    allow_many()
    # before there are threads, each with an arena of its own; an embedded broker leaves its process as it is
    keep_freed_memory()
    end_process_on_panic()
    # blocked before the first thread starts, so that none of them is interrupted. A signal during a long recovery
    # waits for its end: logs are closed as they were opened, completely
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    broker = Broker(config)
    with ThreadFailures() as failures:
        endpoints = broker.start()
        gc.freeze()
        gc.enable()
        click.echo("ready " + " ".join(map(str, endpoints)))
        sys.stdout.flush()
        signal.sigwait(signals)
        failures.stopping()
        broker.stop()


def _configure_logging(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogLine())
    events = logging.getLogger("fastlog")
    events.addHandler(handler)
    events.setLevel(level.upper())
    events.propagate = False


class LogLine(logging.Formatter):
    """One line an event in logfmt, the same on a terminal and in a file; a traceback is a field too."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        event = record.msg if isinstance(record.msg, Event) else Event(record.getMessage(), {})
        at = datetime.fromtimestamp(record.created, UTC).isoformat().removesuffix("+00:00")
        component = record.name.removeprefix("fastlog.")
        parts = [f"timestamp={at}Z level={record.levelname.lower()} component={component}"]
        parts.append(f"event={quoted(event.text)}")
        parts += [f"{key}={quoted(value)}" for key, value in event.fields.items()]
        if record.exc_info:
            parts.append(f"exception={quoted(self.formatException(record.exc_info))}")
        return " ".join(parts)
