"""What a consumer may be told: checked when it is made, and known to type checkers."""

from __future__ import annotations

from typing import get_type_hints

import pytest

from fastlog.client.consumer import ConsumerOptions
from fastlog.client.consumer.consumer import make_options
from fastlog.client.consumer.options import OptionTypes
from fastlog.errors import ConfigError


def test_type_checkers_know_every_option() -> None:
    fields = ConsumerOptions.__dataclass_fields__
    assert get_type_hints(OptionTypes) == {name: get_type_hints(ConsumerOptions)[name] for name in fields}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"auto_offset_rset": "latest"}, "no option 'auto_offset_rset'; it has auto_offset_reset"),
        ({"auto_offset_reset": "first"}, "must be one of 'earliest', 'latest', 'none'"),
        ({"isolation_level": "serializable"}, "must be one of 'read_uncommitted', 'read_committed'"),
        ({"fetch_min_bytes": -1}, "must be a whole number from 0"),
    ],
)
def test_a_wrong_option_is_named(options: OptionTypes, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_options(options)
