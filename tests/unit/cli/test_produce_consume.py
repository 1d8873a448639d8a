"""The parts of `produce` and `consume` that need no broker."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import click
import pytest

from fastlog.cli import consume, jsonl, options, produce, report
from fastlog.cli.jsonl import Row
from fastlog.errors import FastlogError


@pytest.mark.parametrize(
    ("separator", "line", "key", "value"),
    [
        (None, b"a:b", None, b"a:b"),
        (":", b"a:b:c", b"a", b"b:c"),
        (":", b":b", b"", b"b"),
        (":", b"a:", b"a", b""),
        (":", b"no key", None, b"no key"),
        ("=>", b"a=>b", b"a", b"b"),
    ],
)
def test_a_line_is_split_at_the_first_separator(
    separator: str | None, line: bytes, key: bytes | None, value: bytes
) -> None:
    assert produce.line_parser(separator)(line) == Row(key, value, (), None, None)


def test_lines_are_numbered_by_file_and_a_last_line_needs_no_end(tmp_path: Path) -> None:
    for name, text in {"a": "1\n2\n", "b": "3"}.items():
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / "a"), str(tmp_path / "b")]
    lines = list(produce.numbered_lines(files))
    assert [line for _, line in lines] == [b"1", b"2", b"3"]
    assert lines[2][0] == f"{files[1]}, line 1"
    assert produce.total_bytes(files) == 5
    assert produce.total_bytes([*files, "-"]) is None


def test_consume_ends_at_the_first_of_its_ends() -> None:
    place = ("t", 0)
    stop = consume.Stop(records_max=10, silence_seconds=None, ends={place: 7})
    assert not stop.is_due(dict)
    assert not stop.is_due(lambda: {place: 6})
    assert stop.is_due(lambda: {place: 7})
    stop.note(8)
    assert stop.wanted() == 2
    stop.note(2)
    assert stop.is_due(lambda: {place: 0})


def test_consume_without_an_end_goes_on() -> None:
    stop = consume.Stop(None, None, None)
    stop.note(10**6)
    assert not stop.is_due(dict)
    assert stop.wanted() == consume.POLL_RECORDS


def test_an_empty_topic_is_at_its_end_at_once() -> None:
    assert consume.Stop(None, None, {("t", 0): 0, ("t", 1): 0}).is_due(dict)


def test_silence_ends() -> None:
    stop = consume.Stop(None, 5.0, None)
    assert not stop.is_due(dict)
    stop.heard -= 6
    assert stop.is_due(dict)


def test_it_goes_on_as_long_as_anything_comes_that_is_wanted() -> None:
    """A partition that is at its end, and gets more, is no reason to wait for another one for ever."""
    bad, slow, grows = (("t", number) for number in range(3))
    at = {bad: 5, slow: 0, grows: 9}
    stop = consume.Stop(None, None, {bad: 7, slow: 3, grows: 9})
    reasons = {bad: FastlogError("its disk failed")}
    for came in range(4):
        at.update({slow: came, grows: 9 + came})
        assert not stop.is_due(lambda: at)
        stop.check_goes_on(lambda: reasons)
        stop.note(1, consume.PATIENCE_SECONDS)
    at[grows] = 20
    assert not stop.is_due(lambda: at)
    with pytest.raises(FastlogError, match=r"not read to the end.*: t-0 \(its disk failed\)\. What can be"):
        stop.check_goes_on(lambda: reasons)


def test_pairs() -> None:
    assert options.parse_pairs(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for bad in ("a", "=1"):
        with pytest.raises(click.BadParameter, match="KEY=VALUE"):
            options.parse_pairs([bad])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"timestamp_ms": -5}', "timestamp_ms must be a whole number from 0"),
        (b'{"timestamp_ms": 9223372036854775808}', "timestamp_ms must be a whole number from 0"),
        (b'{"partition": -1}', "partition must be a whole number from 0"),
        (b'{"partition": 1e3}', "partition must be a whole number from 0"),
        (b'{"partition": 2147483648}', "partition must be a whole number from 0"),
        (b'{"value": "\\ud800"}', "value holds half a surrogate pair"),
        (b'{"value": 5}', "value must be a string"),
        (b'{"value": {"base64": "?"}}', "value is not base64"),
    ],
)
def test_a_line_that_is_no_record_says_why(line: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        jsonl.load(line)


def test_a_record_that_was_shown_without_a_timestamp_is_sent_without_one() -> None:
    assert jsonl.load(b'{"timestamp_ms": -1, "value": "v"}').timestamp_ms is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_bar_runs_into_what_is_shown_or_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with report.progress("reading", 2, beside=Terminal()) as advance:
        advance(1)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
    with report.progress("reading", 2, beside=io.StringIO()) as advance:
        advance(2)
    assert "reading" in sys.stderr.getvalue()  # type: ignore[attr-defined]
