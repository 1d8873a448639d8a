"""Listeners that are opened in Python: ZeroMQ's, with the bounds that the settings say."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastlog.config import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastlog.config import BrokerSettings
    from fastlog.transport.router import RouterListener


def bind_router(listener: Endpoint, settings: BrokerSettings, *, requests_min: int = 1) -> RouterListener:
    """A ROUTER that is bound and does not serve yet; raises BindError.

    A peer may have at least `requests_min` unanswered requests, whatever the settings say.
    """
    # imported here: a broker without a ZeroMQ listener starts quicker
    from fastlog.transport.connections import ConnectionLimits
    from fastlog.transport.router import RouterLimits, RouterListener

    limits = RouterLimits(
        message_bytes_max=settings.socket_request_max_bytes,
        queue_messages=settings.fastlog_zmq_queue_messages,
        peer_requests_max=max(settings.fastlog_zmq_identity_requests_max, requests_min),
        parked_answers_max=settings.fastlog_zmq_parked_answers_max,
        handshake_ms=settings.fastlog_zmq_handshake_ms,
        connections=ConnectionLimits(
            connections_max=settings.max_connections,
            connections_per_ip_max=settings.max_connections_per_ip,
            frame_timeout_ms=settings.fastlog_frame_timeout_ms,
        ),
    )
    router = RouterListener(limits, listener.scheme)
    router.bind(listener.host, listener.port)
    return router


@contextmanager
def reserved_endpoint(listener: Endpoint) -> Iterator[Endpoint]:
    """Holds a TCP listener's address, which others are told before anybody listens there; raises BindError."""
    from fastlog.transport.reservation import reserved

    with reserved(listener.scheme, listener.host, listener.port) as port:
        yield Endpoint(listener.scheme, listener.host, port)
