"""What counts as old: by the wall clock, but not at once where that jumped."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastlog.broker.deletion_clock import FILE_NAME, DeletionClock

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
YEAR_MS = 365 * DAY_MS
START_MS = 56 * YEAR_MS


class Machine:
    """A wall clock that anybody may set, and the uptime."""

    def __init__(self) -> None:
        self.wall_ms = START_MS
        self.uptime_ms = 100 * HOUR_MS
        self.boot = "one"

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic_ms(self) -> int:
        return self.uptime_ms

    def pass_ms(self, ms: int) -> None:
        self.wall_ms += ms
        self.uptime_ms += ms

    def reboot(self, ms: int) -> None:
        """It was off for so long."""
        self.boot += "'"
        self.uptime_ms = 0
        self.wall_ms += ms


class Uptime:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def boot_id(self) -> str:
        return self._machine.boot

    def now_ms(self) -> int:
        return self._machine.uptime_ms


def start(machine: Machine, directory: Path, *, wait_ms: int = HOUR_MS) -> DeletionClock:
    return DeletionClock(machine, directory, wait_ms, Uptime(machine))


@pytest.fixture
def machine() -> Machine:
    return Machine()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_a_clock_that_goes_as_it_should(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = start(machine, tmp_path)
    for _ in range(100):
        machine.pass_ms(HOUR_MS)
        # NTP moves it a little
        machine.wall_ms += 60_000
        assert clock.now_ms() == machine.wall_ms
    clock.write()
    # a year without a broker, of which the machine knows
    machine.pass_ms(YEAR_MS)
    assert start(machine, tmp_path).now_ms() == machine.wall_ms
    machine.reboot(HOUR_MS)
    assert start(machine, tmp_path).now_ms() == machine.wall_ms
    assert not warnings(caplog)


def test_a_jump_ahead_is_believed_after_the_wait(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = start(machine, tmp_path)
    machine.wall_ms += YEAR_MS
    assert clock.now_ms() == START_MS
    machine.pass_ms(HOUR_MS - 1)
    assert clock.now_ms() == START_MS + HOUR_MS - 1
    assert len(warnings(caplog)) == 1
    machine.pass_ms(1)
    assert clock.now_ms() == machine.wall_ms == START_MS + YEAR_MS + HOUR_MS
    assert ["jumped far ahead" in it for it in warnings(caplog)] == [True, False]
    clock.write()
    assert start(machine, tmp_path).now_ms() == machine.wall_ms


def test_a_jump_that_ends(machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = start(machine, tmp_path)
    for jump_ms in (YEAR_MS, -YEAR_MS):
        caplog.clear()
        machine.wall_ms += jump_ms
        assert clock.now_ms() == min(machine.wall_ms, machine.wall_ms - jump_ms)
        machine.wall_ms -= jump_ms
        assert clock.now_ms() == machine.wall_ms
        machine.pass_ms(2 * HOUR_MS)
        assert clock.now_ms() == machine.wall_ms
        assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("reboots", [False, True])
def test_a_restart_while_the_clock_is_not_believed(
    machine: Machine, tmp_path: Path, *, reboots: bool
) -> None:
    """It does not make it believed, and the wait begins anew."""
    start(machine, tmp_path)
    machine.wall_ms += YEAR_MS
    for _ in range(3):
        if reboots:
            machine.reboot(60_000)
        machine.pass_ms(HOUR_MS // 2)
        assert start(machine, tmp_path).now_ms() < START_MS + 2 * HOUR_MS


@pytest.mark.parametrize(
    ("off_ms", "says"),
    [
        (20 * HOUR_MS, None),
        (2 * DAY_MS, "far past the last run"),
        (YEAR_MS, "far past"),
        (-YEAR_MS, "far behind"),
    ],
)
def test_a_machine_that_was_off(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture, off_ms: int, says: str | None
) -> None:
    start(machine, tmp_path).write()
    machine.reboot(off_ms)
    clock = start(machine, tmp_path)
    assert clock.now_ms() == (machine.wall_ms if says is None else min(START_MS, machine.wall_ms))
    assert [says is not None and says in it for it in warnings(caplog)] == [True] * (says is not None)
    machine.pass_ms(HOUR_MS)
    assert clock.now_ms() == machine.wall_ms


def test_without_a_wait_it_is_only_said(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = start(machine, tmp_path, wait_ms=0)
    machine.wall_ms += YEAR_MS
    assert clock.now_ms() == machine.wall_ms
    assert len(warnings(caplog)) == 2


@pytest.mark.parametrize(
    "text", ["", "version: 0\n", "version: 1\nboot_id: one\nuptime_ms: 0\nwall_ms: 0\n", "\0" * 80]
)
def test_a_file_that_does_not_read_says_nothing(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    assert start(machine, tmp_path).now_ms() == START_MS
    assert not warnings(caplog)
    # and is written anew
    assert "wall_ms: " in (tmp_path / FILE_NAME).read_text()


def test_a_disk_that_does_not_take_the_file(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    assert start(machine, tmp_path).now_ms() == START_MS
