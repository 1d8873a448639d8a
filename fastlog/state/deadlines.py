"""What is to happen when, by key.

Sessions are extended far more often than they end, so a deadline that moves later is only noted: the sorted queue
learns of it when the earlier one is reached. Extending is O(1), everything else O(log n).
"""

from __future__ import annotations

from sortedcontainers import SortedList

Key = tuple[str, ...]


class Deadlines:
    """One deadline a key, in milliseconds of monotonic time."""

    def __init__(self) -> None:
        self._wanted: dict[Key, int] = {}
        # (milliseconds, key) of each key once, at its deadline or before it
        self._queue: SortedList = SortedList()
        self._queued: dict[Key, int] = {}

    def __len__(self) -> int:
        """Number of keys that have a deadline."""
        return len(self._wanted)

    def set(self, key: Key, at_ms: int) -> None:
        """Gives `key` the deadline `at_ms`, in the place of the one it had."""
        self._wanted[key] = at_ms
        queued = self._queued.get(key)
        if queued is None or at_ms < queued:
            if queued is not None:
                self._queue.remove((queued, key))
            self._queued[key] = at_ms
            self._queue.add((at_ms, key))

    def cancel(self, key: Key) -> None:
        """Takes the deadline away; a key without one is left alone."""
        if self._wanted.pop(key, None) is not None:
            self._queue.remove((self._queued.pop(key), key))

    def of(self, key: Key) -> int | None:
        """The key's deadline, None without one."""
        return self._wanted.get(key)

    def next_ms(self) -> int | None:
        """When to call `pop` next; it may find nothing then. None is never."""
        return self._queue[0][0] if self._queue else None

    def pop(self, now_ms: int) -> Key | None:
        """Takes one key whose deadline is reached, the earliest first; None when there is none."""
        while self._queue and self._queue[0][0] <= now_ms:
            at_ms, key = self._queue.pop(0)
            wanted = self._wanted[key]
            if wanted == at_ms:
                del self._wanted[key], self._queued[key]
                return key  # type: ignore[no-any-return]  # the queue has no types
            self._queued[key] = wanted
            self._queue.add((wanted, key))
        return None
