"""Where ZooKeeper comes from on machines of different kinds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fastlog.testing import zookeeper_jars
from fastlog.testing.zookeeper import ZooKeeper
from fastlog.testing.zookeeper_jars import NoZooKeeperError, class_path

Machine = Callable[..., None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes a machine that has these programs, and nothing in its caches."""
    monkeypatch.setattr(zookeeper_jars, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(zookeeper_jars, "DEBIAN", tmp_path / "debian")

    def has(*programs: str) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name in programs else None)

    return has


def test_without_java_it_says_what_to_install(machine: Machine) -> None:
    machine("mvn")
    with pytest.raises(NoZooKeeperError, match="default-jre-headless"):
        class_path()


def test_without_maven_and_package_it_names_both(machine: Machine) -> None:
    machine("java")
    with pytest.raises(NoZooKeeperError, match=r"install maven, or .* install zookeeper"):
        class_path()


def test_debians_package_serves_where_there_is_no_maven(machine: Machine, tmp_path: Path) -> None:
    machine("java")
    (tmp_path / "debian").mkdir()
    for name in ("zookeeper", "zookeeper-jute", "slf4j-api"):
        (tmp_path / f"debian/{name}.jar").touch()
    found = [f"{tmp_path}/debian/{name}.jar" for name in ("zookeeper", "zookeeper-jute", "slf4j-api")]
    assert class_path() == ":".join(found)


def test_servers_are_told_of_each_other(tmp_path: Path) -> None:
    ensemble = ZooKeeper(tmp_path, servers=3, port=2181)
    for each in ensemble.servers:
        each.choose_ports()
    for each in ensemble.servers:
        each.write_config(ensemble.servers)
    assert ensemble.servers[0].address == "127.0.0.1:2181"
    config = dict(line.split("=", 1) for line in (tmp_path / "2/zoo.cfg").read_text().splitlines())
    assert (config["tickTime"], config["syncLimit"], config["clientPortAddress"]) == ("500", "2", "127.0.0.1")
    assert (tmp_path / "2/myid").read_text() == "2\n"
    for each in ensemble.servers:
        quorum, election = each.peer_ports
        assert config[f"server.{each.number}"] == f"127.0.0.1:{quorum}:{election}"
