"""The command line as a whole: quick help, exit statuses, one-line errors."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from fastlog.cli import group
from fastlog.errors import ConfigError, NotReachableError, TopicAlreadyExistsError


def test_help_lists_every_command_and_loads_none() -> None:
    code = (
        "import sys\nfrom fastlog.cli.group import run\nassert run(['--help']) == 0\n"
        "slow = {'zmq', 'rich', 'asyncio', 'msgspec', 'fastlog.client', 'fastlog.native'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in group.COMMANDS:
        assert f"  {name} " in done.stdout


def test_an_unknown_command_is_used_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    assert group.run(["frobnicate"]) == 2
    assert "frobnicate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotReachableError("no broker at 127.0.0.1:1"), 3),
        (TopicAlreadyExistsError("topic flights exists"), 1),
        (ConfigError("unknown setting"), 2),
        (FileNotFoundError(2, "No such file or directory", "x.txt"), 1),
        (KeyboardInterrupt(), 1),
    ],
)
def test_errors_become_one_line_and_a_status(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(group.LazyGroup, "get_command", lambda *_: failing)
    assert group.run(["log"]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    message = captured.err.lstrip("\n")  # click moves to a fresh line after ^C
    assert message.startswith("fastlog: ")
    assert message.count("\n") == 1
