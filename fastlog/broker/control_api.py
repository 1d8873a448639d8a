"""What all control APIs share: their description, what they work with, how one part of a request fails alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import msgspec

from fastlog.broker.context import CLUSTER_NAME, RequestContext, ResourceType
from fastlog.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    KafkaStorageError,
    TopicAuthorizationFailedError,
    UnknownServerError,
)
from fastlog.events import EventLog
from fastlog.ports import StoreUnavailableError
from fastlog.protocol.api import ApiKey

if TYPE_CHECKING:
    from fastlog.broker.addresses import Addresses
    from fastlog.broker.configs import Configs
    from fastlog.broker.context import Authorizer, Operation
    from fastlog.broker.data_plane import DataPlane
    from fastlog.broker.groups.coordinator import GroupCoordinator
    from fastlog.broker.ports import Brokers, Placement, Topics
    from fastlog.broker.producer_ids import ProducerIds

Part = ParamSpec("Part")


class Services:
    """What the handlers of control APIs work with."""

    def __init__(
        self,
        *,
        node_id: int,
        cluster_id: str,
        topics: Topics,
        placement: Placement,
        brokers: Brokers,
        configs: Configs,
        producer_ids: ProducerIds,
        data_plane: DataPlane,
        addresses: Addresses,
        authorizer: Authorizer,
        groups: GroupCoordinator,
    ) -> None:
        self.node_id = node_id
        self.cluster_id = cluster_id
        self.topics = topics
        self.placement = placement
        self.brokers = brokers
        self.configs = configs
        self.producer_ids = producer_ids
        self.data_plane = data_plane
        self.addresses = addresses
        self.authorizer = authorizer
        self.groups = groups

    @property
    def is_in_cluster(self) -> bool:
        """Whether there may be other brokers."""
        return self.addresses.registrations is not None

    def require_topic(self, context: RequestContext, operation: Operation, name: str) -> None:
        """Raises TopicAuthorizationFailedError unless the client may do `operation` to the topic."""
        if not self.authorizer.allows(context, operation, ResourceType.TOPIC, name):
            raise TopicAuthorizationFailedError(f"{context.principal} may not {operation.name} topic {name}")

    def require_group(self, context: RequestContext, operation: Operation, group_id: str) -> None:
        """Raises GroupAuthorizationFailedError unless the client may do `operation` to the group."""
        if not self.authorizer.allows(context, operation, ResourceType.GROUP, group_id):
            raise GroupAuthorizationFailedError(
                f"{context.principal} may not {operation.name} group {group_id}"
            )

    def require_cluster(self, context: RequestContext, operation: Operation) -> None:
        """Raises ClusterAuthorizationFailedError unless the client may do `operation` to the cluster."""
        if not self.authorizer.allows(context, operation, ResourceType.CLUSTER, CLUSTER_NAME):
            raise ClusterAuthorizationFailedError(f"{context.principal} may not {operation.name} the cluster")

    def operations(
        self, context: RequestContext, candidates: Sequence[Operation], kind: ResourceType, name: str
    ) -> int:
        """One bit for each of `candidates` that the client may do to the resource."""
        allows = self.authorizer.allows
        return sum(1 << operation for operation in candidates if allows(context, operation, kind, name))


class Lane(Enum):
    """A thread that handles requests one after the other."""

    ASKS = "asks"
    """For what changes nothing. May block."""
    CHANGES = "changes"
    """For what changes topics or settings. May block."""
    GROUPS = "groups"
    """For groups and their offsets, whose state no other thread touches: with a queue of its own in the data plane."""


class ControlApi(msgspec.Struct, frozen=True, kw_only=True):
    """One API that the control plane answers."""

    key: ApiKey
    versions: tuple[int, int]
    """First and last version served, both inclusive."""
    lane: Lane
    """Which thread handles its requests."""
    handle: Callable[[Services, RequestContext, Any], Any]
    """Answers a request, with a `Later` where the answer is not there yet; None has the data plane answer it, and
    `Lane.CHANGES` has `change` answer it on that lane."""
    refuse: Callable[[Any, KafkaError], Any]
    """The answer in which every part of a request failed with the error."""
    change: Callable[[Services, RequestContext, Any], Any] | None = None
    """As `handle`, of an API of `Lane.ASKS` for a request that has to change something first: others need not wait
    behind those that do."""
    together: Callable[[Services, Sequence[tuple[RequestContext, Any]]], Sequence[Any]] | None = None
    """As `handle`, for requests that came together, an answer for each: of an API of `Lane.CHANGES` whose requests cost
    less together than one after the other, a sync of the disk for all as a rule."""


def attempt(
    what: str, name: object, action: Callable[Part, object], *args: Part.args, **kwargs: Part.kwargs
) -> KafkaError | None:
    """Runs one part of a request, `action` with its arguments, and answers how it failed, or None.

    A metadata store that cannot be used now, its disk full as a rule, is KAFKA_STORAGE_ERROR, which clients try again.
    What else is no KafkaError is a fault of ours: it is logged with its traceback and answered with
    UNKNOWN_SERVER_ERROR, so that the other parts still get their own answers.
    """
    try:
        action(*args, **kwargs)
    except KafkaError as error:
        return error
    except StoreUnavailableError as error:
        return storage_error(error)
    except Exception:
        EventLog("control").exception("request failed", request=what, on=str(name))
        return server_error()
    return None


def server_error() -> KafkaError:
    """The answer where the broker itself failed."""
    return UnknownServerError("the broker failed at this; its log has the reason")


def storage_error(error: StoreUnavailableError) -> KafkaError:
    """The answer where the metadata store cannot be used now; the reason is logged."""
    EventLog("control").error("the metadata store failed", reason=str(error))
    return KafkaStorageError(str(error))


def code_of(error: KafkaError | None) -> int:
    """The error's code, 0 for none."""
    return error.code if error else 0


def message_of(error: KafkaError | None) -> str | None:
    """The error's text, None for none."""
    return error.message or error.name if error else None


Name = TypeVar("Name", bound=Hashable)


def repeated(names: list[Name]) -> set[Name]:
    """Those that stand more than once."""
    return {name for name, count in Counter(names).items() if count > 1}
