"""How long open batches are left to fill where there are thousands, beyond linger: a sans-IO rule.

The sender and the threads that call `send` take turns with the GIL. A batch costs the sender a certain time however
small it is. With thousands of partitions, each written to now and then, all time would go into batches of a few
records: the sooner they are taken the fewer records they have. So the sender leaves the others time. What it waited
for its turns tells that they had use for it; where it did not wait nothing is held.
"""

from __future__ import annotations

#: open batches are left to fill for so many times what the sender waited since it last took any: of three parts of the
#: time it has one then, and waits for one
WAITS = 2.0
#: but no longer than so much for each of those that it took: more than one costs all threads together. One partition
#: or ten never wait longer than linger
BATCH_MS_MAX = 0.1
#: and never longer than this
HOLD_MS_MAX = 1_000.0


class Hold:
    """What the sender waited for, and the open batches it took, since it was last said how long to hold them."""

    def __init__(self) -> None:
        self._waited_ms = 0.0
        self._taken = 0

    def took(self, batches: int = 1) -> None:
        """So many open batches were taken: ones that had time for more records."""
        self._taken += batches

    def worked(self, passed_ms: float, used_ms: float) -> float | None:
        """The sender was at work while `passed_ms` passed, with `used_ms` of the processor.

        Returns for how many milliseconds the open batches are held now, None where none was taken.
        """
        self._waited_ms += max(0.0, passed_ms - used_ms)
        if not self._taken:
            return None
        hold_ms = min(WAITS * self._waited_ms, BATCH_MS_MAX * self._taken, HOLD_MS_MAX)
        self._waited_ms, self._taken = 0.0, 0
        return hold_ms
