"""The group of commands, loaded lazily, and the one place where errors become exit statuses."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

import click

from fastlog.errors import ConfigError, FastlogError, NotReachableError

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE, FAILED, USED_WRONGLY, NOT_REACHABLE = 0, 1, 2, 3

# command -> the module and the attribute that hold it, and its line in the help
COMMANDS = {
    "serve": ("fastlog.cli.serve", "serve", "Run a broker until Ctrl-C or SIGTERM."),
    "topics": ("fastlog.cli.topics", "topics", "Create, list, describe, alter and delete topics."),
    "configs": ("fastlog.cli.configs", "configs", "Describe and change the settings of topics and brokers."),
    "produce": ("fastlog.cli.produce", "produce", "Send lines or JSON records to a topic."),
    "consume": ("fastlog.cli.consume", "consume", "Print the records of a topic."),
    "cluster": ("fastlog.cli.cluster", "cluster", "See how a cluster is, and move its leaders and replicas."),
    "disks": (
        "fastlog.cli.disks",
        "disks",
        "See the data directories of brokers, and move replicas among them.",
    ),
    "groups": ("fastlog.cli.groups", "groups", "List, describe, move and delete groups of consumers."),
    "backup": ("fastlog.cli.backup", "backup", "Back up topics and positions of groups to a directory."),
    "restore": (
        "fastlog.cli.backup",
        "restore",
        "Bring a backup back: the same records at the same offsets.",
    ),
    "bench": ("fastlog.cli.bench", "bench", "Measure this machine and this build, beside their limits."),
    "log": ("fastlog.cli.log", "log", "Look into the files of a log, without a broker."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and none to list them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports and returns the command; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command; a reader of our output that went away, as `head` does, is no error."""
        try:
            status = super().invoke(ctx)
            # whatever is buffered is written here, where a closed pipe is still an answer and not a traceback
            sys.stdout.flush()
        except BrokenPipeError:  # click would exit with 1
            return closed_pipe()
        return status

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="fastlog", message="fastlog %(version)s")
def fastlog() -> None:
    """A commit log that speaks Kafka's protocol: the broker and its tools."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and ends the process with its exit status."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit status. Errors are one line on standard error."""
    try:
        status = fastlog.main(args=arguments, prog_name="fastlog", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return complain("interrupted", FAILED)
    except NotReachableError as error:
        return complain(str(error), NOT_REACHABLE)
    except ConfigError as error:
        return complain(str(error), USED_WRONGLY)
    except (FastlogError, OSError) as error:
        return complain(str(error), FAILED)
    return status if isinstance(status, int) else DONE


def complain(message: str, status: int) -> int:
    """Says what went wrong; returns `status`."""
    click.echo(f"fastlog: {message}", err=True)
    return status


def closed_pipe() -> int:
    """Sends what is still buffered to nowhere; returns the status."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE
