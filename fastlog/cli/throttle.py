"""Throttling moves from the command line, with the settings of KIP-73 that kafka-reassign-partitions.sh uses too."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fastlog.client.admin import Admin

    Place = tuple[str, int]

SIDES = ("leader", "follower")
LIFT = "fastlog cluster reassign --lift-throttle"


def throttle_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--throttle BYTES`."""
    return click.option(
        "--throttle",
        type=click.IntRange(min=1),
        metavar="BYTES",
        help="How many bytes a second each broker sends and takes at most for what moves; waits until it has moved.",
    )(command)


def begin(admin: Admin, plan: Mapping[Place, Sequence[int]], bytes_per_second: int) -> None:
    """Throttles what `plan` is going to move: those who have a partition send slowly, those who get it fetch slowly.

    Replicas in sync are never held back. Lists of before are replaced; `lift` takes all of it away.
    """
    now = {
        (topic.name, it.partition): it.replicas
        for topic in admin.describe_topics()
        for it in topic.partitions
    }
    # topic -> what sends, what fetches: PARTITION:BROKER each
    lists: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for place, target in sorted(plan.items()):
        present = now.get(place)
        if present is None:
            # whoever reassigns it hears that there is none
            continue
        topic, partition = place
        sends, fetches = lists[topic]
        sends += [f"{partition}:{broker}" for broker in present]
        fetches += [f"{partition}:{broker}" for broker in target if broker not in present]
    # the rates first: a list without one does nothing
    for node in admin.describe_cluster().brokers:
        rates: dict[str, str | None] = {_rate(side): str(bytes_per_second) for side in SIDES}
        admin.alter_configs(rates, broker=node.node_id)
    for topic, both in lists.items():
        values: dict[str, str | None] = {
            _list(side): ",".join(items) for side, items in zip(SIDES, both, strict=True)
        }
        admin.alter_configs(values, topic=topic)


def lift(admin: Admin, topics: Iterable[str] | None = None) -> None:
    """Ends throttling: on all brokers, and for `topics`, None for all of them."""
    names = [it.name for it in admin.list_topics(include_internal=True)]
    wanted = None if topics is None else set(topics)
    for name in names:
        if wanted is None or name in wanted:
            admin.alter_configs({_list(side): None for side in SIDES}, topic=name)
    for node in admin.describe_cluster().brokers:
        admin.alter_configs({_rate(side): None for side in SIDES}, broker=node.node_id)


def _rate(side: str) -> str:
    return f"{side}.replication.throttled.rate"


def _list(side: str) -> str:
    return f"{side}.replication.throttled.replicas"
