"""Which address of this broker a client is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.config import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.broker.context import RequestContext

# a listener bound to every interface has no address of its own that a client could use
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104


class Addresses:
    """The bound listeners and the advertised ones."""

    def __init__(self, bound: Sequence[Endpoint], advertised: Sequence[Endpoint]) -> None:
        self.bound = tuple(bound)
        self.advertised = tuple(advertised)

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
