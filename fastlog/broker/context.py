"""Who asks, and who may."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol


class RequestContext(Protocol):
    """What came with a control request beside its body."""

    @property
    def api_version(self) -> int:
        """The version, one of those that are served."""
        ...

    @property
    def correlation_id(self) -> int:
        """What the answer carries back."""
        ...

    @property
    def client_id(self) -> str | None:
        """What the client calls itself; not to be trusted."""
        ...

    @property
    def principal(self) -> str:
        """Who the client is, `User:ANONYMOUS` without authentication."""
        ...

    @property
    def listener(self) -> str:
        """The name of the listener that it came in by."""
        ...

    @property
    def client_address(self) -> str | None:
        """The peer's HOST:PORT; None where the transport does not tell (ZeroMQ)."""
        ...

    @property
    def local_address(self) -> tuple[str, int] | None:
        """Host and port that the client connected to; None where the transport does not tell."""
        ...


class Operation(IntEnum):
    """What is done; the numbers are Kafka's ACL operations."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12


CLUSTER_OPERATIONS = (
    Operation.CREATE,
    Operation.ALTER,
    Operation.DESCRIBE,
    Operation.CLUSTER_ACTION,
    Operation.DESCRIBE_CONFIGS,
    Operation.ALTER_CONFIGS,
    Operation.IDEMPOTENT_WRITE,
)
"""What can be done to the cluster."""

TOPIC_OPERATIONS = (
    Operation.READ,
    Operation.WRITE,
    Operation.CREATE,
    Operation.DELETE,
    Operation.ALTER,
    Operation.DESCRIBE,
    Operation.DESCRIBE_CONFIGS,
    Operation.ALTER_CONFIGS,
)
"""What can be done to a topic."""

GROUP_OPERATIONS = (
    Operation.READ,
    Operation.DELETE,
    Operation.DESCRIBE,
    Operation.DESCRIBE_CONFIGS,
    Operation.ALTER_CONFIGS,
)
"""What can be done to a group."""


class ResourceType(IntEnum):
    """What it is done to; the numbers are Kafka's resource types."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5


CLUSTER_NAME = "kafka-cluster"


class Authorizer(Protocol):
    """Says who may do what; called on the control plane's threads, so it must not block."""

    def allows(
        self, context: RequestContext, operation: Operation, resource_type: ResourceType, name: str
    ) -> bool:
        """Whether the principal of `context` may do `operation` to the resource."""
        ...


class AllowAll:
    """The authorizer of a broker without ACLs."""

    def allows(
        self, context: RequestContext, operation: Operation, resource_type: ResourceType, name: str
    ) -> bool:
        """True."""
        return True
