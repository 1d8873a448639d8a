"""What consumer groups cost a broker: heartbeats of many groups, a rebalance of a large one, commits.

What counts is the broker's processor time, so it runs with a broker of its own, and its clients are sockets on one
thread. There is no limit to compare with.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fastlog.bench.groups.members import Connection, Loop, Member
from fastlog.bench.harness import machine
from fastlog.bench.harness.cluster import cluster_at
from fastlog.bench.harness.result import Result
from fastlog.bench.harness.statistics import percentile_ms
from fastlog.bench.harness.wire import CLIENT_ID, framed
from fastlog.errors import FastlogError, error_for
from fastlog.protocol.codec import encode_request_frame
from fastlog.protocol.messages.find_coordinator import FindCoordinatorRequest
from fastlog.protocol.messages.heartbeat import HeartbeatRequest
from fastlog.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastlog.bench.harness.cluster import Cluster

# one connection a member, from one address; the first rebalance need not wait for people
SETTINGS = {"group.initial.rebalance.delay.ms": "200", "max.connections.per.ip": "10000"}
UNKNOWN_MEMBER_ID = 25
READY_SECONDS = 30.0
REBALANCES = 5
# after so many heartbeats of each all run at their own pace
WARM_UP_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench groups`; `seconds` are for heartbeats, and for commits."""

    groups: int = 1000
    members: int = 3
    interval: float = 3.0
    large: int = 200
    large_interval: float = 0.5
    committers: int = 64
    rate: int = 5000
    seconds: float = 10.0


def run(settings: Settings, *, directory: Path | None, done: Callable[[int], None]) -> list[Result]:
    """Measures the three, one after the other. Blocks."""
    told = {**asdict(settings), **machine.describe(directory)}
    found = []
    for measure in (_heartbeats, _rebalances, _commits):
        with cluster_at(None, directory=directory, settings=SETTINGS) as cluster, Loop() as loop:
            _wait_for_coordinator(loop, _address(cluster))
            found.append(measure(settings, cluster, loop, told))
        done(1)
    return found


def _address(cluster: Cluster) -> tuple[str, int]:
    host, _, port = cluster.bootstrap.rpartition(":")
    return host, int(port)


def _cpu(cluster: Cluster) -> float:
    return cluster.cpu_seconds() or 0.0


def _wait_for_coordinator(loop: Loop, address: tuple[str, int]) -> None:
    """Has `__consumer_offsets` made, and waits until its groups are read."""
    connection = Connection(loop, address)
    codes: list[Any] = []
    connection.ask(FindCoordinatorRequest(coordinator_keys=["probe"]), 4, codes.append)
    loop.run_until(lambda: bool(codes))
    deadline = time.monotonic() + READY_SECONDS
    while True:
        codes.clear()
        connection.ask(HeartbeatRequest("probe", 1, "nobody"), 4, codes.append)
        loop.run_until(lambda: bool(codes))
        if codes[0].error_code == UNKNOWN_MEMBER_ID:
            return
        if time.monotonic() > deadline:
            raise FastlogError(
                f"groups: no coordinator after {READY_SECONDS:.0f} s; look at the broker's log"
            )
        time.sleep(0.05)


def _members(loop: Loop, address: tuple[str, int], names: Iterator[str], interval: float) -> list[Member]:
    found = [Member(loop, Connection(loop, address), name, interval) for name in names]
    for member in found:
        member.join()
    loop.run_until(lambda: all(member.is_settled for member in found))
    return found


def _heartbeats(settings: Settings, cluster: Cluster, loop: Loop, told: dict[str, Any]) -> Result:
    names = (f"group-{number}" for number in range(settings.groups) for _ in range(settings.members))
    members = _members(loop, _address(cluster), names, settings.interval)
    # settled together, they would beat together
    loop.forget_times()
    now = time.perf_counter()
    for number, member in enumerate(members):
        loop.at(now + settings.interval * number / len(members), member.heartbeat)
    loop.run_for(WARM_UP_SECONDS)
    for member in members:
        member.heartbeat_seconds.clear()
    cpu, start = _cpu(cluster), time.perf_counter()
    loop.run_for(settings.seconds)
    seconds, cpu = time.perf_counter() - start, _cpu(cluster) - cpu
    times = [int(it * 1e9) for member in members for it in member.heartbeat_seconds]
    return _result("groups.heartbeats", times, seconds, cpu, told)


def _rebalances(settings: Settings, cluster: Cluster, loop: Loop, told: dict[str, Any]) -> Result:
    address = _address(cluster)
    members = _members(loop, address, iter(["large"] * settings.large), settings.large_interval)
    settled, cpus = [], []
    for _ in range(REBALANCES):
        loop.run_for(settings.large_interval)
        cpu, start = _cpu(cluster), time.perf_counter()
        members.append(Member(loop, Connection(loop, address), "large", settings.large_interval))
        members[-1].join()
        loop.run_until(lambda: all(member.is_settled for member in members))
        settled.append(time.perf_counter() - start)
        cpus.append(_cpu(cluster) - cpu)
    details = {"settle_seconds_max": max(settled), "broker_cpu_seconds_max": max(cpus)}
    times = [int(it * 1e9) for it in settled]
    return Result(
        name="groups.rebalances",
        records=REBALANCES,
        seconds=sum(settled),
        records_per_second=REBALANCES / sum(settled),
        p50_ms=percentile_ms(times, 50),
        p99_ms=percentile_ms(times, 99),
        details=details,
        settings=told,
    )


def _commits(settings: Settings, cluster: Cluster, loop: Loop, told: dict[str, Any]) -> Result:
    address = _address(cluster)
    times: list[int] = []
    with cluster.topic() as topic:
        interval = settings.committers / settings.rate
        end = time.perf_counter() + settings.seconds
        for number in range(settings.committers):
            row = OffsetCommitRequestPartition(0, number)
            request = OffsetCommitRequest(
                group_id=f"group-{number}", topics=[OffsetCommitRequestTopic(topic, partitions=[row])]
            )
            frame = framed(encode_request_frame(request, 9, 0, CLIENT_ID))
            _commit_again(loop, Connection(loop, address), frame, interval, times)
        cpu, start = _cpu(cluster), time.perf_counter()
        loop.run_until(lambda: time.perf_counter() >= end)
        seconds, cpu = time.perf_counter() - start, _cpu(cluster) - cpu
        return _result("groups.commits", times, seconds, cpu, told)


def _commit_again(
    loop: Loop, connection: Connection, frame: bytes, interval: float, times: list[int]
) -> None:
    """Commits every `interval` seconds, or as often as answers come where that is slower."""
    due = time.perf_counter()

    def send() -> None:
        connection.send(frame, OffsetCommitRequest.API_KEY, 9, told)

    def told(answer: Any) -> None:
        nonlocal due
        now = time.perf_counter()
        times.append(int((now - due) * 1e9))
        code = answer.topics[0].partitions[0].error_code
        if code:
            raise error_for(code, "groups: a commit was refused")
        due = max(due + interval, now)
        loop.at(due, send)

    loop.at(due, send)


def _result(name: str, times: list[int], seconds: float, cpu: float, told: dict[str, Any]) -> Result:
    return Result(
        name=name,
        records=len(times),
        seconds=seconds,
        records_per_second=len(times) / seconds,
        p50_ms=percentile_ms(times, 50),
        p99_ms=percentile_ms(times, 99),
        details={
            "broker_cpu_of_a_core": cpu / seconds,
            "broker_cpu_microseconds_each": cpu / len(times) * 1e6 if times else None,
        },
        settings=told,
    )
