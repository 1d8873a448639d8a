"""Apache Kafka as a cluster on this machine: KRaft, each node both broker and controller, Kafka's own Java options."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from typing import TYPE_CHECKING

from fastlog.testing.ports import free_ports
from tests.integration.kafka import jars, tool
from tests.integration.kafka.server import CLUSTER_ID

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: what bin/kafka-run-class.sh and bin/kafka-server-start.sh give a broker, and how much heap
HEAP = "1G"
JAVA = (
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
)
QUORUM = "org.apache.kafka.tools.MetadataQuorumCommand"
STOP_SECONDS = 60.0


class KafkaNode:
    """One node; the same face as fastlog.testing's ClusterBroker, as far as a bench needs it."""

    def __init__(
        self, node_id: int, folder: Path, port: int, settings: Mapping[str, str], heap: str = HEAP
    ) -> None:
        self.broker_id = node_id
        self._heap = heap
        self.bootstrap = f"127.0.0.1:{port}"
        self.log_file = folder / f"kafka-{node_id}.log"
        self.config = folder / f"kafka-{node_id}.properties"
        self.config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def format(self) -> None:
        """Makes its data directory; Kafka does not start without."""
        tool("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self.config))

    def start(self) -> None:
        """Starts the process; returns at once."""
        command = [
            "java",
            f"-Xmx{self._heap}",
            f"-Xms{self._heap}",
            *JAVA,
            "-cp",
            f"{jars()}/*",
            "kafka.Kafka",
            str(self.config),
        ]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        """Nothing to wait for: the cluster asks each node whom it knows."""

    def kill(self) -> None:
        """SIGKILL; harmless where it does not run."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: Kafka's controlled shutdown."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(how)
            self.process.wait(STOP_SECONDS)
            self.process = None


class KafkaNodes:
    """Nodes below a folder, formatted but not started."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str], count: int = 3, *, heap: str = HEAP
    ) -> None:
        ports = free_ports(2 * count)
        voters = ",".join(f"{n}@127.0.0.1:{ports[count + n - 1]}" for n in range(1, count + 1))
        self.brokers: dict[int, KafkaNode] = {}
        for node_id in range(1, count + 1):
            port, controller = ports[node_id - 1], ports[count + node_id - 1]
            own = {
                "process.roles": "broker,controller",
                "node.id": str(node_id),
                "controller.quorum.voters": voters,
                "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
                "controller.listener.names": "CONTROLLER",
                "log.dirs": str(folder / f"kafka-{node_id}"),
                **settings,
            }
            self.brokers[node_id] = KafkaNode(node_id, folder, port, own, heap)
        for each in self.brokers.values():
            each.format()

    def controller_id(self) -> int:
        """The node that leads the quorum; clients are told of any broker instead."""
        bootstrap = ",".join(each.bootstrap for each in self.brokers.values())
        told = tool(QUORUM, "--bootstrap-server", bootstrap, "describe", "--status")
        found = re.search(r"LeaderId:\s+(\d+)", told)
        assert found is not None, told
        return int(found.group(1))

    def close(self) -> None:
        """Kills all."""
        for each in self.brokers.values():
            each.kill()
