"""What the data plane answers Metadata from, published to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fastlog.broker.control_api import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlog.broker.control_api import ControlApi
    from fastlog.config import Endpoint
    from fastlog.ports import Topic


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
    ) -> None:
        """Replaces what is said of the cluster and of this broker.

        `apis` are (key, first version, last version, whether its requests wait in the queue of groups) of what the
        control plane serves. `endpoints` are the advertised
        addresses by listener; where a listener has none, clients are told the address that they connected to. An empty
        host in `zmq_endpoint` stands for the host that the client connected to.
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
) -> None:
    """Publishes the cluster of a single broker, which is its own controller."""
    told = {endpoint.scheme: (endpoint.host, endpoint.port) for endpoint in advertised}
    own = None if zmq is None else (zmq.host, zmq.port)
    sink.publish_cluster(
        cluster_id=cluster_id,
        controller_id=node_id,
        auto_create_topics=auto_create_topics,
        apis=[(int(api.key), *api.versions, api.lane is Lane.GROUPS) for api in apis],
        endpoints=told,
        zmq_endpoint=told.get("ZMQ", own),
    )
