"""Listener addresses: SCHEME://HOST:PORT."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import msgspec

from fastlog.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMES = ("PLAINTEXT", "ZMQ", "BROKER", "METADATA")
#: for brokers of one cluster only: requests of each other, and what the controller publishes
BROKER, METADATA = CLUSTER_SCHEMES = SCHEMES[2:]
PORT_MAX = 65535
HOST_LENGTH_MAX = 253
#: characters of what is wrong in a message
SHOWN_MAX = 100
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)


class Endpoint(msgspec.Struct, frozen=True):
    """One address of a broker."""

    scheme: str
    """One of SCHEMES; also the listener's name."""
    host: str
    """A host name or address without brackets; empty is every interface."""
    port: int
    """0 lets the system choose, for a listener."""

    def __str__(self) -> str:
        """The address as it is written in a configuration."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """HOST:PORT, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_endpoint(key: str, text: str) -> Endpoint:
    """The endpoint written as `text`; ConfigError, which names `key`, when it is none."""
    scheme, separator, rest = text.partition("://")
    host, colon, port = rest.rpartition(":")
    if not separator or not colon:
        raise ConfigError(f"{key}={text}: it takes SCHEME://HOST:PORT, such as PLAINTEXT://127.0.0.1:9092")
    if scheme.upper() not in SCHEMES:
        raise ConfigError(f"{key}={text}: unknown scheme {scheme}; it takes {' or '.join(SCHEMES)}")
    if not port.isascii() or not port.isdigit() or int(port) > PORT_MAX:
        raise ConfigError(
            f"{key}={text}: {port or 'nothing'} is no port, which is a number from 0 to {PORT_MAX}"
        )
    in_brackets = host.startswith("[") and host.endswith("]")
    if not in_brackets and ":" in host:
        raise ConfigError(f"{key}={text}: an IPv6 address stands in brackets, as in PLAINTEXT://[::1]:9092")
    host = host[1:-1] if in_brackets else host
    if wrong := _is_no_address(host) if in_brackets else _is_no_host(host):
        raise ConfigError(f"{key}={text[:SHOWN_MAX]}: {wrong}")
    return Endpoint(scheme.upper(), host, int(port))


def _is_no_address(host: str) -> str:
    """Why what stands in brackets is no IPv6 address, or nothing."""
    try:
        IPv6Address(host)
    except ValueError:
        return f"{host[:SHOWN_MAX]!r} is no IPv6 address"
    return ""


def _is_no_host(host: str) -> str:
    """Why nothing can be called so, or nothing; an empty host is every interface. RFC 1123, and `_` as in practice."""
    if not host:
        return ""
    try:
        # what is not ASCII goes to the resolver in that form
        labels = host.removesuffix(".").encode("idna").decode("ascii").split(".")
    except UnicodeError:
        labels = [""]
    if len(host) > HOST_LENGTH_MAX or not all(_LABEL.fullmatch(it) for it in labels):
        return f"{host[:SHOWN_MAX]!r} is no name of a host"
    if labels[-1].isdecimal():
        try:
            IPv4Address(host)
        except ValueError:
            return f"{host!r} is no IPv4 address"
    return ""


def parse_listeners(texts: Sequence[str], *, in_cluster: bool = False) -> tuple[Endpoint, ...]:
    """The endpoints to listen on; at least one is for Kafka clients, and no scheme stands twice.

    In a cluster there is one of each that brokers need; without a cluster there is none of those.
    """
    endpoints = tuple(parse_endpoint("listeners", text) for text in texts)
    _refuse_twice("listeners", endpoints)
    by_scheme = {endpoint.scheme: endpoint for endpoint in endpoints}
    if "PLAINTEXT" not in by_scheme:
        raise ConfigError("listeners: none is for Kafka clients; add one such as PLAINTEXT://127.0.0.1:9092")
    if in_cluster:
        host = by_scheme["PLAINTEXT"].host
        return endpoints + tuple(Endpoint(it, host, 0) for it in CLUSTER_SCHEMES if it not in by_scheme)
    for scheme in CLUSTER_SCHEMES:
        if scheme in by_scheme:
            raise ConfigError(
                f"listeners: {by_scheme[scheme]} is for the brokers of a cluster; say which (zookeeper.connect)"
            )
    return endpoints


def parse_advertised(texts: Sequence[str], listeners: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """The endpoints to tell to clients; each belongs to one of `listeners` and is a complete address."""
    endpoints = tuple(parse_endpoint("advertised.listeners", text) for text in texts)
    _refuse_twice("advertised.listeners", endpoints)
    schemes = {listener.scheme for listener in listeners}
    for endpoint in endpoints:
        if endpoint.scheme not in schemes:
            raise ConfigError(f"advertised.listeners={endpoint}: listeners has no {endpoint.scheme}://")
        if not endpoint.host or endpoint.host in ("0.0.0.0", "::") or not endpoint.port:  # noqa: S104
            raise ConfigError(
                f"advertised.listeners={endpoint}: clients cannot connect to it; give host and port"
            )
    return endpoints


def _refuse_twice(key: str, endpoints: Sequence[Endpoint]) -> None:
    schemes = [endpoint.scheme for endpoint in endpoints]
    for scheme in schemes:
        if schemes.count(scheme) > 1:
            raise ConfigError(f"{key}: {scheme}:// stands twice; a broker has one listener of each scheme")
