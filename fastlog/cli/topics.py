"""`fastlog topics`: create, list, describe, alter and delete topics."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fastlog.cli import report
from fastlog.cli.admin import admin_at, change_settings, each
from fastlog.cli.options import bootstrap_option, config_option, json_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.client.admin import Admin

#: partitions that do not tell their offsets are tried for so long: of a broker that lives one answer is enough
PATIENCE_MS = 5_000
# shown wherever a topic is described, also where it is the default
DURABILITY = "fastlog.durability"


@click.group()
def topics() -> None:
    """Create, list, describe, alter and delete topics."""


@topics.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option(
    "--partitions", type=click.IntRange(min=1), help="How many; the broker's num.partitions without it."
)
@click.option(
    "--replication-factor",
    type=click.IntRange(min=1),
    help="Copies of each partition; the broker's default.replication.factor without it.",
)
@config_option("A setting of the topic, any number of times.")
@bootstrap_option
@json_option
def create(
    *,
    names: tuple[str, ...],
    partitions: int | None,
    replication_factor: int | None,
    config: Mapping[str, str],
    bootstrap: str,
    as_json: bool,
) -> None:
    """Create topics."""
    made: list[dict[str, Any]] = []
    with admin_at(bootstrap) as admin:

        def act(name: str) -> None:
            topic = admin.create_topic(
                name, partitions=partitions or -1, replication_factor=replication_factor or -1, configs=config
            )
            made.append(asdict(topic))
            if not as_json:
                # at once: a later one may be refused
                click.echo(
                    f"created {topic.name}: {report.counted(topic.partition_count, 'partition')}, "
                    f"{report.counted(topic.replication_factor, 'copy', 'copies')} of each"
                )

        each("creating", names, act, {"created": made} if as_json else None)


@topics.command("list")
@click.option("--internal", is_flag=True, help="Also those that the brokers keep for themselves.")
@bootstrap_option
@json_option
def list_(*, internal: bool, bootstrap: str, as_json: bool) -> None:
    """List topics, by name."""
    with admin_at(bootstrap) as admin:
        found = admin.list_topics(include_internal=internal)
    if as_json:
        report.print_json({"topics": [asdict(topic) for topic in found]})
        return
    for topic in found:
        click.echo(topic.name)


@topics.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@bootstrap_option
@json_option
def describe(*, names: tuple[str, ...], bootstrap: str, as_json: bool) -> int:
    """Show partitions, replicas, offsets and settings.

    Of the settings those that are not the default. Status 1 where a partition cannot be read.
    """
    found: list[dict[str, Any]] = []
    with admin_at(bootstrap) as admin:

        def act(name: str) -> None:
            found.append(description(admin, name))
            if not as_json:
                print_topic(found[-1])

        each("describing", names, act, {"topics": found} if as_json else None)
    return 1 if any(entry["error"] for topic in found for entry in topic["partitions"]) else 0


def description(admin: Admin, name: str) -> dict[str, Any]:
    """All that is shown about a topic."""
    topic = asdict(admin.describe_topic(name))
    led = [entry["partition"] for entry in topic["partitions"] if entry["leader"] >= 0]
    failed: dict[tuple[str, int], Exception] = {}
    first = admin.list_offsets(
        {(name, number): "earliest" for number in led}, unanswered=failed, timeout_ms=PATIENCE_MS
    )
    end = admin.list_offsets(dict.fromkeys(first, "latest"), unanswered=failed, timeout_ms=PATIENCE_MS)
    for entry in topic["partitions"]:
        place = (name, entry["partition"])
        entry["log_start_offset"] = first[place].offset if place in first else None
        entry["log_end_offset"] = end[place].offset if place in end else None
        entry["error"] = str(failed[place]) if place in failed else None
    settings = admin.describe_configs(topic=name).values()
    shown = [entry for entry in settings if entry.source != "default" or entry.name == DURABILITY]
    topic["configs"] = {entry.name: {"value": entry.value, "source": entry.source} for entry in shown}
    return topic


def print_topic(topic: Mapping[str, Any]) -> None:
    """A topic for people."""
    click.echo(
        f"{topic['name']}  id {topic['topic_id'] or '-'}  {report.counted(len(topic['partitions']), 'partition')}"
    )
    for name, entry in sorted(topic["configs"].items()):
        click.echo(f"  {name} = {entry['value']}  ({entry['source']})")
    columns = ("partition", "leader", "leader_epoch", "replicas", "isr", "log_start_offset", "log_end_offset")
    rows = [[report.cell(entry[column]) for column in columns] for entry in topic["partitions"]]
    report.print_table([column.replace("_", " ") for column in columns], rows)
    for entry in topic["partitions"]:
        if entry["error"]:
            click.echo(f"partition {entry['partition']} cannot be read: {entry['error']}")


@topics.command()
@click.argument("name")
@click.option("--partitions", type=click.IntRange(min=1), help="The new, larger number of partitions.")
@config_option("A setting to change, any number of times.")
@click.option(
    "--delete-config", "unset", multiple=True, metavar="KEY", help="A setting to put back to its default."
)
@bootstrap_option
@json_option
def alter(
    *,
    name: str,
    partitions: int | None,
    config: Mapping[str, str],
    unset: tuple[str, ...],
    bootstrap: str,
    as_json: bool,
) -> None:
    """Add partitions to a topic, or change its settings.

    Records keep their partition, but the partition that a key hashes to depends on their number.
    """
    changes: dict[str, str | None] = {**config, **dict.fromkeys(unset)}
    if partitions is None and not changes:
        raise click.UsageError("nothing to change: give --partitions, --config or --delete-config")
    with admin_at(bootstrap) as admin:
        if changes:
            change_settings(admin, changes, topic=name)
        if partitions is not None:
            admin.create_partitions(name, partitions)
    if as_json:
        report.print_json({"topic": name, "partitions": partitions, "configs": changes})
    else:
        click.echo(f"altered {name}")


@topics.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@bootstrap_option
@json_option
def delete(*, names: tuple[str, ...], bootstrap: str, as_json: bool) -> None:
    """Delete topics and all their records."""
    gone: list[str] = []
    with admin_at(bootstrap) as admin:

        def act(name: str) -> None:
            admin.delete_topic(name)
            gone.append(name)
            if not as_json:
                click.echo(f"deleted {name}")

        each("deleting", names, act, {"deleted": gone} if as_json else None)
