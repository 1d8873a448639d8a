"""What pytest gets where fastlog is installed: the fixture `fastlog_broker`. Loaded by pytest alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastlog import Broker


@pytest.fixture
def fastlog_broker() -> Iterator[Broker]:
    """A fresh broker in the test's process, in memory, for one test: `fastlog_broker.bootstrap`."""
    # imported here: the plugin is loaded in every session of pytest, also where no test wants a broker
    from fastlog import Broker

    with Broker() as broker:
        yield broker
