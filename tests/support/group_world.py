"""A coordinator with a log in memory and a clock that only moves when it is told to."""

from __future__ import annotations

from collections import deque
from typing import Any

from fastlog.errors import KafkaError
from fastlog.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from fastlog.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from fastlog.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from fastlog.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from fastlog.state.consumer_group.settings import ConsumerGroupSettings
from fastlog.state.coordinator import Coordinator
from fastlog.state.deadlines import Deadlines
from fastlog.state.effects import STORED, Effects, Write, failed
from fastlog.state.group.join import Join
from fastlog.state.group.settings import GroupSettings
from fastlog.state.memory import OFFSET_BYTES, PENDING_BYTES, TOPIC_BYTES, Memory
from fastlog.state.moment import Moment
from fastlog.state.offsets.settings import OffsetSettings
from fastlog.state.records import decode, encode
from fastlog.state.topics import TopicFacts

START = Moment(monotonic_ms=1_000_000, wall_ms=1_700_000_000_000)


class Note:
    """A reply that is put into a list."""

    def __init__(self, name: str, answers: list[tuple[str, Any]]) -> None:
        self.name = name
        self._answers = answers
        self.is_answered = False

    def answer(self, response: Any) -> None:
        """Notes it; a second answer is a fault."""
        assert not self.is_answered, f"{self.name} is answered twice"
        self.is_answered = True
        self._answers.append((self.name, response))


class WorldTopics:
    """Topics that tests make; their ids are told from their names."""

    def __init__(self) -> None:
        self.facts: dict[str, TopicFacts] = {}

    def put(self, name: str, partition_count: int, incarnation: int = 0) -> bytes:
        """Makes a topic, or gives it partitions; its id."""
        topic_id = name.encode().ljust(15, b"\0")[:15] + bytes((incarnation,))
        self.facts[name] = TopicFacts(topic_id, partition_count)
        return topic_id

    def find(self, name: str) -> TopicFacts | None:
        return self.facts.get(name)

    def name_of(self, topic_id: bytes) -> str | None:
        return next((name for name, facts in self.facts.items() if facts.topic_id == topic_id), None)

    def names(self) -> list[str]:
        return list(self.facts)


