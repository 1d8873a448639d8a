"""Sessions: what the server grants, what is told, and how they end."""

from __future__ import annotations

import threading

import pytest

from fastlog.cluster.zookeeper.events import Connected, SessionEnded
from fastlog.ports import StoreUnavailableError
from tests.support.zookeeper import Connect


@pytest.mark.parametrize(("asked", "granted"), [(500, 1000), (4000, 4000), (60_000, 10_000)])
def test_the_time_out_is_the_one_that_the_server_grants(connect: Connect, asked: int, granted: int) -> None:
    connected = connect(session_ms=asked)
    assert connected.connection.session_ms == granted
    assert connected.wait_for(Connected) == Connected(connected.connection.session, granted)


def test_a_close_ends_the_session_and_is_told_once(connect: Connect) -> None:
    connected = connect()
    session = connected.connection.session
    assert session != 0
    connected.close()
    connected.close()
    assert connected.wait_for(SessionEnded) == SessionEnded(session)
    assert connected.events.empty()
    with pytest.raises(StoreUnavailableError):
        connected.connection.get("/")


def test_many_threads_share_a_connection(connect: Connect) -> None:
    connection = connect().connection
    path = f"{connection.paths.acls}/x"
    connection.ask(lambda client: client.create_async(path, b""))

    def write() -> None:
        for _ in range(50):
            connection.ask(lambda client: client.set_async(path, b"y"))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert connection.get(path)[1].version == 400
