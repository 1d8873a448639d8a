"""No setting is accepted and then ignored: whatever is honoured is read somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from fastlog.config.layers import BROKER_KEYS, TOPIC_KEYS
from fastlog.config.setting import Setting
from fastlog.config.table import BrokerSettings, TopicSettings

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "fastlog/config/table.py"
#: the structs that the engine takes its settings in; the compiler refuses a field of them that nobody reads
ENGINE = ROOT / "rust/native/src/engine/settings.rs"
#: those that are looked up by their name: `group.consumer.<bound>.<time>`, what the controller reads of any topic, and
#: what a restore reads of those that are there
BY_NAME = re.compile(
    r"group\.consumer\.(min|max)\.(session\.timeout|heartbeat\.interval)\.ms|unclean\.leader\.election\.enable"
    r"|fastlog\.restored\.from"
)


@pytest.fixture(scope="module")
def read() -> set[str]:
    """What is read of any object in Python, and the fields of the engine's structs."""
    found = set(re.findall(r"^    (?:pub(?:\(\w+\))? )?(\w+): ", ENGINE.read_text(), re.MULTILINE))
    for path in sorted((ROOT / "fastlog").rglob("*.py")):
        if path != TABLE:
            nodes = ast.walk(ast.parse(path.read_text()))
            found.update(
                it.attr for it in nodes if isinstance(it, ast.Attribute) and isinstance(it.ctx, ast.Load)
            )
    return found


def has_one_value(setting: Setting) -> bool:
    return len(setting.values) == 1 or (setting.minimum is not None and setting.minimum == setting.maximum)


@pytest.mark.parametrize(
    ("keys", "fields"),
    [(BROKER_KEYS, BrokerSettings.__struct_fields__), (TOPIC_KEYS, TopicSettings.__struct_fields__)],
    ids=["brokers", "topics"],
)
def test_what_is_honoured_is_read(keys: dict[str, Setting], fields: tuple[str, ...], read: set[str]) -> None:
    unread = [
        key
        for key, setting in keys.items()
        if setting.is_honoured
        and not (setting.converts_to or has_one_value(setting) or BY_NAME.fullmatch(key))
        # a broker's default of a topic's key is read with the topic's
        and not (keys is BROKER_KEYS and setting.topic)
        and not (key.replace(".", "_") in fields and key.replace(".", "_") in read)
    ]
    assert unread == []


def test_the_bounds_that_are_looked_up_by_name_are_there() -> None:
    named = [key for key in (*BROKER_KEYS, *TOPIC_KEYS) if BY_NAME.fullmatch(key)]
    assert len(set(named)) == 6
