"""`fastlog groups`: list, describe, move and delete groups of consumers."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from fastlog.cli import report
from fastlog.cli.admin import admin_at, each
from fastlog.cli.options import bootstrap_option, json_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.client.admin.results import GroupDescription, OffsetReset

# the last two are of the protocol of KIP-848
STATES = (
    "Empty",
    "PreparingRebalance",
    "CompletingRebalance",
    "Stable",
    "Dead",
    "Assigning",
    "Reconciling",
)


@click.group()
def groups() -> None:
    """List, describe, move and delete groups of consumers."""


@groups.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="STATE",
    type=click.Choice(STATES, case_sensitive=False),
    help="Only those in this state.",
)
@bootstrap_option
@json_option
def list_(*, states: tuple[str, ...], bootstrap: str, as_json: bool) -> None:
    """List groups, by name.

    States are Empty, PreparingRebalance, CompletingRebalance, Stable and Dead, on Apache Kafka also Assigning and
    Reconciling; --state may be given several times.
    """
    with admin_at(bootstrap) as admin:
        found = admin.list_groups(states=states)
    if as_json:
        report.print_json({"groups": [asdict(group) for group in found]})
        return
    for group in found:
        click.echo(group.group_id)


@groups.command()
@click.argument("names", nargs=-1, required=True, metavar="GROUP…")
@bootstrap_option
@json_option
def describe(*, names: tuple[str, ...], bootstrap: str, as_json: bool) -> None:
    """Show members, positions and lag."""
    found: list[dict[str, Any]] = []
    with admin_at(bootstrap) as admin:

        def act(name: str) -> None:
            (group,) = admin.describe_groups(name)
            found.append({**asdict(group), "lag": group.lag})
            if not as_json:
                print_group(group)

        each("describing", names, act, {"groups": found} if as_json else None)


def print_group(group: GroupDescription) -> None:
    """A group for people."""
    click.echo(
        f"{group.group_id}  {group.state}  {report.counted(len(group.members), 'member')}  lag {group.lag}"
        f"{f'  by {group.protocol}' if group.protocol else ''}"
    )
    members = {member.member_id: member for member in group.members}
    rows = []
    for one in group.offsets:
        member = members.get(one.member_id or "")
        who = (member.client_id, member.host, member.member_id) if member is not None else (None,) * 3
        numbers = (one.partition, one.committed, one.log_end_offset, one.lag)
        rows.append([one.topic, *(report.cell(value) for value in (*numbers, *who))])
    report.print_table(("topic", "partition", "position", "end", "lag", "client", "host", "member"), rows)
    idle = [member for member in group.members if not member.assignment]
    for member in idle:
        click.echo(f"without partitions: {member.client_id}  {member.host}  {member.member_id}")


@groups.command("reset-offsets")
@click.argument("name", metavar="GROUP")
@click.option(
    "--topic", "topics", multiple=True, metavar="TOPIC[:N,…]", help="Only this topic, or these partitions."
)
@click.option("--to-earliest", is_flag=True, help="To the first record.")
@click.option("--to-latest", is_flag=True, help="Behind the last record.")
@click.option("--to-offset", type=click.IntRange(min=0), metavar="N", help="To this offset.")
@click.option("--to-time", metavar="TIME", help="To the first record of this time or later.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@bootstrap_option
@json_option
def reset_offsets(
    *,
    name: str,
    topics: tuple[str, ...],
    to_earliest: bool,
    to_latest: bool,
    to_offset: int | None,
    to_time: str | None,
    dry_run: bool,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Move a group without members, by default in all partitions that it has positions for.

    TIME is milliseconds since 1970, or like 2026-11-26T12:00:00 (local time unless it says +01:00 or Z).
    """
    if sum((to_earliest, to_latest, to_offset is not None, to_time is not None)) != 1:
        raise click.UsageError("give one of --to-earliest, --to-latest, --to-offset and --to-time")
    whole, single = parse_topics(topics)
    with admin_at(bootstrap) as admin:
        done = admin.reset_group_offsets(
            name,
            to="earliest" if to_earliest else "latest" if to_latest else None,
            offset=to_offset,
            timestamp_ms=None if to_time is None else parse_time(to_time),
            topics=whole,
            partitions=single,
            dry_run=dry_run,
        )
    if as_json:
        report.print_json({"group": name, "dry_run": dry_run, "offsets": [asdict(one) for one in done]})
    else:
        print_resets(name, done, dry_run=dry_run)


def print_resets(name: str, done: list[OffsetReset], *, dry_run: bool) -> None:
    """What was moved, for people."""
    if not done:
        click.echo(f"{name} has no positions; name what to move with --topic")
        return
    rows = [[one.topic, one.partition, report.cell(one.before), one.after] for one in done]
    report.print_table(("topic", "partition", "position", "would be" if dry_run else "now"), rows)


def parse_topics(texts: tuple[str, ...]) -> tuple[list[str], list[tuple[str, int]]]:
    """Whole topics, and single partitions of others."""
    whole, single = [], []
    for text in texts:
        topic, colon, numbers = text.partition(":")
        if not colon:
            whole.append(topic)
            continue
        parts = numbers.split(",")
        if not all(part.isdecimal() for part in parts):
            raise click.BadParameter(f"{text!r} is not TOPIC or TOPIC:N,…, for instance flights:0,2")
        single += [(topic, int(part)) for part in parts]
    return whole, single


def parse_time(text: str) -> int:
    """Milliseconds since 1970."""
    if text.isdecimal():
        return int(text)
    try:
        return max(0, round(datetime.fromisoformat(text).astimezone().timestamp() * 1000))
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{text!r} is no time: write milliseconds since 1970, or like 2026-11-26T12:00:00"
        ) from error


@groups.command()
@click.argument("names", nargs=-1, required=True, metavar="GROUP…")
@bootstrap_option
@json_option
def delete(*, names: tuple[str, ...], bootstrap: str, as_json: bool) -> None:
    """Delete groups without members, and their positions."""
    gone: list[str] = []
    document: Mapping[str, object] | None = {"deleted": gone} if as_json else None
    with admin_at(bootstrap) as admin:

        def act(name: str) -> None:
            admin.delete_groups(name)
            gone.append(name)
            if not as_json:
                click.echo(f"deleted {name}")

        each("deleting", names, act, document)
