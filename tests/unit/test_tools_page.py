"""docs/tools.md names the tools that the tests run, and tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.java_tools import SCRIPTS, rows_of

TESTS = Path(__file__).parents[1] / "integration"


def test_the_page_names_the_tools_that_are_run() -> None:
    works, refused = rows_of("What works"), rows_of("What is refused")
    named = {row[0].strip("`").split()[0] for row in works + refused}
    assert sorted(named) == sorted(SCRIPTS)
    for tool, _, where in works:
        class_name = SCRIPTS[tool.strip("`")].rsplit(".", 1)[1]
        sources = [(TESTS / f"{name}.py").read_text() for name in re.findall(r"`([\w/]+)`", where)]
        assert sources, tool
        for source in sources:
            assert class_name in source or tool.strip("`") in source or "dump_log(" in source, (tool, where)
