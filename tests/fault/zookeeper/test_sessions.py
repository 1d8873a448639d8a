"""Brokers that pause, die and come back, as ZooKeeper and their peers see it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastlog.cluster.zookeeper.events import Changed
from fastlog.cluster.zookeeper.membership import Membership
from fastlog.testing.zookeeper import ZooKeeper
from tests.support.broker import wait_until
from tests.support.zookeeper import Connect
from tests.support.zookeeper_member import Member

SESSION_MS = 2000
#: beside which the start of a process is short, however much the machine has to do
LONG_SESSION_MS = 6000
MakeMember = Callable[..., Member]


@pytest.fixture
def make_member(zookeeper: ZooKeeper, root: str, tmp_path: Path) -> Iterator[MakeMember]:
    """Starts members of the test's cluster; they are killed at its end."""
    made: list[Member] = []

    def make(broker_id: int = 1, directory: str = "data", session_ms: int = SESSION_MS) -> Member:
        member = Member(zookeeper.hosts, root, broker_id, tmp_path / directory, session_ms=session_ms)
        made.append(member)
        return member

    yield make
    for member in made:
        member.kill()


def test_a_paused_broker_stops_acting_before_it_counts_as_dead(
    connect: Connect, make_member: MakeMember
) -> None:
    watcher = connect()
    members = Membership(watcher.connection)
    paused = make_member()
    old = paused.wait_for("registered")
    wait_until("it acts", lambda: paused.last_act(old) > 0)
    assert [each.broker_epoch for each in members.live().registrations] == [old]
    paused.process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic_ns()
    watcher.wait_for(Changed("brokers"))
    gone = time.monotonic_ns()
    assert members.live().registrations == ()
    paused.process.send_signal(signal.SIGCONT)
    new = paused.wait_for("registered")
    assert new > old
    wait_until("it acts again", lambda: paused.last_act(new) > gone)
    # on waking it may not have acted once more with what it held before
    assert 0 < paused.last_act(old) < gone
    print(f"gone {(gone - stopped) / 1e6:.0f} ms after the pause, session {SESSION_MS} ms")
    assert (gone - stopped) / 1e6 < SESSION_MS + 1000
    assert [each.broker_epoch for each in members.live().registrations] == [new]


def test_a_killed_broker_is_back_within_its_session(connect: Connect, make_member: MakeMember) -> None:
    watcher = connect()
    members = Membership(watcher.connection)
    before = make_member(session_ms=LONG_SESSION_MS)
    old = before.wait_for("registered")
    before.kill()
    started = time.monotonic()
    after = make_member(session_ms=LONG_SESSION_MS)
    new = after.wait_for("registered")
    taken = time.monotonic() - started
    assert new > old
    assert [each.broker_epoch for each in members.live().registrations] == [new]
    # long before the session of the dead one is over, which then takes nothing away
    assert taken < LONG_SESSION_MS / 1000
    acts = len(after.acts)
    time.sleep(LONG_SESSION_MS / 1000 + 1.0)
    assert [each.broker_epoch for each in members.live().registrations] == [new]
    assert len(after.acts) > acts


def test_another_directory_with_the_same_node_id_is_refused(
    connect: Connect, make_member: MakeMember
) -> None:
    connect()
    first = make_member(directory="one")
    epoch = first.wait_for("registered")
    second = make_member(directory="two")
    assert second.wait_for("refused").startswith("NodeIdInUseError: node.id 1 is in use")
    assert second.process.wait(10) == 1
    moment = time.monotonic_ns()
    wait_until("the first one goes on", lambda: first.last_act(epoch) > moment)
    # and when it is gone with its directory, the other one may have the id
    first.kill()
    wait_until(
        "its session is over",
        lambda: Membership(connect().connection).live().registrations == (),
        seconds=SESSION_MS / 1000 + 5,
    )
    assert make_member(directory="two").wait_for("registered") > epoch


def test_many_starts_that_never_registered_are_remembered(connect: Connect, make_member: MakeMember) -> None:
    connect()
    first = make_member()
    old = first.wait_for("registered")
    first.kill()
    for _ in range(3):
        # killed before, while or after it registers: whichever, the next one has to know it
        doomed = make_member()
        time.sleep(0.1)
        doomed.kill()
    assert make_member().wait_for("registered") > old


def test_a_registration_that_somebody_takes_away_ends_the_lease_and_is_made_anew(
    connect: Connect, make_member: MakeMember
) -> None:
    connection = connect().connection
    member = make_member()
    epoch = member.wait_for("registered")
    wait_until("it acts", lambda: member.last_act(epoch) > 0)
    connection.ask(lambda client: client.delete_async(connection.paths.broker(1)))
    deleted = time.monotonic_ns()
    while member.wait_for("told") != "Unregistered":
        pass
    # known with the next write, a sixth of a session later; not waited for until the lease runs out
    assert (member.last_act(epoch) - deleted) / 1e6 < SESSION_MS / 3
    assert member.wait_for("registered") > epoch
