"""What groups do, as scripts: see tests/support/group_script.py for the words.

`pytest tests/unit/groups --rewrite` writes down what happens now. Commit that only if you understand every line of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.group_script import run

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    happened = run(text)
    if request.config.getoption("--rewrite"):
        path.write_text(happened)
        return
    assert happened == text
