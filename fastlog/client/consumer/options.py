"""What a consumer is told once."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - the annotations are read while the program runs
from dataclasses import dataclass
from typing import TypedDict

from fastlog.errors import ConfigError

INT32_MAX = 2**31 - 1
MEBIBYTE = 1 << 20
RESETS = ("earliest", "latest", "none")
# the names of fastlog.state.assignors, which a consumer without a group need not import
STRATEGIES = ("range", "roundrobin", "sticky", "cooperative-sticky")
GROUP_PROTOCOLS = ("classic", "consumer")
CLASSIC_ONLY = {
    "session_timeout_ms": "the broker sets it (group.consumer.session.timeout.ms)",
    "heartbeat_interval_ms": "the broker sets it (group.consumer.heartbeat.interval.ms)",
    "partition_assignment_strategy": "the broker assigns, see group_remote_assignor",
}
ISOLATION_LEVELS = ("read_uncommitted", "read_committed")
#: setting: (lowest, highest)
BOUNDS = {
    "fetch_min_bytes": (0, INT32_MAX),
    "fetch_max_bytes": (1, INT32_MAX),
    "max_partition_fetch_bytes": (1, INT32_MAX),
    "fetch_max_wait_ms": (0, INT32_MAX),
    "prefetch_bytes": (1, 2**40),
    "metadata_max_age_ms": (1, INT32_MAX),
    "request_timeout_ms": (1, INT32_MAX),
    "connect_timeout_ms": (1, INT32_MAX),
    "bootstrap_timeout_ms": (0, INT32_MAX),
    "retry_backoff_ms": (1, INT32_MAX),
    "retry_backoff_max_ms": (1, INT32_MAX),
    "session_timeout_ms": (1, INT32_MAX),
    "heartbeat_interval_ms": (1, INT32_MAX),
    "max_poll_interval_ms": (1, INT32_MAX),
    "max_poll_records": (1, INT32_MAX),
    "auto_commit_interval_ms": (0, INT32_MAX),
}


class OptionTypes(TypedDict, total=False):
    """The keyword arguments of Consumer that are fields of ConsumerOptions: for type checkers and editors."""

    client_id: str
    auto_offset_reset: str
    isolation_level: str
    fetch_min_bytes: int
    fetch_max_bytes: int
    max_partition_fetch_bytes: int
    fetch_max_wait_ms: int
    check_crcs: bool
    rack: str
    prefetch_bytes: int
    metadata_max_age_ms: int
    request_timeout_ms: int
    connect_timeout_ms: int
    bootstrap_timeout_ms: int
    retry_backoff_ms: int
    retry_backoff_max_ms: int
    max_poll_records: int
    group_protocol: str
    group_instance_id: str | None
    group_remote_assignor: str | None
    session_timeout_ms: int
    heartbeat_interval_ms: int
    max_poll_interval_ms: int
    partition_assignment_strategy: str | Sequence[str]
    enable_auto_commit: bool
    auto_commit_interval_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerOptions:
    """Settings of a consumer; names and defaults are Kafka's unless a comment says why not."""

    client_id: str = "fastlog"
    auto_offset_reset: str = "latest"
    isolation_level: str = "read_uncommitted"
    fetch_min_bytes: int = 1
    fetch_max_bytes: int = 50 * MEBIBYTE
    max_partition_fetch_bytes: int = MEBIBYTE
    fetch_max_wait_ms: int = 500
    check_crcs: bool = True
    # Kafka's client.rack
    rack: str = ""
    # Kafka has no such bound: its consumer holds one fetch per broker. Twice the default message.max.bytes for each of
    # a few partitions, and little enough to stay cheap for many consumers in one process
    prefetch_bytes: int = 16 * MEBIBYTE
    metadata_max_age_ms: int = 300_000
    request_timeout_ms: int = 30_000
    connect_timeout_ms: int = 10_000
    # ours: how long the first contact may take before reading fails; later outages are waited out
    bootstrap_timeout_ms: int = 10_000
    retry_backoff_ms: int = 100
    retry_backoff_max_ms: int = 1_000
    max_poll_records: int = 500
    # the rest is for members of a group
    # "classic", or "consumer" (KIP-848), where the coordinator assigns and the session is its to set
    group_protocol: str = "classic"
    group_instance_id: str | None = None
    # for "consumer": the name of the coordinator's assignor, its default where None
    group_remote_assignor: str | None = None
    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 3_000
    max_poll_interval_ms: int = 300_000
    # one name or several, the preferred first
    partition_assignment_strategy: str | Sequence[str] = ("range", "cooperative-sticky")
    enable_auto_commit: bool = True
    auto_commit_interval_ms: int = 5_000

    def __post_init__(self) -> None:
        choose("auto_offset_reset", self.auto_offset_reset, RESETS)
        choose("isolation_level", self.isolation_level, ISOLATION_LEVELS)
        for name, (lowest, highest) in BOUNDS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
                raise ConfigError(
                    f"{name} is {value!r}; it must be a whole number from {lowest} to {highest}"
                )
        if self.heartbeat_interval_ms >= self.session_timeout_ms:
            raise ConfigError(
                f"heartbeat_interval_ms is {self.heartbeat_interval_ms}; it must be below session_timeout_ms "
                f"({self.session_timeout_ms}), a third of it at most to survive lost heartbeats"
            )
        if self.group_instance_id is not None and not self.group_instance_id:
            raise ConfigError("group_instance_id is empty; leave it out, or give each member its own name")
        choose("group_protocol", self.group_protocol, GROUP_PROTOCOLS)
        self._check_protocol()
        if not self.strategies:
            raise ConfigError("partition_assignment_strategy is empty; name at least one")
        for strategy in self.strategies:
            choose("partition_assignment_strategy", strategy, STRATEGIES)

    def _check_protocol(self) -> None:
        """Refuses what the other protocol has, as Kafka does."""
        if self.group_protocol == "classic":
            if self.group_remote_assignor is not None:
                raise ConfigError("group_remote_assignor is for group_protocol='consumer'; leave it out")
            return
        for name, instead in CLASSIC_ONLY.items():
            if getattr(self, name) != ConsumerOptions.__dataclass_fields__[name].default:
                raise ConfigError(f"{name} is for group_protocol='classic'; leave it out: {instead}")

    @property
    def read_committed(self) -> bool:
        """Whether records of open and aborted transactions stay hidden."""
        return self.isolation_level == "read_committed"

    @property
    def strategies(self) -> tuple[str, ...]:
        """The names of the assignors, the preferred first."""
        given = self.partition_assignment_strategy
        return (given,) if isinstance(given, str) else tuple(given)


def choose(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raises ConfigError where `value` is not one of `allowed`."""
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, allowed))}")
