"""Who asks for a move that cannot be is told why, and the broker's log has it for those whose tools cannot say it."""

from __future__ import annotations

from pathlib import Path

import fastlog
from tests.conftest import MakeBroker
from tests.integration.test_data_directories import broker_on
from tests.integration.test_tiers import settings
from tests.support.broker import BrokerProcess
from tests.support.cli import Run
from tests.support.cli import fastlog as run


def move(broker: BrokerProcess, node_id: int, place: str, to: Path) -> Run:
    where = ("--broker", str(node_id), "--to", str(to), "--bootstrap", broker.bootstrap)
    return run("disks", "move", place, *where)


def test_a_tiered_topic_and_a_directory_that_is_not_there(
    make_broker: MakeBroker, tmp_path: Path, topic_name: str
) -> None:
    broker, other = broker_on(make_broker, tmp_path / "other"), tmp_path / "other"
    assert broker.stop() == 0
    broker.settings |= settings(str(tmp_path / "store"))
    broker.start()
    with fastlog.Admin(broker.bootstrap) as admin:
        node_id = admin.describe_cluster().controller_id
        admin.create_topic(topic_name, configs={"remote.storage.enable": "true"})
        admin.create_topic(f"{topic_name}-plain")
        place = {(topic_name, 0): str(other)}
        refused = admin.move_replicas(node_id, place)[topic_name, 0]
    assert isinstance(refused, fastlog.errors.InvalidRequestError)
    # as any client asked
    assert "it is tiered (remote.storage.enable)" in broker.log()

    tiered = move(broker, node_id, f"{topic_name}:0", other)
    assert (tiered.status, tiered.out) == (1, b"moving 0 partitions\n")
    assert "the topic is tiered (remote.storage.enable)" in tiered.err
    nowhere = move(broker, node_id, f"{topic_name}-plain:0", tmp_path / "nowhere")
    assert nowhere.status == 1
    assert f"are {broker.data_dir}, {other}" in nowhere.err
    assert "this broker has no log directory" in broker.log()
    nothing = move(broker, node_id, "nothing:0", other)
    assert (nothing.status, f"the log of broker {node_id} says why" in nothing.err) == (1, True)
    assert "there is no partition nothing-0" in broker.log()
    moved = move(broker, node_id, f"{topic_name}-plain:0", other)
    assert (moved.status, moved.err) == (0, "")


def test_of_many_that_are_refused_some_are_told(
    make_broker: MakeBroker, tmp_path: Path, topic_name: str
) -> None:
    broker = broker_on(make_broker, tmp_path / "other")
    with fastlog.Admin(broker.bootstrap) as admin:
        node_id = admin.describe_cluster().controller_id
        admin.create_topic(topic_name, partitions=25)
        admin.move_replicas(node_id, {(topic_name, it): "/nowhere" for it in range(25)})
    told = [line for line in broker.log().splitlines() if "not moved" in line]
    assert (len(told), "count=15" in told[-1]) == (11, True)
