"""What a consumer may be told: checked when it is made, and known to type checkers."""

from __future__ import annotations

import subprocess
import sys
from typing import get_type_hints

import pytest

from fastlog.client.consumer import ConsumerOptions
from fastlog.client.consumer.consumer import make_options
from fastlog.client.consumer.options import STRATEGIES, OptionTypes
from fastlog.errors import ConfigError
from fastlog.state.assignors import ASSIGNORS


def test_type_checkers_know_every_option() -> None:
    fields = ConsumerOptions.__dataclass_fields__
    assert get_type_hints(OptionTypes) == {name: get_type_hints(ConsumerOptions)[name] for name in fields}


def test_every_assignor_may_be_chosen() -> None:
    assert tuple(ASSIGNORS) == STRATEGIES
    assert make_options({"partition_assignment_strategy": list(STRATEGIES)}).strategies == STRATEGIES


def test_a_consumer_without_a_group_imports_none_of_it() -> None:
    code = "import sys, fastlog; fastlog.Consumer().close(); print(*[m for m in sys.modules if 'assignors' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"auto_offset_rset": "latest"},
            "no option 'auto_offset_rset'; it has auto_commit_interval_ms, auto_offset_reset",
        ),
        ({"auto_offset_reset": "first"}, "must be one of 'earliest', 'latest', 'none'"),
        ({"isolation_level": "serializable"}, "must be one of 'read_uncommitted', 'read_committed'"),
        ({"partition_assignment_strategy": "fair"}, "must be one of 'range', 'roundrobin', 'sticky'"),
        ({"partition_assignment_strategy": ["range", "fair"]}, "'fair'; it must be one of"),
        ({"partition_assignment_strategy": ()}, "name at least one"),
        ({"heartbeat_interval_ms": 45_000}, r"must be below session_timeout_ms \(45000\)"),
        ({"group_protocol": "newest"}, "must be one of 'classic', 'consumer'"),
        (
            {"group_protocol": "consumer", "session_timeout_ms": 10_000},
            "session_timeout_ms is for group_protocol='classic'; leave it out: the broker sets it",
        ),
        (
            {"group_protocol": "consumer", "heartbeat_interval_ms": 1_000},
            "heartbeat_interval_ms is for group_protocol='classic'",
        ),
        (
            {"group_protocol": "consumer", "partition_assignment_strategy": "sticky"},
            "leave it out: the broker assigns, see group_remote_assignor",
        ),
        ({"group_remote_assignor": "range"}, "group_remote_assignor is for group_protocol='consumer'"),
        ({"group_instance_id": ""}, "group_instance_id is empty"),
        ({"fetch_min_bytes": -1}, "must be a whole number from 0"),
    ],
)
def test_a_wrong_option_is_named(options: OptionTypes, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_options(options)
