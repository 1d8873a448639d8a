"""`fastlog disks`: the data directories of brokers, and replicas that are moved from one to another."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fastlog.cli import report
from fastlog.cli.admin import admin_at
from fastlog.cli.cluster import parse_place, tell
from fastlog.cli.options import bootstrap_option, json_option

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from fastlog.client.admin import Admin
    from fastlog.client.admin.results import DataDirectory, DirectoryReplica
    from fastlog.errors import KafkaError

    Place = tuple[str, int]

POLL_SECONDS = 0.25
#: how long making and deleting a replica takes at most, as a rule
SETTLING_SECONDS = 1.0
#: replicas that a line names
NAMES_MAX = 5
TIERED = "remote.storage.enable"


@click.group()
def disks() -> None:
    """See the data directories of brokers, and move replicas among them."""


@disks.command("list")
@click.option("--broker", "brokers", type=int, multiple=True, metavar="ID", help="Only of this broker.")
@click.option("--replicas", is_flag=True, help="Also each replica.")
@bootstrap_option
@json_option
def list_(*, brokers: tuple[int, ...], replicas: bool, bootstrap: str, as_json: bool) -> int:
    """List data directories: their room, what is in them, and which replicas are offline: in none of them.

    Status 1 where a directory failed, or a replica is offline.
    """
    with admin_at(bootstrap) as admin:
        found = admin.describe_log_dirs(brokers or None)
        offline = _offline(admin, found)
        if offline:
            # one that was being made or deleted is no longer
            time.sleep(SETTLING_SECONDS)
            found = admin.describe_log_dirs(list(found))
            again = _offline(admin, found)
            offline = {broker: places & again.get(broker, set()) for broker, places in offline.items()}
            offline = {broker: places for broker, places in offline.items() if places}
    lost = [(broker, place) for broker, places in offline.items() for place in sorted(places)]
    if as_json:
        report.print_json(
            {
                "brokers": {broker: [_document(it) for it in dirs] for broker, dirs in found.items()},
                "offline": {
                    broker: [report.place(it) for it in sorted(offline[broker])] for broker in offline
                },
            }
        )
    elif replicas:
        report.print_table(
            ("broker", "directory", "replica", "bytes", "copy behind by"),
            [
                (broker, it.path, f"{each.topic}:{each.partition}", each.size_bytes, _behind(each))
                for broker, dirs in found.items()
                for it in dirs
                for each in it.replicas
            ]
            + [(broker, "offline", report.place(place), "-", "-") for broker, place in lost],
        )
    else:
        report.print_table(
            ("broker", "directory", "replicas", "bytes", "free", "of", "state"),
            [(broker, it.path, *_summary(it)) for broker, dirs in found.items() for it in dirs],
        )
        for broker, places in offline.items():
            named = " ".join(report.place(place) for place in sorted(places)[:NAMES_MAX])
            more = f" and {len(places) - NAMES_MAX} more" if len(places) > NAMES_MAX else ""
            click.echo(f"offline on broker {broker}, whose log says why: {named}{more}")
    return 1 if offline or any(it.error for dirs in found.values() for it in dirs) else 0


def _offline(admin: Admin, found: Mapping[int, Sequence[DataDirectory]]) -> dict[int, set[Place]]:
    """Of each broker the replicas that are to be there, and are in none of its directories."""
    assigned = [
        (broker, (topic.name, it.partition))
        for topic in admin.describe_topics()
        for it in topic.partitions
        for broker in it.replicas
    ]
    offline: dict[int, set[Place]] = {}
    for broker, dirs in found.items():
        here = {(each.topic, each.partition) for it in dirs for each in it.replicas}
        offline[broker] = {place for at, place in assigned if at == broker} - here
    return {broker: places for broker, places in offline.items() if places}


@disks.command()
@click.argument("places", nargs=-1, required=True, metavar="TOPIC:PARTITION…")
@click.option("--broker", type=int, required=True, metavar="ID", help="Whose replicas.")
@click.option("--to", "path", required=True, metavar="DIRECTORY", help="As `fastlog disks list` calls it.")
@click.option("--wait", is_flag=True, help="Return when they are there.")
@bootstrap_option
@json_option
def move(
    *, places: tuple[str, ...], broker: int, path: str, wait: bool, bootstrap: str, as_json: bool
) -> int:
    """Move replicas of a broker to another data directory of it, while they are written to and read.

    To name the directory where a replica is gives its move up. Replicas of tiered topics stay where they are.
    """
    wanted = dict.fromkeys((parse_place(text) for text in places), path)
    with admin_at(bootstrap) as admin:
        asked = admin.move_replicas(broker, wanted)
        found = {place: error and _explained(admin, broker, place, error) for place, error in asked.items()}
        if wait:
            found |= _wait(admin, broker, path, [place for place, error in found.items() if error is None])
    return tell("moved" if wait else "moving", found, as_json=as_json)


def _explained(admin: Admin, broker: int, place: Place, error: KafkaError) -> KafkaError:
    """The error with its reason, which brokers do not answer, as far as it can be found out."""
    from fastlog.errors import InvalidRequestError, LogDirNotFoundError, error_for

    why = f"the log of broker {broker} says why"
    if isinstance(error, LogDirNotFoundError):
        paths = [it.path for it in admin.describe_log_dirs([broker])[broker]]
        why = f"the data directories of broker {broker} are {', '.join(paths)}"
    elif isinstance(error, InvalidRequestError) and _is_tiered(admin, place[0]):
        why = "the topic is tiered (remote.storage.enable), its replicas stay in their directories"
    return error_for(error.code, f"{error.message}: {why}")


def _is_tiered(admin: Admin, topic: str) -> bool:
    """Whether it is known to be."""
    from fastlog.errors import KafkaError

    try:
        entry = admin.describe_configs(topic=topic, keys=[TIERED]).get(TIERED)
    except KafkaError:
        return False
    return entry is not None and entry.value == "true"


def _wait(admin: Admin, broker: int, path: str, places: Collection[Place]) -> dict[Place, KafkaError | None]:
    """Waits for moves to end; the error of each that ended elsewhere."""
    from fastlog.errors import LogDirNotFoundError

    waiting = set(places)
    found: dict[Place, KafkaError | None] = {}
    with report.progress("moving", len(waiting), unit="replicas") as advance:
        while waiting:
            dirs = admin.describe_log_dirs([broker])[broker]
            replicas = [
                (each.path, (it.topic, it.partition), it.is_future) for each in dirs for it in each.replicas
            ]
            ended = waiting - {place for _, place, is_copy in replicas if is_copy}
            there = {place for at, place, is_copy in replicas if at == path and not is_copy}
            for place in ended:
                why = f"it was given up; the log of broker {broker} says why"
                found[place] = None if place in there else LogDirNotFoundError(why)
            advance(len(ended))
            waiting -= ended
            time.sleep(POLL_SECONDS if waiting else 0)
    return found


def _summary(directory: DataDirectory) -> tuple[object, ...]:
    if directory.error is not None:
        return ("-", "-", "-", "-", "failed")
    size = sum(it.size_bytes for it in directory.replicas)
    room = (report.cell(directory.usable_bytes), report.cell(directory.total_bytes))
    copies = sum(it.is_future for it in directory.replicas)
    state = f"{report.counted(copies, 'replica')} on the way to it" if copies else "well"
    return (len(directory.replicas) - copies, size, *room, state)


def _behind(replica: DirectoryReplica) -> str:
    return str(replica.offset_lag) if replica.is_future else "-"


def _document(directory: DataDirectory) -> dict[str, Any]:
    return {
        "path": directory.path,
        "error": None if directory.error is None else str(directory.error),
        "total_bytes": directory.total_bytes,
        "usable_bytes": directory.usable_bytes,
        "replicas": [asdict(it) for it in directory.replicas],
    }
