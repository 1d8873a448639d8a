"""Registration of brokers: one znode each, and who may replace whose."""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec
import pytest

from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
from fastlog.cluster.zookeeper.events import Changed
from fastlog.cluster.zookeeper.membership import Membership, NodeIdInUseError
from fastlog.ports import CorruptStoreError, Registration
from tests.support.zookeeper import Connect


def broker(broker_id: int = 1, incarnation: UUID | None = None) -> Registration:
    """A broker that is not registered yet."""
    return Registration(
        broker_id=broker_id,
        broker_epoch=-1,
        incarnation=incarnation or uuid4(),
        endpoints={"PLAINTEXT": ("127.0.0.1", 9092), "ZMQ": ("127.0.0.1", 9192)},
        rack="r1",
        clean_start=False,
    )


def put(connection: ZooKeeperConnection, path: str, data: bytes) -> None:
    """Writes what only somebody's hand would."""
    connection.ask(lambda client: client.create_async(path, data))


def test_brokers_are_listed_with_what_they_said_and_their_epochs(connect: Connect) -> None:
    one, two = Membership(connect().connection), Membership(connect().connection)
    first = one.register(broker(2), ())
    second = two.register(broker(1), ())
    assert 0 < first.broker_epoch < second.broker_epoch
    assert one.live().registrations == two.live().registrations == (second, first)


def test_who_comes_and_goes_is_told(connect: Connect) -> None:
    watcher, other = connect(), connect()
    members = Membership(watcher.connection)
    assert members.live().registrations == ()
    Membership(other.connection).register(broker(7), ())
    watcher.wait_for(Changed("brokers"))
    assert [each.broker_id for each in members.live().registrations] == [7]
    other.close()
    watcher.wait_for(Changed("brokers"))
    assert members.live().registrations == ()


def test_a_node_id_in_use_is_refused_and_the_one_who_has_it_stays(connect: Connect) -> None:
    first, second = Membership(connect().connection), Membership(connect().connection)
    registered = first.register(broker(), ())
    with pytest.raises(NodeIdInUseError, match=r"node.id 1 is in use .*127.0.0.1:9092"):
        second.register(broker(), (uuid4(),))
    assert first.live().registrations == (registered,)


def test_a_restart_within_the_session_takes_over_with_a_new_epoch(connect: Connect) -> None:
    before, after, watcher = connect(), connect(), connect()
    old = Membership(before.connection).register(broker(), ())
    members = Membership(watcher.connection)
    assert members.live().registrations == (old,)
    fresh = broker(incarnation=uuid4())
    new = Membership(after.connection).register(fresh, (uuid4(), old.incarnation))
    assert new.broker_epoch > old.broker_epoch
    watcher.wait_for(Changed("brokers"))
    assert members.live().registrations == (new,)
    # the end of the old session takes nothing away
    before.close()
    assert members.live().registrations == (new,)


def test_registering_again_in_the_same_session_changes_nothing(connect: Connect) -> None:
    members, mine = Membership(connect().connection), broker()
    assert members.register(mine, ()) == members.register(mine, ())


def test_a_registration_that_is_garbage_is_named_and_left_alone(connect: Connect) -> None:
    connection = connect().connection
    members = Membership(connection)
    good = members.register(broker(1), ())
    path = connection.paths.broker(2)
    put(connection, path, b"\xff{")
    put(connection, f"{connection.paths.broker_ids}/x", b"{}")
    # a number of no type, and a second name of the same broker
    whole = connection.get(connection.paths.broker(1))[0]
    put(connection, connection.paths.broker(3), whole.replace(b"9092", b"9" * 20))
    put(connection, f"{connection.paths.broker_ids}/01", whole)
    put(connection, connection.paths.broker(2**31), whole)
    live = members.live()
    assert live.registrations == (good,)
    names = ["01", "2", "2147483648", "3", "x"]
    assert [each.path for each in live.broken] == [f"{connection.paths.broker_ids}/{it}" for it in names]
    with pytest.raises(CorruptStoreError, match=path):
        members.register(broker(2), ())
    assert connection.get(path)[0] == b"\xff{"


def test_a_broker_without_rack_and_with_a_clean_start(connect: Connect) -> None:
    members = Membership(connect().connection)
    plain = msgspec.structs.replace(broker(), rack=None, clean_start=True)
    assert members.live().registrations == ()
    registered = members.register(plain, ())
    assert members.live().registrations == (registered,)
