"""What a broker says: to Python's logging as text, from `fastlog serve` as one line of logfmt."""

from __future__ import annotations

import io
import logging

import pytest

from fastlog.cli.serve import LogLine
from fastlog.events import EventLog


def test_a_program_s_own_logging_gets_text_with_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fastlog")
    EventLog("broker").info("logs open", directory="/a b", text="x", error="y", empty="")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("fastlog.broker", "INFO")
    assert record.getMessage() == 'logs open directory="/a b" text=x error=y empty=""'


def test_serve_writes_one_line_an_event_even_with_a_traceback() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(LogLine())
    logger = logging.getLogger("fastlog")
    logger.addHandler(handler)
    try:
        try:
            raise ZeroDivisionError('by "nobody"')
        except ZeroDivisionError:
            EventLog("control").exception("request failed", client="a=b")
    finally:
        logger.removeHandler(handler)
    (line,) = out.getvalue().splitlines()
    assert " level=error component=control event=" in line
    assert line.startswith("timestamp=20")
    assert 'client="a=b" exception="Traceback' in line
    assert line.endswith('\\nZeroDivisionError: by \\"nobody\\""')
