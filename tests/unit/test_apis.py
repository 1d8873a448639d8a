"""The table of control APIs, and that a start does not wait for what handles them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastlog.broker.api import APIS
from fastlog.broker.control_api import ControlApi


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.key.name)
def test_each_has_what_handles_it(api: ControlApi) -> None:
    handlers = api.load()
    module = handlers.handle.__module__
    assert module.rpartition(".")[2] == api.key.name.lower()
    assert handlers.refuse.__module__.startswith("fastlog.")
    assert api.load() is handlers


def test_none_stands_twice() -> None:
    assert len({api.key for api in APIS}) == len(APIS)


def test_a_start_loads_neither_handlers_nor_groups_nor_asyncio() -> None:
    code = (
        "import sys, fastlog.broker.broker; "
        "print(*(it for it in sys.modules if it.startswith('fastlog.broker.api.') or it == 'asyncio' "
        "or it == 'fastlog.state.coordinator'))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == ""


def test_all_can_be_loaded_at_once() -> None:
    code = (
        "import sys, fastlog.broker.broker as it; it.load_rest(); "
        "print(*(name for name in sys.modules if name.startswith('fastlog.broker.api.')))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "fastlog.broker.api.groups.join_group" in ended.stdout.split()
