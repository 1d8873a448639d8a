"""`fastlog configs`: the settings of topics, brokers and groups."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypedDict

import click

from fastlog.cli import report
from fastlog.cli.admin import admin_at, change_settings
from fastlog.cli.options import bootstrap_option, json_option, parse_pairs

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack


class Subject(TypedDict):
    """Whose settings: one of these is not None."""

    topic: str | None
    broker: int | None
    group: str | None


def subject_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--topic NAME`, `--broker ID` or `--group NAME`: whose settings."""
    command = click.option("--topic", metavar="NAME", help="The settings of a topic.")(command)
    command = click.option("--group", metavar="NAME", help="The settings of a consumer group.")(command)
    return click.option(
        "--broker", type=click.IntRange(min=0), metavar="ID", help="The settings of a broker."
    )(command)


def named(subject: Subject) -> str:
    """What is to be configured, in words; a usage error unless exactly one is named."""
    found = [f"{kind} {name}" for kind, name in subject.items() if name is not None]
    if len(found) != 1:
        raise click.UsageError("give one of --topic NAME, --broker ID and --group NAME")
    return found[0]


@click.group()
def configs() -> None:
    """Describe and change the settings of topics, brokers and groups."""


@configs.command()
@subject_options
@click.option("--all", "show_all", is_flag=True, help="Also those that have their default.")
@bootstrap_option
@json_option
def describe(*, show_all: bool, bootstrap: str, as_json: bool, **subject: Unpack[Subject]) -> None:
    """Show settings, their values and who set them."""
    named(subject)
    with admin_at(bootstrap) as admin:
        found = admin.describe_configs(**subject)
    shown = [entry for _, entry in sorted(found.items()) if show_all or entry.source != "default"]
    if as_json:
        report.print_json({**subject, "configs": [asdict(entry) for entry in shown]})
        return
    rows = [[entry.name, "(secret)" if entry.is_sensitive else entry.value, entry.source] for entry in shown]
    report.print_table(("setting", "value", "source"), rows)


@configs.command("set")
@click.argument("pairs", nargs=-1, required=True, metavar="KEY=VALUE…")
@subject_options
@bootstrap_option
@json_option
def set_(*, pairs: tuple[str, ...], bootstrap: str, as_json: bool, **subject: Unpack[Subject]) -> None:
    """Change settings; the others stay as they are."""
    change({**parse_pairs(pairs)}, subject, bootstrap, as_json=as_json)


@configs.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY…")
@subject_options
@bootstrap_option
@json_option
def unset(*, keys: tuple[str, ...], bootstrap: str, as_json: bool, **subject: Unpack[Subject]) -> None:
    """Put settings back to their defaults."""
    change(dict.fromkeys(keys), subject, bootstrap, as_json=as_json)


def change(changes: dict[str, str | None], subject: Subject, bootstrap: str, *, as_json: bool) -> None:
    """Sends the changes and says so."""
    whose = named(subject)
    with admin_at(bootstrap) as admin:
        change_settings(admin, changes, **subject)
    if as_json:
        report.print_json({**subject, "changed": changes})
    else:
        click.echo(f"changed {', '.join(changes)} of {whose}")
