"""What the controller decides, as scripts: see tests/support/controller_script.py for the words.

`pytest tests/unit/state/controller --rewrite` writes down what happens now. Commit that only if you understand every
line of it. An empty line begins a new cluster.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.controller_script import run

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    happened = run(text)
    if request.config.getoption("--rewrite"):
        path.write_text(happened)
        return
    assert happened == text
