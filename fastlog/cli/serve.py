"""`fastlog serve`: runs a broker until Ctrl-C or SIGTERM.

Standard output gets exactly one line, `ready SCHEME://HOST:PORT …`, when the broker answers. Logs go to standard error.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fastlog.broker.broker import Broker
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
@click.option("--data-dir", metavar="DIR", help="The data directory (log.dirs).  [./fastlog-data]")
@click.option("--node-id", metavar="N", help="The broker's id (node.id).  [1]")
@click.option(
    "--listen",
    "listeners",
    multiple=True,
    metavar="SCHEME://HOST:PORT",
    help="Where to listen: PLAINTEXT for Kafka clients, ZMQ for ZeroMQ; port 0 picks one.",
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
    data_dir: str | None,
    node_id: str | None,
    listeners: tuple[str, ...],
    log_level: str,
) -> None:
    """Run a broker until Ctrl-C or SIGTERM.

    Keys are Kafka's: `fastlog serve --set log.segment.bytes=1048576`.
    """
    from fastlog.config import load

    options = {"log.dirs": data_dir, "node.id": node_id, "listeners": ",".join(listeners) or None}
    given = {key: value for key, value in options.items() if value is not None}
    config = load(file=file, assignments=assignments, options=given)
    _configure_logging(log_level)
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    asyncio.run(_serve(config))


async def _serve(config: Config) -> None:
    from fastlog.broker.broker import Broker

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    broker = Broker(config)
    starting = asyncio.create_task(_start(broker))
    waiting = asyncio.create_task(stopped.wait())
    # a signal during a long recovery waits for its end: logs are closed as they were opened, completely
    await starting
    await waiting
    await broker.stop()


async def _start(broker: Broker) -> None:
    endpoints = await broker.start()
    click.echo("ready " + " ".join(map(str, endpoints)))
    sys.stdout.flush()


def _configure_logging(level: str) -> None:
    import logging

    import structlog

    # one line an event, the same on a terminal and in a file
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "component", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
