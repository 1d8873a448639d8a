"""Reads and runs scripts about groups: a command a line, and below it, indented, what came of it.

    join NAME [member=ID|$NAME] [instance=ID] [v=N] [session=MS] [rebalance=MS] [type=T] [protocols=a,b] [topics=t,u]
    sync NAME GENERATION [NAME=ASSIGNMENT …] [protocol=P] [instance=ID]
    heartbeat NAME GENERATION [instance=ID]
    leave NAME                     leave-instance ID
    commit NAME|- GENERATION TOPIC-PARTITION=OFFSET[:METADATA] … [v=N] [epoch=N]
    fetch [TOPIC-PARTITION …]      delete-offsets TOPIC-PARTITION …
    describe [v=N]                 list [STATE …] [type=T]          delete
    wait MS                        expire-offsets                   topic-deleted TOPIC
    appends fail CODE | hold | work
    restart                        settings KEY=VALUE …

All of one group, `g` unless `group=` says otherwise. A member is called by the name it joined with.
"""

from __future__ import annotations

import struct
from typing import Any

from fastlog import errors
from fastlog.protocol.messages.delete_groups import DeletableGroupResult
from fastlog.protocol.messages.describe_groups import DescribedGroup
from fastlog.protocol.messages.join_group import JoinGroupResponse
from fastlog.protocol.messages.leave_group import LeaveGroupResponse, MemberIdentity
from fastlog.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from fastlog.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
)
from fastlog.protocol.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchRequestTopics
from fastlog.protocol.messages.sync_group import SyncGroupResponse
from fastlog.state.group.settings import GroupSettings
from fastlog.state.offsets.settings import OffsetSettings
from tests.support.group_world import World

GROUP_KEYS = ("initial_rebalance_delay_ms", "max_size")


