"""A real Kafka broker: one node, KRaft, loopback."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

from fastlog.testing.ports import free_ports
from tests.integration.kafka import java, tool
from tests.support.broker import SETTINGS

CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
READY_SECONDS = 180.0
STOP_SECONDS = 120.0


class KafkaServer:
    """Starts on construction, ready when the constructor returns; `stop` ends it, and `start` begins again."""

    def __init__(self, folder: Path, more: dict[str, str] | None = None) -> None:
        port, controller = free_ports(2)
        self.port = port
        self.bootstrap = f"127.0.0.1:{port}"
        self.data_dir = folder / "data"
        self.log_file = folder / "kafka.log"
        self.config = config = folder / "server.properties"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data_dir),
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            **SETTINGS,
            **(more or {}),
        }
        config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        tool("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(config))
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Starts the broker on the ports and the data that it has; returns its process when it is ready."""
        with self.log_file.open("a") as log:
            self.process = subprocess.Popen(
                java("kafka.Kafka", str(self.config), heap="512m"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait(self.port)
        return self.process

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"Kafka ended: {self.log_file.read_text()[-4000:]}"
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        self.stop()
        raise AssertionError(f"Kafka was not ready in {READY_SECONDS} s: {self.log_file.read_text()[-4000:]}")

    def stop(self, *, cleanly: bool = False) -> None:
        """Ends the broker; `cleanly` lets it complete its files, which takes some seconds."""
        self.process.send_signal(signal.SIGTERM if cleanly else signal.SIGKILL)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(
                f"Kafka did not stop in {STOP_SECONDS} s: {self.log_file.read_text()[-4000:]}"
            ) from None
