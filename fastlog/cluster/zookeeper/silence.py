"""Why no ZooKeeper answers, as far as can be seen from here: what an operator would find out first."""

from __future__ import annotations

import os
import socket

LOOK_SECONDS = 1.0


def why_silent(hosts: str) -> str:
    """What each server of HOST:PORT[,…] does, for a sentence. Blocks for a second each at most, names aside."""
    return ", ".join(f"{server} {_seen(server)}" for server in hosts.split(","))


def _seen(server: str) -> str:
    host, _, port = server.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), LOOK_SECONDS):
            return "takes connections, but is no ZooKeeper, or one that serves nobody now"
    except socket.gaierror:
        return "has a name that does not resolve"
    except ConnectionRefusedError:
        return "refuses connections, so nothing listens there"
    except TimeoutError:
        return "is silent, as behind a firewall or where there is no such machine"
    except OSError as error:
        # its own text names the address once more
        return f"is not reached ({os.strerror(error.errno) if error.errno else error})"