class World:
    """One partition of groups. What is written is in the log at once, unless appends are held or fail."""

    def __init__(
        self,
        groups: GroupSettings | None = None,
        offsets: OffsetSettings | None = None,
        consumers: ConsumerGroupSettings | None = None,
    ) -> None:
        self.consumer_settings = consumers or ConsumerGroupSettings()
        self.topics = WorldTopics()
        self.group_settings = groups or GroupSettings()
        self.offset_settings = offsets or OffsetSettings()
        self.now = START
        self.log: list[tuple[bytes, bytes | None]] = []
        self.answers: list[tuple[str, Any]] = []
        self.fails_with = 0
        self.is_held = False
        self._held: deque[Write] = deque()
        self._ids = 0
        self._boot()

    def _boot(self) -> None:
        self.deadlines = Deadlines()
        self.memory = Memory(self.group_settings.memory_bytes_max)
        self.coordinator = Coordinator(
            self.deadlines,
            self.group_settings,
            self.offset_settings,
            self.memory,
            self.consumer_settings,
            self.topics,
        )

    def counted_bytes(self) -> int:
        """What groups and offsets hold, counted anew."""
        groups, offsets = self.coordinator._groups, self.coordinator._offsets
        by_topic = [item for group_id in offsets for item in offsets.of_group(group_id).items()]
        held = sum(TOPIC_BYTES + len(topic) for topic, _ in by_topic)
        held += sum(OFFSET_BYTES + len(it.metadata) for _, row in by_topic for it in row.values())
        return (
            held
            + sum(
                group.own_bytes()
                + PENDING_BYTES * len(group.pending_joins)
                + sum(member.weight() for member in group.members.values())
                for group in groups
            )
            + sum(group.held_bytes for group in self.coordinator._consumers.table)
        )

    def restart(self) -> None:
        """A kill -9 and a start: only the log is left."""
        self._held.clear()
        self._boot()
        last = dict(self.log)
        records = [record for key, value in last.items() if (record := decode(key, value)) is not None]
        live = [record for record in records if record.value is not None]
        self.carry_out(self.coordinator.load(live, self.now))

    def carry_out(self, effects: Effects) -> None:
        """Does what the coordinator wants."""
        for reply, response in effects.answers:
            reply.answer(response)
        self._held.extend(effects.writes)
        if not self.is_held:
            self.release()

    def release(self) -> None:
        """Appends what waits for that, in order, and tells."""
        while self._held:
            write = self._held.popleft()
            outcome = failed(self.fails_with) if self.fails_with else STORED
            if outcome.is_in_log:
                self.log += [encode(record) for record in write.records]
            effects = Effects()
            if write.then is not None:
                write.then(outcome, self.now, effects)
            self.carry_out(effects)

    def wait(self, ms: int) -> None:
        """Lets time pass; deadlines on the way are met in their order, each at its time."""
        end = self.now.monotonic_ms + ms
        while (due := self.deadlines.next_ms()) is not None and due <= end:
            self._move_to(max(due, self.now.monotonic_ms))
            while (key := self.deadlines.pop(self.now.monotonic_ms)) is not None:
                self.carry_out(self.coordinator.deadline(key, self.now))
        self._move_to(end)

    def _move_to(self, monotonic_ms: int) -> None:
        passed = monotonic_ms - self.now.monotonic_ms
        self.now = Moment(monotonic_ms, self.now.wall_ms + passed)

    def reply(self, name: str) -> Note:
        """A way back."""
        return Note(name, self.answers)

    # --- requests ---

    def join(
        self,
        name: str,
        group_id: str = "g",
        *,
        member_id: str = "",
        instance_id: str | None = None,
        version: int = 9,
        session_timeout_ms: int = 10_000,
        rebalance_timeout_ms: int = 30_000,
        protocol_type: str = "consumer",
        protocols: tuple[tuple[str, bytes], ...] = (("range", b"\0\0\0\0\0\0"),),
    ) -> Note:
        """JoinGroup."""
        self._ids += 1
        request = JoinGroupRequest(
            group_id=group_id,
            session_timeout_ms=session_timeout_ms,
            rebalance_timeout_ms=rebalance_timeout_ms,
            member_id=member_id,
            group_instance_id=instance_id,
            protocol_type=protocol_type,
            protocols=[JoinGroupRequestProtocol(*it) for it in protocols],
        )
        reply = self.reply(name)
        join = Join(request, version, name, "/127.0.0.1", f"{name}-{self._ids}", reply)
        self.carry_out(self.coordinator.join(join, self.now))
        return reply

    def sync(
        self,
        name: str,
        member_id: str,
        generation: int,
        assignments: dict[str, bytes] | None = None,
        group_id: str = "g",
        **more: Any,
    ) -> Note:
        """SyncGroup."""
        given = [SyncGroupRequestAssignment(*it) for it in (assignments or {}).items()]
        request = SyncGroupRequest(
            group_id=group_id, generation_id=generation, member_id=member_id, assignments=given, **more
        )
        reply = self.reply(name)
        self.carry_out(self.coordinator.sync(request, reply, self.now))
        return reply

    def heartbeat(
        self, member_id: str, generation: int, group_id: str = "g", instance_id: str | None = None
    ) -> int:
        """Heartbeat; its error code."""
        request = HeartbeatRequest(group_id, generation, member_id, instance_id)
        try:
            self.coordinator.heartbeat(request, self.now)
        except KafkaError as error:
            return HeartbeatResponse(error_code=error.code).error_code
        return 0

    def leave(self, name: str, *members: MemberIdentity, group_id: str = "g") -> Note:
        """LeaveGroup."""
        reply = self.reply(name)
        request = LeaveGroupRequest(group_id=group_id, members=list(members))
        self.carry_out(self.coordinator.leave(request, reply, self.now))
        return reply
