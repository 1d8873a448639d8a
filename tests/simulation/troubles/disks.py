"""A disk fails under a process that lives, or the process dies in the middle of a call to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.faults import Faults

#: in how many calls a process dies
CALLS = 40
#: how many bytes a disk has left that is full soon
ROOM = 2_000


class BadDisk:
    """What cannot be written is not; after a while somebody starts the process again, on a disk that works."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def strike(self) -> None:
        """See Trouble."""
        faults, rng = self._faults, self._faults.rng
        broker = faults.victim()
        machine, process = faults.cluster.machines[broker], faults.cluster.brokers.get(broker)
        if process is None or machine.fails:
            return
        kind = rng.choice(("dies in a call", "full", "EIO", "no sync"))
        faults.cluster.note(f"disk of {broker}: {kind}")
        if kind == "dies in a call":
            machine.node.set_faults(die_in_calls=rng.randint(0, CALLS))
        elif kind == "full":
            machine.fail(room=rng.randint(0, ROOM))
        else:
            machine.fail(write_error=kind == "EIO", sync_error=kind == "no sync")

        def mend() -> None:
            if faults.cluster.brokers.get(broker) is process:
                faults.down(broker)
            faults.up(broker)

        faults.later(mend)
