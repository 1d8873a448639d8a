"""A broker is cut off together with the ZooKeeper server that it is connected to."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlog.cluster.zookeeper.membership import Membership
from fastlog.testing.zookeeper import ZooKeeper, ZooKeeperServer
from tests.fault.conftest import require
from tests.support.broker import wait_until
from tests.support.faults.network import Network
from tests.support.zookeeper import Connect
from tests.support.zookeeper_member import Member

SESSION_MS = 4000
# an operator's ZooKeeper that is slower to notice than ours: a follower that was cut off serves its clients for 4 s
SLOW = {"tickTime": "1000", "syncLimit": "4"}


@pytest.fixture
def network() -> Iterator[Network]:
    """Three machines."""
    require(os.geteuid() == 0, "only root may make network namespaces")
    require(shutil.which("ip") is not None, "ip is missing (apt-get install iproute2)")
    made = Network(3)
    yield made
    made.close()


@pytest.fixture
def spread(network: Network, tmp_path: Path) -> Iterator[ZooKeeper]:
    """An ensemble with a server on each machine."""
    servers = [
        ZooKeeperServer(
            tmp_path / str(number),
            number,
            host=network.address(number),
            prefix=network.on(number),
            settings=SLOW,
        )
        for number in network.machines
    ]
    with ZooKeeper.of(servers) as ensemble:
        yield ensemble


@pytest.mark.parametrize("with_leader", [False, True], ids=["follower", "leader"])
def test_its_lease_ends_before_the_others_count_it_as_dead(
    connect: Connect, network: Network, spread: ZooKeeper, root: str, tmp_path: Path, with_leader: bool
) -> None:
    near = spread.leader() if with_leader else spread.followers()[0]
    far = [each for each in spread.servers if each is not near]
    watcher = connect(",".join(each.address for each in far), session_ms=SESSION_MS)
    members = Membership(watcher.connection)
    member = Member(
        near.address, root, 1, tmp_path / "data", session_ms=SESSION_MS, prefix=network.on(near.number)
    )
    try:
        epoch = member.wait_for("registered")
        wait_until("it acts", lambda: member.last_act(epoch) > 0)
        assert [each.broker_epoch for each in members.live().registrations] == [epoch]
        network.cut(near.number)
        cut = time.monotonic_ns()
        gone = when_gone(members)
        last = member.last_act(epoch)
        print(f"last act {(last - cut) / 1e6:.0f} ms, gone {(gone - cut) / 1e6:.0f} ms after the cut")
        assert 0 < last < gone
        assert (last - cut) / 1e6 < SESSION_MS * 2 / 3
        network.heal(near.number)
        fresh = member.wait_for("registered")
        assert fresh > epoch
        wait_until("it acts again", lambda: member.last_act(fresh) > 0)
        assert member.last_act(epoch) == last
    finally:
        member.kill()


def when_gone(members: Membership) -> int:
    """The moment at which the majority has no registration any more."""
    from fastlog.ports import StoreUnavailableError

    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        try:
            if not members.live().registrations:
                return time.monotonic_ns()
        except StoreUnavailableError:
            # the majority elects a leader of its own
            continue
        time.sleep(0.01)
    raise AssertionError("the registration stayed")
