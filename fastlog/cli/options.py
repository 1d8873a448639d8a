"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Command = TypeVar("Command", bound="Callable[..., Any]")
BOOTSTRAP = "127.0.0.1:9092"


def bootstrap_option(command: Command) -> Command:
    """`--bootstrap HOST:PORT`: where the cluster is."""
    return click.option(
        "--bootstrap",
        default=BOOTSTRAP,
        metavar="HOST:PORT[,…]",
        show_default=True,
        help="A broker of the cluster, or several.",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`: the command's own report as JSON."""
    return click.option("--json", "as_json", is_flag=True, help="Print the command's report as JSON.")(
        command
    )


def config_option(text: str) -> Callable[[Command], Command]:
    """`--config KEY=VALUE`, any number of times; arrives as a dict."""
    return click.option("--config", "config", multiple=True, metavar="KEY=VALUE", callback=_pairs, help=text)


def _pairs(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    return parse_pairs(values)


def parse_pairs(texts: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` texts as a dict; the last one wins."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"{text!r} is not KEY=VALUE, for instance retention.ms=86400000")
        found[key.strip()] = value
    return found
