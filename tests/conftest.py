"""What all tests share: the long forms run only when asked for, and brokers for the tests that need servers."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from fastlog.testing import Cluster
from tests.support.broker import BrokerProcess

MakeBroker = Callable[..., BrokerProcess]

#: the first seed of the simulation, another in each run; the environment may say which
SIMULATION_SEEDS = "FASTLOG_SIMULATION_SEEDS"
SIMULATION_TEST = "tests/simulation/test_cluster.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests marked long")
    parser.addoption("--rewrite", action="store_true", help="write scenarios down as they happen now")


def pytest_configure() -> None:
    # a shell without job control starts what runs in the background with SIGINT ignored, and its children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # pytest's processes inherit it
    os.environ.setdefault(SIMULATION_SEEDS, str(int(time.time()) * 10_000))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    if any(SIMULATION_TEST in report.nodeid for report in reports):
        terminalreporter.write_line(f"simulation: {SIMULATION_SEEDS}={os.environ[SIMULATION_SEEDS]}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the brokers of a cluster said last is shown where a test with one fails: nobody sees it happen again."""
    report = yield
    if report.when == "call" and report.failed and isinstance(item, pytest.Function):
        for cluster in (it for it in item.funcargs.values() if isinstance(it, Cluster)):
            for broker_id, broker in cluster.brokers.items():
                report.sections.append((f"log of broker {broker_id}", broker.log()))
    return report


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[MakeBroker]:
    """Starts brokers for one test; whatever is alive at its end is killed."""
    made: list[BrokerProcess] = []

    def make(
        name: str = "data", *, settings: dict[str, str] | None = None, start: bool = True
    ) -> BrokerProcess:
        broker = BrokerProcess(tmp_path / name, settings=settings)
        made.append(broker)
        return broker.start() if start else broker

    yield make
    for broker in made:
        broker.kill()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One broker for all tests that do not care about its data or its end; it must stop cleanly."""
    shared = BrokerProcess(tmp_path_factory.mktemp("broker") / "data").start()
    yield shared
    assert shared.stop() == 0, shared.log()
    assert shared.more_output() == []


@pytest.fixture
def topic_name(request: pytest.FixtureRequest, _numbers: Iterator[int]) -> str:
    """A topic name that no other test uses."""
    return f"{request.function.__name__[:60]}-{os.getpid()}-{next(_numbers)}"


@pytest.fixture(scope="session")
def _numbers() -> Iterator[int]:
    return itertools.count()