class Script:
    """Runs commands in one world; `do` answers the lines of what came of one."""

    def __init__(self) -> None:
        self.world = World()
        self.members: dict[str, str] = {}
        self.group_id = "g"

    def do(self, line: str) -> list[str]:
        """Runs one line."""
        word, *rest = line.split()
        named = dict(it.split("=", 1) for it in rest if "=" in it)
        plain = [it for it in rest if "=" not in it]
        self.group_id = named.pop("group", "g")
        said = getattr(self, "do_" + word.replace("-", "_"))(plain, named) or []
        answers, self.world.answers[:] = list(self.world.answers), []
        return [*said, *(f"{name}: {self._shown(name, answer)}" for name, answer in answers)]

    # --- commands ---

    def do_join(self, plain: list[str], named: dict[str, str]) -> None:
        (name,) = plain
        topics = [it for it in named.get("topics", "").split(",") if it]
        metadata = subscription(topics) if named.get("type", "consumer") == "consumer" else b"m"
        protocols = [it for it in named.get("protocols", "range").split(",") if it]
        self.world.join(
            name,
            self.group_id,
            member_id=self._member(named.get("member", "")),
            instance_id=named.get("instance"),
            version=int(named.get("v", 9)),
            session_timeout_ms=int(named.get("session", 10_000)),
            rebalance_timeout_ms=int(named.get("rebalance", 30_000)),
            protocol_type=named.get("type", "consumer"),
            protocols=tuple((it, metadata) for it in protocols),
        )

    def do_sync(self, plain: list[str], named: dict[str, str]) -> None:
        name, generation = plain
        more: dict[str, Any] = {}
        if "protocol" in named:
            more |= {"protocol_type": "consumer", "protocol_name": named.pop("protocol")}
        if "instance" in named:
            more["group_instance_id"] = named.pop("instance")
        given = {self._member("$" + key): value.encode() for key, value in named.items()}
        self.world.sync(name, self._member("$" + name), int(generation), given, self.group_id, **more)

    def do_heartbeat(self, plain: list[str], named: dict[str, str]) -> list[str]:
        name, generation = plain
        code = self.world.heartbeat(
            self._member("$" + name), int(generation), self.group_id, named.get("instance")
        )
        return [f"{name}: {error_name(code)}"]

    def do_leave(self, plain: list[str], named: dict[str, str]) -> None:
        identities = [MemberIdentity(self._member("$" + name), named.get("instance")) for name in plain]
        self.world.leave(",".join(plain), *identities, group_id=self.group_id)

    def do_leave_instance(self, plain: list[str], named: dict[str, str]) -> None:
        self.world.leave("admin", *(MemberIdentity("", it) for it in plain), group_id=self.group_id)

    def do_commit(self, plain: list[str], named: dict[str, str]) -> None:
        name, generation = plain
        version, epoch = int(named.pop("v", 9)), int(named.pop("epoch", -1))
        retention_ms = int(named.pop("retention", -1))
        topics: dict[str, OffsetCommitRequestTopic] = {}
        for place, value in named.items():
            topic, partition = place.rsplit("-", 1)
            offset, _, metadata = value.partition(":")
            row = OffsetCommitRequestPartition(int(partition), int(offset), epoch, metadata)
            topics.setdefault(topic, OffsetCommitRequestTopic(topic)).partitions.append(row)
        request = OffsetCommitRequest(
            group_id=self.group_id,
            generation_id_or_member_epoch=int(generation),
            member_id="" if name == "-" else self._member("$" + name),
            retention_time_ms=retention_ms,
            topics=list(topics.values()),
        )
        world = self.world
        world.carry_out(world.coordinator.commit(request, version, world.reply(name), world.now))

    def do_fetch(self, plain: list[str], named: dict[str, str]) -> list[str]:
        topics = None
        if plain:
            places = [it.rsplit("-", 1) for it in plain]
            topics = [
                OffsetFetchRequestTopics(topic, partition_indexes=[int(index)]) for topic, index in places
            ]
        answer = self.world.coordinator.fetch(OffsetFetchRequestGroup(self.group_id, topics=topics))
        rows = [
            f"{topic.name}-{it.partition_index}={it.committed_offset} epoch={it.committed_leader_epoch}"
            f" {it.metadata!r} {error_name(it.error_code)}"
            for topic in answer.topics
            for it in topic.partitions
        ]
        return rows or ["nothing"]

    def do_delete_offsets(self, plain: list[str], named: dict[str, str]) -> None:
        topics = [
            OffsetDeleteRequestTopic(topic, [OffsetDeleteRequestPartition(int(index))])
            for topic, index in (it.rsplit("-", 1) for it in plain)
        ]
        world = self.world
        request = OffsetDeleteRequest(self.group_id, topics)
        world.carry_out(world.coordinator.delete_offsets(request, world.reply("admin")))

    def do_describe(self, plain: list[str], named: dict[str, str]) -> list[str]:
        group = self.world.coordinator.describe(self.group_id, int(named.get("v", 6)))
        return described(group)

    def do_list(self, plain: list[str], named: dict[str, str]) -> list[str]:
        types = [named["type"]] if "type" in named else []
        found = self.world.coordinator.list_groups(plain, types)
        return [f"{it.group_id} {it.group_state} {it.group_type} {it.protocol_type!r}" for it in found] or [
            "nothing"
        ]

    def do_delete(self, plain: list[str], named: dict[str, str]) -> None:
        world = self.world
        world.carry_out(world.coordinator.delete_group(self.group_id, world.reply("admin"), world.now))

    def do_wait(self, plain: list[str], named: dict[str, str]) -> None:
        self.world.wait(int(plain[0]))

    def do_expire_offsets(self, plain: list[str], named: dict[str, str]) -> None:
        self.world.carry_out(self.world.coordinator.expire_offsets(self.world.now))

    def do_topic_deleted(self, plain: list[str], named: dict[str, str]) -> None:
        self.world.carry_out(self.world.coordinator.topic_deleted(plain[0]))

    def do_appends(self, plain: list[str], named: dict[str, str]) -> None:
        self.world.is_held = plain[0] == "hold"
        self.world.fails_with = int(plain[1]) if plain[0] == "fail" else 0
        if not self.world.is_held:
            self.world.release()

    def do_restart(self, plain: list[str], named: dict[str, str]) -> None:
        self.world.restart()

    def do_settings(self, plain: list[str], named: dict[str, str]) -> None:
        values = {key: int(value) for key, value in named.items()}
        groups = {key: value for key, value in values.items() if key in GROUP_KEYS}
        offsets = {key: value for key, value in values.items() if key not in GROUP_KEYS}
        log, now = self.world.log, self.world.now
        self.world = World(GroupSettings(**groups), OffsetSettings(**offsets))
        self.world.log, self.world.now = log, now
        self.world.restart()

    # --- what is shown ---

    def _member(self, name: str) -> str:
        return self.members.get(name[1:], name[1:]) if name.startswith("$") else name

    def _shown(self, name: str, answer: Any) -> str:
        if isinstance(answer, JoinGroupResponse):
            return self._joined(name, answer)
        if isinstance(answer, SyncGroupResponse):
            return (
                f"assigned {answer.assignment.decode()!r}"
                if not answer.error_code
                else error_name(answer.error_code)
            )
        if isinstance(answer, LeaveGroupResponse):
            codes = [error_name(it.error_code) for it in answer.members]
            return "left " + (" ".join(codes) if not answer.error_code else error_name(answer.error_code))
        if isinstance(answer, OffsetCommitResponse | OffsetDeleteResponse):
            top = error_name(getattr(answer, "error_code", 0))
            rows = [
                f"{topic.name}-{it.partition_index} {error_name(it.error_code)}"
                for topic in answer.topics
                for it in topic.partitions
            ]
            return ", ".join(rows) or top
        assert isinstance(answer, DeletableGroupResult)
        return "deleted" if not answer.error_code else error_name(answer.error_code)

    def _joined(self, name: str, answer: JoinGroupResponse) -> str:
        if answer.member_id:
            self.members[name] = answer.member_id
        if answer.error_code:
            return f"{error_name(answer.error_code)} member={answer.member_id!r}"
        members = ",".join(
            it.member_id + (f"/{it.group_instance_id}" if it.group_instance_id else "")
            for it in answer.members
        )
        skip = " skip-assignment" if answer.skip_assignment else ""
        led = f" members={members}" if members else ""
        return (
            f"joined as {answer.member_id} generation={answer.generation_id} protocol={answer.protocol_name}"
            f" leader={answer.leader}{led}{skip}"
        )


