"""Every line of docs/durability.md: each kind of crash, under load, keeps what the page promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.__main__ import PAGE
from tests.crashes.kinds import KINDS, Kind
from tests.crashes.table import complaints, promises, run


def test_the_page_says_what_is_tested_here() -> None:
    assert promises() in PAGE.read_text(), "run `python -m tests.crashes --write` as root"


@pytest.mark.usefixtures("make_disk", "inject")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_crash_keeps_what_is_promised(kind: Kind, tmp_path: Path) -> None:
    assert complaints(kind, run(kind, tmp_path, seconds=0.5)) == []
