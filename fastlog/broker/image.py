"""What the data plane answers Metadata from, published to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fastlog.broker.control_api import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlog.broker.control_api import ControlApi
    from fastlog.config import Endpoint
    from fastlog.ports import Registration, Topic


class ImageSink(Protocol):
    """The engine's side."""

    def publish_topics(self, put: Sequence[Topic], removed: Sequence[str]) -> None:
        """Replaces topics by name and takes others away, all at once."""
        ...

    def publish_cluster(
        self,
        *,
        cluster_id: str,
        controller_id: int,
        auto_create_topics: bool,
        apis: Sequence[tuple[int, int, int, bool]],
        endpoints: Mapping[str, tuple[str, int]],
        zmq_endpoint: tuple[str, int] | None,
        node_id: int | None = None,
        brokers: Sequence[tuple[int, str | None, Mapping[str, tuple[str, int]]]] = (),
    ) -> None:
        """Replaces what is said of the cluster and of this broker, whose id `node_id` need not be said.

        `apis` are (key, first version, last version, whether its requests wait in the queue of groups) of what the
        control plane serves. `endpoints` are the advertised
        addresses by listener; where a listener has none, clients are told the address that they connected to. An empty
        host in `zmq_endpoint` stands for the host that the client connected to. `brokers` are the other live brokers:
        id, rack and endpoints by listener name, `ZMQ` among them. A client is told of those that have the listener that
        it asked on; a partition whose leader is not among them has no leader for it.
        """
        ...


def publish_cluster(
    sink: ImageSink,
    *,
    node_id: int,
    cluster_id: str,
    auto_create_topics: bool,
    apis: Sequence[ControlApi],
    advertised: Sequence[Endpoint],
    zmq: Endpoint | None,
    controller_id: int | None = None,
    others: Sequence[Registration] = (),
) -> None:
    """Publishes the cluster: this broker, which is the controller where no other is named, and the other live ones."""
    told = {endpoint.scheme: (endpoint.host, endpoint.port) for endpoint in advertised}
    own = None if zmq is None else (zmq.host, zmq.port)
    sink.publish_cluster(
        cluster_id=cluster_id,
        controller_id=node_id if controller_id is None else controller_id,
        auto_create_topics=auto_create_topics,
        apis=[(int(api.key), *api.versions, api.lane is Lane.GROUPS) for api in apis],
        endpoints=told,
        zmq_endpoint=told.get("ZMQ", own),
        node_id=node_id,
        brokers=[(it.broker_id, it.rack, dict(it.endpoints)) for it in others],
    )
