"""`fastlog cluster`: how a cluster is, who leads in it, and what lies where."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fastlog.cli import report
from fastlog.cli.admin import admin_at
from fastlog.cli.cluster_status import described, print_status
from fastlog.cli.moves import carry_out
from fastlog.cli.options import bootstrap_option, json_option
from fastlog.cli.throttle import lift, throttle_option
from fastlog.errors import BrokerIdNotRegisteredError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlog.client.admin import Admin
    from fastlog.errors import KafkaError

Place = tuple[str, int]
FAILED = 1


@click.group()
def cluster() -> None:
    """See how a cluster is, and move its leaders and replicas."""


@cluster.command()
@bootstrap_option
@json_option
def status(*, bootstrap: str, as_json: bool) -> int:
    """Show the brokers, what they hold, and what is not as it should be.

    Exit status 1 where a partition has no leader or too few replicas in sync. A broker without an address is away.
    """
    with admin_at(bootstrap) as admin:
        told = admin.describe_cluster()
        topics = admin.describe_topics()
        moving = admin.reassignments()
    document = described(told, topics, moving)
    if as_json:
        report.print_json(document)
    else:
        print_status(document)
    return FAILED if document["without_leader"] or document["out_of_sync"] else 0


@cluster.command("elect-leaders")
@click.argument("places", nargs=-1, metavar="TOPIC:PARTITION…")
@click.option(
    "--unclean", is_flag=True, help="Whoever lives, where nobody else can lead; what it lacks is lost."
)
@bootstrap_option
@json_option
def elect_leaders(*, places: tuple[str, ...], unclean: bool, bootstrap: str, as_json: bool) -> int:
    """Give partitions back to their preferred leaders; all of them where none is named."""
    wanted = [parse_place(text) for text in places] or None
    if unclean and wanted is None:
        raise click.UsageError("an unclean election loses records: name the partitions")
    with admin_at(bootstrap) as admin:
        found = admin.elect_leaders(wanted, unclean=unclean)
    return tell("elected", found, as_json=as_json)


@cluster.command()
@click.argument("moves", nargs=-1, metavar="TOPIC:PARTITION=BROKER,…")
@click.option("--cancel", "cancelled", multiple=True, metavar="TOPIC:PARTITION", help="Give up a move.")
@click.option("--list", "listed", is_flag=True, help="Show what is moving.")
@click.option("--lift-throttle", is_flag=True, help="End what an interrupted --throttle left in force.")
@throttle_option
@bootstrap_option
@json_option
def reassign(
    *,
    moves: tuple[str, ...],
    cancelled: tuple[str, ...],
    listed: bool,
    lift_throttle: bool,
    throttle: int | None,
    bootstrap: str,
    as_json: bool,
) -> int:
    """Give partitions other replicas, the preferred leader first; records move in the background."""
    targets: dict[Place, Sequence[int] | None] = {}
    for place, replicas in (*map(parse_move, moves), *((parse_place(text), None) for text in cancelled)):
        if place in targets:
            raise click.UsageError(f"{report.place(place)} is named twice: say once where it is to go")
        targets[place] = replicas
    if [listed, lift_throttle, bool(targets)].count(True) != 1:
        raise click.UsageError(
            "name moves as TOPIC:PARTITION=BROKER,…, or give --cancel, or --list or --lift-throttle alone"
        )
    plan = {place: tuple(row) for place, row in targets.items() if row is not None}
    if throttle is not None and (not plan or len(plan) < len(targets)):
        raise click.UsageError(
            "--throttle is for moves: name them as TOPIC:PARTITION=BROKER,…, without --cancel"
        )
    with admin_at(bootstrap) as admin:
        if listed:
            return _list(admin, as_json=as_json)
        if lift_throttle:
            lift(admin)
            return 0
        if throttle is not None:
            again = "fastlog cluster reassign"
            found = carry_out(admin, plan, at_once=len(plan), again=again, bytes_per_second=throttle)
            return tell("moved", found, as_json=as_json)
        found = admin.reassign(targets)
    return tell("moving", found, as_json=as_json)


def _list(admin: Admin, *, as_json: bool) -> int:
    found = admin.reassignments()
    if as_json:
        report.print_json({"reassigning": {report.place(place): asdict(it) for place, it in found.items()}})
    elif found:
        rows = [
            [report.place(place), *map(report.cell, (it.replicas, it.adding, it.removing))]
            for place, it in found.items()
        ]
        report.print_table(("partition", "replicas", "adding", "removing"), rows)
    return 0


at_once_option = click.option(
    "--at-once",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="How many partitions move at a time.",
)


@cluster.command()
@click.option("--dry-run", is_flag=True, help="Show the plan only.")
@click.option(
    "--without", type=click.IntRange(min=0), multiple=True, metavar="BROKER", help="Plan nothing for it."
)
@at_once_option
@throttle_option
@bootstrap_option
@json_option
def balance(
    *,
    dry_run: bool,
    without: tuple[int, ...],
    at_once: int,
    throttle: int | None,
    bootstrap: str,
    as_json: bool,
) -> int:
    """Give all brokers as many replicas and as many leaders, and wait until that is so.

    As few replicas move as that takes, and racks are kept apart. What is even already is left alone.
    """
    with admin_at(bootstrap) as admin:
        before = {
            (topic.name, it.partition): it.replicas
            for topic in admin.describe_topics()
            for it in topic.partitions
        }
        plan = admin.balance_plan(without=without)
        if not as_json:
            _print_plan(before, plan)
        if dry_run:
            return tell("to move", dict.fromkeys(plan), as_json=as_json)
        again = "fastlog cluster balance"
        found = carry_out(admin, plan, at_once=at_once, again=again, bytes_per_second=throttle)
        admin.elect_leaders()
    return tell("moved", found, as_json=as_json)


def _print_plan(before: Mapping[Place, Sequence[int]], plan: Mapping[Place, Sequence[int]]) -> None:
    """What each broker has, and will have."""
    rows = []
    counted = [_loads(before), _loads({**before, **plan})]
    for broker in sorted(counted[0].keys() | counted[1].keys()):
        (held, led), (holds, leads) = (each.get(broker, (0, 0)) for each in counted)
        rows.append((broker, held, holds, led, leads))
    report.print_table(("broker", "holds", "will hold", "preferred for", "will be"), rows)


def _loads(rows: Mapping[Place, Sequence[int]]) -> dict[int, tuple[int, int]]:
    """How many replicas each broker has, and of how many partitions it is the preferred leader."""
    holds = Counter(broker for row in rows.values() for broker in row)
    leads = Counter(row[0] for row in rows.values() if row)
    return {broker: (count, leads[broker]) for broker, count in holds.items()}


@cluster.command()
@click.argument("broker", type=click.IntRange(min=0))
@at_once_option
@throttle_option
@bootstrap_option
@json_option
def decommission(*, broker: int, at_once: int, throttle: int | None, bootstrap: str, as_json: bool) -> int:
    """Move every replica off a broker, and wait until it holds nothing and may be stopped."""
    with admin_at(bootstrap) as admin:
        again = f"fastlog cluster decommission {broker}"
        found: dict[Place, KafkaError | None] = {}
        # topics that are made meanwhile may have got replicas there
        while plan := _left_on(admin, broker, found):
            found |= carry_out(admin, plan, at_once=at_once, again=again, bytes_per_second=throttle)
    return tell("moved", found, as_json=as_json)


def _left_on(admin: Admin, broker: int, found: Mapping[Place, object]) -> dict[Place, tuple[int, ...]]:
    """The plan for what a broker holds still, without what was moved or refused before."""
    try:
        plan = admin.decommission_plan(broker)
    except BrokerIdNotRegisteredError:
        if not found:
            raise
        # it was dead when this began, and has nothing now
        return {}
    return {place: row for place, row in plan.items() if place not in found}


def tell(what: str, found: Mapping[Place, KafkaError | None], *, as_json: bool) -> int:
    """Says what became of partitions; the exit status."""
    failed = {place: error for place, error in found.items() if error is not None}
    done = [place for place in found if place not in failed]
    if as_json:
        report.print_json(
            {
                what: [report.place(place) for place in done],
                "failed": {report.place(place): str(error) for place, error in failed.items()},
            }
        )
    else:
        click.echo(f"{what} {report.counted(len(done), 'partition')}")
        for place, error in failed.items():
            click.echo(f"{report.place(place)}: {error}", err=True)
    return FAILED if failed else 0


def parse_place(text: str) -> Place:
    """A partition written as TOPIC:PARTITION."""
    topic, _, partition = text.rpartition(":")
    if not topic or not partition.isdecimal():
        raise click.BadParameter(f"{text!r} is no TOPIC:PARTITION, for instance orders:0")
    return topic, int(partition)


def parse_move(text: str) -> tuple[Place, tuple[int, ...]]:
    """A partition and its replicas, written as TOPIC:PARTITION=BROKER,BROKER,…."""
    place, _, brokers = text.partition("=")
    ids = brokers.split(",")
    if not all(each.strip().isdecimal() for each in ids):
        raise click.BadParameter(f"{text!r} is no TOPIC:PARTITION=BROKER,…, for instance orders:0=1,2,3")
    return parse_place(place), tuple(int(each) for each in ids)
