"""`fastlog configs`: the settings of topics and brokers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fastlog.cli import report
from fastlog.cli.admin import admin_at, change_settings
from fastlog.cli.options import bootstrap_option, json_option, parse_pairs

if TYPE_CHECKING:
    from collections.abc import Callable


def subject(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--topic NAME` or `--broker ID`: whose settings."""
    command = click.option("--topic", metavar="NAME", help="The settings of a topic.")(command)
    return click.option(
        "--broker", type=click.IntRange(min=0), metavar="ID", help="The settings of a broker."
    )(command)


def require_one(topic: str | None, broker: int | None) -> str:
    """What is to be configured, in words; a usage error unless exactly one is named."""
    if (topic is None) == (broker is None):
        raise click.UsageError("give either --topic NAME or --broker ID")
    return f"topic {topic}" if topic is not None else f"broker {broker}"


@click.group()
def configs() -> None:
    """Describe and change the settings of topics and brokers."""


@configs.command()
@subject
@click.option("--all", "show_all", is_flag=True, help="Also those that have their default.")
@bootstrap_option
@json_option
def describe(*, topic: str | None, broker: int | None, show_all: bool, bootstrap: str, as_json: bool) -> None:
    """Show settings, their values and who set them."""
    require_one(topic, broker)
    with admin_at(bootstrap) as admin:
        found = admin.describe_configs(topic=topic, broker=broker)
    shown = [entry for _, entry in sorted(found.items()) if show_all or entry.source != "default"]
    if as_json:
        report.print_json({"topic": topic, "broker": broker, "configs": [asdict(entry) for entry in shown]})
        return
    rows = [[entry.name, "(secret)" if entry.is_sensitive else entry.value, entry.source] for entry in shown]
    report.print_table(("setting", "value", "source"), rows)


@configs.command("set")
@click.argument("pairs", nargs=-1, required=True, metavar="KEY=VALUE…")
@subject
@bootstrap_option
@json_option
def set_(
    *, pairs: tuple[str, ...], topic: str | None, broker: int | None, bootstrap: str, as_json: bool
) -> None:
    """Change settings; the others stay as they are."""
    change({**parse_pairs(pairs)}, topic, broker, bootstrap, as_json=as_json)


@configs.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY…")
@subject
@bootstrap_option
@json_option
def unset(
    *, keys: tuple[str, ...], topic: str | None, broker: int | None, bootstrap: str, as_json: bool
) -> None:
    """Put settings back to their defaults."""
    change(dict.fromkeys(keys), topic, broker, bootstrap, as_json=as_json)


def change(
    changes: dict[str, str | None], topic: str | None, broker: int | None, bootstrap: str, *, as_json: bool
) -> None:
    """Sends the changes and says so."""
    whose = require_one(topic, broker)
    with admin_at(bootstrap) as admin:
        change_settings(admin, changes, topic=topic, broker=broker)
    if as_json:
        report.print_json({"topic": topic, "broker": broker, "changed": changes})
    else:
        click.echo(f"changed {', '.join(changes)} of {whose}")
