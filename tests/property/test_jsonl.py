"""JSON lines keep every byte: what `consume` prints, `produce` reads back."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlog.cli import jsonl

ANY = st.none() | st.binary() | st.text().map(str.encode)


@given(key=ANY, value=ANY, headers=st.lists(st.tuples(st.text(), ANY)), partition=st.integers(0, 99))
def test_round_trip(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], partition: int
) -> None:
    record = SimpleNamespace(
        topic="t", partition=partition, offset=7, timestamp_ms=9, key=key, value=value, headers=headers
    )
    line = jsonl.dump(record)
    assert "\n" not in line
    assert jsonl.load(line.encode()) == jsonl.Row(key, value, headers, partition, 9)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nonsense", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[1]", "not an object"),
        (b'{"valeu": "x"}', "unknown field 'valeu'"),
        (b'{"value": 3}', "value must be a string, null or"),
        (b'{"value": {"base64": "*"}}', "value is not base64"),
        (b'{"value": {"base64": 3}}', "value is not base64"),
        (b'{"headers": 3}', "headers must be a list"),
        (b'{"headers": [["a"]]}', "headers must be a list"),
        (b'{"partition": "one"}', "partition must be a whole number"),
        (b'{"partition": true}', "partition must be a whole number"),
    ],
)
def test_a_bad_line_says_why(line: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        jsonl.load(line)
