"""Which addresses of brokers a client is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fastlog.config import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.broker.context import RequestContext
    from fastlog.ports import Registration

# a listener bound to every interface has no address of its own that a client could use
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104


class Registrations(Protocol):
    """The live brokers of a cluster, as the controller published them. Read from any thread."""

    def registration(self, broker_id: int) -> Registration | None:
        """The broker's; None for one that is not live, or not known."""
        ...


class Addresses:
    """The bound listeners and the advertised ones, and in a cluster those of others."""

    def __init__(
        self,
        bound: Sequence[Endpoint],
        advertised: Sequence[Endpoint],
        *,
        node_id: int,
        registrations: Registrations | None = None,
    ) -> None:
        self.bound = tuple(bound)
        self.advertised = tuple(advertised)
        self._node_id = node_id
        self.registrations = registrations
        """The brokers of the cluster; None for a broker of its own."""

    def of(self, broker_id: int, context: RequestContext) -> Endpoint | None:
        """The address of a broker for who asks with `context`, on the listener asked.

        None for a broker that is not live, or has no such listener: clients would try it in vain.
        """
        if broker_id == self._node_id:
            return self.told(context)
        known = self.registrations and self.registrations.registration(broker_id)
        address = known and known.endpoints.get(context.listener)
        return Endpoint(context.listener, *address) if address else None

    def told(self, context: RequestContext) -> Endpoint:
        """The address of this broker for who asks with `context`, on the listener asked."""
        for endpoint in self.advertised:
            if endpoint.scheme == context.listener:
                return endpoint
        if context.local_address is not None:
            return Endpoint(context.listener, *context.local_address)
        for endpoint in self.bound:
            if endpoint.scheme == context.listener:
                return endpoint
        return self.bound[0]
