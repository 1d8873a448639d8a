"""What `fastlog cluster status` tells: who is there, what each broker has, and what is not as it should be."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fastlog.cli import report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlog.client.admin.results import ClusterDescription, Reassignment, TopicDescription

#: partitions that are named for each thing that is wrong with them
NAMED_MOST = 10


def described(
    told: ClusterDescription,
    topics: Sequence[TopicDescription],
    moving: Mapping[tuple[str, int], Reassignment],
) -> dict[str, Any]:
    """The status as --json prints it; a broker without an address is away, and holds what others may lack."""
    partitions = {(topic.name, it.partition): it for topic in topics for it in topic.partitions}
    leads = Counter(it.leader for it in partitions.values())
    holds = Counter(broker for it in partitions.values() for broker in it.replicas)
    behind = Counter(broker for it in partitions.values() for broker in it.replicas if broker not in it.isr)
    live = {it.node_id: it for it in told.brokers}
    return {
        "cluster_id": told.cluster_id,
        "controller": told.controller_id,
        "brokers": [
            {
                "broker": broker,
                "address": f"{live[broker].host}:{live[broker].port}" if broker in live else None,
                "rack": live[broker].rack if broker in live else None,
                "controller": broker == told.controller_id,
                "leads": leads[broker],
                "holds": holds[broker],
                "behind": behind[broker],
            }
            for broker in sorted(live.keys() | holds.keys())
        ],
        "partitions": len(partitions),
        "without_leader": [report.place(it) for it, state in partitions.items() if state.leader < 0],
        "out_of_sync": [
            report.place(it) for it, state in partitions.items() if len(state.isr) < len(state.replicas)
        ],
        "reassigning": {report.place(it): asdict(move) for it, move in moving.items()},
    }


def print_status(document: Mapping[str, Any]) -> None:
    """The same for people."""
    head = ("broker", "address", "rack", "controller", "leads", "holds", "behind")
    rows = [
        ["yes" if it[key] is True else "" if it[key] is False else report.cell(it[key]) for key in head]
        for it in document["brokers"]
    ]
    report.print_table(head, rows)
    for it in document["brokers"]:
        if it["address"] is None:
            click.echo(
                f"broker {it['broker']} is away, with {report.counted(it['holds'], 'replica')}: start it again, or "
                f"give them to others with `fastlog cluster decommission {it['broker']}`"
            )
    leaderless, lacking = document["without_leader"], document["out_of_sync"]
    click.echo(
        f"{report.counted(document['partitions'], 'partition')}, {len(leaderless)} without a leader, "
        f"{len(lacking)} with replicas out of sync, {len(document['reassigning'])} moving"
    )
    _print_some("no leader", leaderless)
    without = set(leaderless)
    _print_some("out of sync", [name for name in lacking if name not in without])


def _print_some(what: str, names: Sequence[str]) -> None:
    """A line for each, of thousands for the first ones."""
    for name in names[:NAMED_MOST]:
        click.echo(f"{what}: {name}")
    if len(names) > NAMED_MOST:
        click.echo(f"{what}: {len(names) - NAMED_MOST} more, which --json names")