def described(group: DescribedGroup) -> list[str]:
    """A description in lines."""
    if group.error_code:
        return [f"{group.group_state} {error_name(group.error_code)}"]
    lines = [f"{group.group_state} type={group.protocol_type!r} protocol={group.protocol_data!r}"]
    return lines + [
        f"  {it.member_id}{'/' + it.group_instance_id if it.group_instance_id else ''}"
        f" {it.client_id} {it.client_host} {it.member_assignment.decode()!r}"
        for it in group.members
    ]


def error_name(code: int) -> str:
    """Kafka's name for an error code."""
    return "ok" if not code else errors.error_for(code).name


def subscription(topics: list[str]) -> bytes:
    """What a consumer says that reads `topics`: version 0 of the consumer protocol."""
    names = b"".join(struct.pack(">h", len(it)) + it.encode() for it in topics)
    return struct.pack(">hi", 0, len(topics)) + names + struct.pack(">i", -1)


def run(text: str) -> str:
    """The script with what comes of its commands now; equal to `text` where that is what it says."""
    script, out = Script(), []
    for line in text.splitlines():
        if line.startswith("  "):
            continue
        out.append(line)
        if line and not line.startswith("#"):
            out += ["  " + said for said in script.do(line)]
    return "\n".join(out) + "\n"
