"""The kinds of crash, each with what it must leave of the records that were acknowledged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.crashes.machine import Machine
from tests.support.faults.injection import injected
from tests.support.faults.loop_disk import set_earlier_boot

ALL = "everything"
SYNCED = "what was synced"
ALL_BUT_DAMAGED = "all but the damaged batch"


@dataclass(frozen=True)
class Kind:
    """One kind of crash."""

    name: str
    title: str
    crash: Callable[[Machine], None]
    """Under load: does it, ends the clients, and has the broker running again when it returns."""
    keeps: dict[str, str]
    """Durability -> what is left of the acknowledged records."""
    clients: str
    """What clients see."""
    start: str
    """What the next start does."""


def terminate(machine: Machine) -> None:
    """SIGTERM."""
    assert machine.broker.stop() == 0, machine.broker.log()
    machine.stop_clients()
    machine.broker.start()


def kill(machine: Machine) -> None:
    """kill -9."""
    machine.broker.kill()
    machine.stop_clients()
    machine.broker.start()


def cut_power(machine: Machine) -> None:
    """The power goes: the process, and what is not on the disk."""
    machine.broker.kill()
    machine.disk.cut_power()
    machine.stop_clients()
    machine.disk.restore_power()
    set_earlier_boot(machine.broker.data_dir)
    machine.broker.start()


def fill_disk(machine: Machine) -> None:
    """No room for a second; the broker runs on."""
    with machine.disk.filled():
        time.sleep(1.0)
    time.sleep(0.5)
    machine.stop_clients()


def fail_writes(machine: Machine) -> None:
    """EIO from pwritev."""
    with injected(machine.broker.pid, "pwritev", "error=EIO", map(machine.segment, machine.witnesses)):
        machine.wait_until_offline()
    restart_offline(machine)


def fail_syncs(machine: Machine) -> None:
    """EIO from fdatasync."""
    with injected(machine.broker.pid, "fdatasync", "error=EIO", [machine.segment("fsync")]):
        machine.wait_until_offline()
    restart_offline(machine)


def make_read_only(machine: Machine) -> None:
    """The file system gives up and becomes read-only, while no sync is on its way: the kernel may lie to that."""
    with machine.broker.held():
        machine.disk.make_read_only()
    machine.wait_until_offline()
    machine.stop_clients()
    assert machine.broker.stop() == 1
    machine.disk.restore_power()
    machine.broker.start()


def restart_offline(machine: Machine) -> None:
    """Stops a broker whose directory is offline, and starts it again on a good disk."""
    machine.stop_clients()
    assert machine.broker.stop() == 1
    machine.broker.start()


def flip_byte(machine: Machine) -> None:
    """One bit in the middle of each log, under the running broker."""
    machine.stop_clients()
    for durability in machine.witnesses:
        path = machine.segment(durability)
        position = path.stat().st_size // 2
        with path.open("r+b") as file:
            file.seek(position)
            (byte,) = file.read(1)
            file.seek(position)
            file.write(bytes([byte ^ 1]))


BOTH = {"os": ALL, "fsync": ALL}
KINDS = (
    Kind(
        "sigterm",
        "SIGTERM, Ctrl-C",
        terminate,
        BOTH,
        "requests in flight are answered, then connections end",
        "nothing to recover",
    ),
    Kind(
        "kill",
        "`kill -9`, a crash of the process",
        kill,
        BOTH,
        "connections end; producers send again",
        "scans from the recovery point, cuts a torn last batch",
    ),
    Kind(
        "power-cut",
        "power cut, crash of the kernel",
        cut_power,
        {"os": SYNCED, "fsync": ALL},
        "connections end; producers send again",
        "cuts at the first bad batch above the recovery point and says so, also when committed records are missing",
    ),
    Kind(
        "disk-full",
        "disk full",
        fill_disk,
        BOTH,
        "appends: KAFKA_STORAGE_ERROR, which clients try again; reads go on",
        "none needed: appends resume by themselves",
    ),
    Kind(
        "write-error",
        "EIO on a write",
        fail_writes,
        BOTH,
        "appends to what the directory has: KAFKA_STORAGE_ERROR until a restart; reads go on",
        "as after a power cut: what was not synced is checked",
    ),
    Kind(
        "sync-error",
        "EIO on a sync",
        fail_syncs,
        BOTH,
        "the same: a sync is never tried twice",
        "as after a power cut: what was not synced is checked",
    ),
    Kind(
        "read-only",
        "file system becomes read-only after an error",
        make_read_only,
        {"os": SYNCED, "fsync": ALL},
        "the same",
        "refused until it is mounted anew, then as after `kill -9`",
    ),
    Kind(
        "flipped-byte",
        "a flipped byte in a segment",
        flip_byte,
        {"os": ALL_BUT_DAMAGED, "fsync": ALL_BUT_DAMAGED},
        "KAFKA_STORAGE_ERROR or a CRC error at that batch, until they seek past it; never a wrong record",
        "nothing is deleted; the log says where the damage is",
    ),
)
