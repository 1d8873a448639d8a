"""One member of a classic group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state.memory import MEMBER_BYTES, PROTOCOL_BYTES

if TYPE_CHECKING:
    from collections.abc import Container

    from fastlog.state.effects import Reply

Protocols = tuple[tuple[str, bytes], ...]
"""(name, metadata) of each assignment protocol that a member speaks, the preferred first; the bytes are opaque."""


def protocol_bytes(protocols: Protocols) -> int:
    """What they hold in memory, about."""
    return sum(PROTOCOL_BYTES + len(name) + len(metadata) for name, metadata in protocols)


class Member:
    """A member: what it said when it joined, and which of its requests wait for an answer."""

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "held_bytes",
        "instance_id",
        "is_new",
        "join_reply",
        "member_id",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "sync_reply",
    )

    def __init__(
        self,
        member_id: str,
        *,
        instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: Protocols,
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.instance_id = instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocols = protocols
        self.assignment = assignment
        self.held_bytes = 0
        """What its group last found it to weigh."""
        self.is_new = False
        self.join_reply: Reply | None = None
        self.sync_reply: Reply | None = None

    def weight(self) -> int:
        """What it holds in memory, about."""
        return MEMBER_BYTES + protocol_bytes(self.protocols) + len(self.assignment)

    def metadata(self, protocol: str | None) -> bytes:
        """What it said under `protocol`, which it must speak."""
        for name, metadata in self.protocols:
            if name == protocol:
                return metadata
        raise AssertionError(f"member {self.member_id} does not speak {protocol}")

    def vote(self, candidates: Container[str]) -> str:
        """The one of `candidates` that it prefers; it must speak one."""
        return next(name for name, _ in self.protocols if name in candidates)

    def is_waiting(self) -> bool:
        """Whether a request of it waits: it needs no heartbeats then, unless it has just joined."""
        return not self.is_new and (self.join_reply is not None or self.sync_reply is not None)
