"""What all that decides on groups of the consumer protocol works with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from fastlog.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from fastlog.state.effects import Reply

if TYPE_CHECKING:
    from fastlog.state.consumer_group.settings import ConsumerGroupSettings
    from fastlog.state.consumer_group.table import ConsumerGroupTable
    from fastlog.state.consumer_group.timers import Timers
    from fastlog.state.effects import Effects, Outcome
    from fastlog.state.memory import Memory
    from fastlog.state.moment import Moment
    from fastlog.state.records import Record
    from fastlog.state.topics import Topics
    from fastlog.state.turns import Turns


class Context:
    """One coordinator's, which its parts share."""

    def __init__(
        self,
        *,
        table: ConsumerGroupTable,
        topics: Topics,
        settings: ConsumerGroupSettings,
        timers: Timers,
        turns: Turns,
        memory: Memory,
        replay: Callable[[Record], None],
    ) -> None:
        self.table = table
        self.topics = topics
        self.settings = settings
        self.timers = timers
        self.turns = turns
        self.memory = memory
        self.replay = replay

    def write(
        self,
        group_id: str,
        records: list[Record],
        out: Effects,
        then: Callable[[Outcome, Moment, Effects], None],
        *,
        before_replay: Callable[[Effects], None] | None = None,
    ) -> None:
        """Has a change of a group written, and taken in when it is in the log; its other requests wait until then.

        `then` is told afterwards in any case; `before_replay` is called only if the records are in the log.
        """
        self.turns.begin(group_id)

        def written(outcome: Outcome, now: Moment, effects: Effects) -> None:
            if outcome.is_in_log:
                if before_replay is not None:
                    before_replay(effects)
                for record in records:
                    self.replay(record)
            then(outcome, now, effects)
            self.turns.end(group_id, outcome.code, now, effects)

        out.write(records, written)


class Heartbeat(msgspec.Struct, frozen=True):
    """A ConsumerGroupHeartbeat request and what came with it."""

    request: ConsumerGroupHeartbeatRequest
    version: int
    client_id: str
    client_host: str
    fresh_id: str
    """A member id that nobody has, for a client that brings none."""
    may_see: Callable[[str], bool]
    """Whether the client may know of a topic; a pattern matches no others."""
    reply: Reply
