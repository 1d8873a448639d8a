"""What groups and offsets hold in memory, and how much they may.

Held is an estimate: a constant for each thing, as measured, and the bytes that clients chose. Kafka has no such bound:
whoever makes up group ids ends its broker.
"""

from __future__ import annotations

# measured: a hundred thousand of each on CPython 3.11, with what the tables and deadlines around them take
GROUP_BYTES, PENDING_BYTES, MEMBER_BYTES, PROTOCOL_BYTES = 1_000, 420, 850, 150
TOPIC_BYTES, OFFSET_BYTES = 500, 230


class Memory:
    """The bound of one broker, which all its coordinators share."""

    __slots__ = ("bytes_max", "held_bytes", "refusals")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held_bytes = 0
        self.refusals = 0
        """How often something was refused for it; whoever refuses counts."""

    @property
    def is_full(self) -> bool:
        """Whether new groups and members are to be refused."""
        return self.held_bytes >= self.bytes_max

    @property
    def is_over(self) -> bool:
        """Whether those that are there may not grow either: a quarter more is kept for them."""
        return self.held_bytes >= self.bytes_max + self.bytes_max // 4


class Holding:
    """What one coordinator holds of it."""

    __slots__ = ("_bytes", "_is_released", "memory")

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._bytes = 0
        self._is_released = False

    def add(self, count: int) -> None:
        """Holds so many bytes more; fewer, where that is negative."""
        if not self._is_released:
            self._bytes += count
            self.memory.held_bytes += count

    def release(self) -> None:
        """Holds nothing, from now on."""
        self.add(-self._bytes)
        self._is_released = True
