"""Members of the consumer protocol in a world without a network: see group_world."""

from __future__ import annotations

from typing import Any

from fastlog.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from fastlog.state.consumer_group.context import Heartbeat
from fastlog.state.records.partitions import Partition, by_topic
from tests.support.group_world import World


def heartbeat(world: World, version: int = 1, may_see: Any = lambda _: True, **fields: Any) -> Any:
    """Sends a ConsumerGroupHeartbeat; the response, or None while it waits."""
    fields.setdefault("group_id", "g")
    request = ConsumerGroupHeartbeatRequest(**fields)
    reply = world.reply(request.member_id)
    world._ids += 1
    call = Heartbeat(request, version, "client", "/127.0.0.1", f"made-{world._ids}", may_see, reply)
    world.carry_out(world.coordinator.consumer_heartbeat(call, world.now))
    return world.answers[-1][1] if reply.is_answered else None


class Member:
    """A client as KIP-848 wants it: it lets go of what it may not have any more, and says so with its next beat."""

    def __init__(
        self,
        world: World,
        name: str,
        *topics: str,
        regex: str | None = None,
        group_id: str = "g",
        instance_id: str | None = None,
        assignor: str | None = None,
        rebalance_timeout_ms: int = 30_000,
    ) -> None:
        self.world = world
        self.name = name
        self.topics = list(topics)
        self.regex = regex
        self.group_id = group_id
        self.instance_id = instance_id
        self.assignor = assignor
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.epoch = 0
        self.owned: set[Partition] = set()
        self.error = 0
        self.is_slow = False
        """Whether it does not let go of anything."""

    def join(self) -> ConsumerGroupHeartbeatResponse:
        """The first heartbeat."""
        self.epoch, self.owned = 0, set()
        return self._take(self._send(full=True))

    def beat(self, *, full: bool = False) -> ConsumerGroupHeartbeatResponse:
        """A heartbeat that says what it has."""
        return self._take(self._send(full=full))

    def leave(self, epoch: int = -1) -> ConsumerGroupHeartbeatResponse:
        """The last heartbeat; -2 is one of a static member that comes back."""
        answer: ConsumerGroupHeartbeatResponse = heartbeat(
            self.world,
            group_id=self.group_id,
            member_id=self.name,
            member_epoch=epoch,
            instance_id=self.instance_id,
        )
        self.owned = set()
        return answer

    @property
    def numbers(self) -> list[int]:
        """The numbers of the partitions that it has, of all topics."""
        return sorted(number for _, number in self.owned)

    def _send(self, *, full: bool) -> Any:
        fields: dict[str, Any] = {}
        if full:
            fields = {
                "rebalance_timeout_ms": self.rebalance_timeout_ms,
                "subscribed_topic_names": self.topics,
                "subscribed_topic_regex": self.regex,
                "server_assignor": self.assignor,
            }
        return heartbeat(
            self.world,
            group_id=self.group_id,
            member_id=self.name,
            member_epoch=self.epoch,
            instance_id=self.instance_id,
            topic_partitions=[TopicPartitions(*it) for it in by_topic(self.owned).items()],
            **fields,
        )

    def _take(self, answer: Any) -> ConsumerGroupHeartbeatResponse:
        response: ConsumerGroupHeartbeatResponse = answer
        self.error = response.error_code
        if self.error:
            return response
        self.epoch = response.member_epoch
        if response.assignment is not None and not self.is_slow:
            self.owned = {
                (it.topic_id, number)
                for it in response.assignment.topic_partitions
                for number in it.partitions
            }
        return response


def settle(*members: Member, rounds: int = 10) -> None:
    """Everybody sends heartbeats until nothing changes any more."""
    for _ in range(rounds):
        before = [(it.epoch, set(it.owned)) for it in members]
        for member in members:
            member.beat()
        if before == [(it.epoch, it.owned) for it in members]:
            return
    raise AssertionError(f"not settled: {[(it.name, it.epoch, it.owned) for it in members]}")
