"""A real ZooKeeper on this machine: one server or an ensemble, to be stopped, killed, paused and started again.

tickTime 500 and syncLimit 2, as everywhere we start one: sessions end on tick boundaries, and the leader lease needs
syncLimit x tickTime <= session / 3 (docs/zookeeper.md).
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from fastlog.testing.ports import free_ports, is_taken
from fastlog.testing.zookeeper_jars import class_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

READY_SECONDS = 30.0
STOP_SECONDS = 10.0
# another process may take a port between its choice and its use
PORT_TRIES = 3
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
JAVA = (
    "-Xmx96m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dzookeeper.jmx.log4j.disable=true",
    # in KiB; 64 MiB for each file by default
    "-Dzookeeper.preAllocSize=1024",
)
SETTINGS = {
    "tickTime": "500",
    "syncLimit": "2",
    "initLimit": "20",
    "maxClientCnxns": "0",
    "admin.enableServer": "false",
    "4lw.commands.whitelist": "srvr",
    "autopurge.snapRetainCount": "3",
    "autopurge.purgeInterval": "24",
}


class ZooKeeperServer:
    """One server; `start` returns at once, `wait` when it serves."""

    def __init__(
        self,
        folder: Path,
        number: int,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        prefix: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`prefix` goes before the command, `ip netns exec NAME` say; port 0 is any free one; `settings` of zoo.cfg."""
        self.folder = folder
        self.number = number
        self.host = host
        self.prefix = tuple(prefix)
        self.settings = SETTINGS | dict(settings or {})
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self._fixed_port = port
        self._paused = False
        self.peer_ports = (0, 0)

    @property
    def address(self) -> str:
        """HOST:PORT for clients."""
        return f"{self.host}:{self.port}"

    def choose_ports(self) -> None:
        """Takes ports that are free now; raises RuntimeError where the one that was asked for is not."""
        # else whoever has it would be taken for this server: it answers too
        if self._fixed_port and not self.prefix and is_taken(self.host, self._fixed_port):
            raise RuntimeError(
                f"ZooKeeper cannot listen at {self.host}:{self._fixed_port}: something else has the port"
            )
        client, quorum, election = free_ports(3)
        self.port = self._fixed_port or client
        self.peer_ports = (quorum, election)

    def write_config(self, ensemble: Sequence[ZooKeeperServer]) -> None:
        """Writes the configuration for a server of `ensemble`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.settings | {
            "dataDir": str(self.folder.absolute()),
            "clientPort": str(self.port),
            "clientPortAddress": self.host,
        }
        if len(ensemble) > 1:
            (self.folder / "myid").write_text(f"{self.number}\n")
            for each in ensemble:
                quorum, election = each.peer_ports
                settings[f"server.{each.number}"] = f"{each.host}:{quorum}:{election}"
        text = "".join(f"{key}={value}\n" for key, value in settings.items())
        (self.folder / "zoo.cfg").write_text(text)

    def start(self) -> None:
        """Starts the process on the ports and the data that it has."""
        command = [*self.prefix, "java", *JAVA, "-cp", class_path(), MAIN, str(self.folder / "zoo.cfg")]
        with (self.folder / "zookeeper.log").open("ab") as log:
            # a session of its own: Ctrl-C on a terminal reaches those first who need ZooKeeper to end well
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self, seconds: float = READY_SECONDS) -> None:
        """Returns when the server serves clients; raises TimeoutError or RuntimeError with the end of its log."""
        deadline = time.monotonic() + seconds
        while not self.mode():
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"ZooKeeper {self.address} ended:\n{self.log()}")
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"ZooKeeper {self.address} did not serve within {seconds} s:\n{self.log()}"
                )
            time.sleep(0.02)

    def mode(self) -> str:
        """`standalone`, `leader` or `follower`; empty while it serves nobody."""
        try:
            with socket.create_connection((self.host, self.port), 1) as connection:
                connection.settimeout(1)
                connection.sendall(b"srvr")
                answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode(errors="replace")
        except OSError:
            return ""
        return next((line[6:] for line in answer.splitlines() if line.startswith("Mode: ")), "")

    def log(self) -> str:
        """The end of what it said."""
        file = self.folder / "zookeeper.log"
        return file.read_text(errors="replace")[-4000:] if file.exists() else ""

    def stop(self) -> None:
        """Ends it as an operator would; harmless where it does not run."""
        self.resume()
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it without a farewell; harmless where it does not run."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        self._paused = False

    def pause(self) -> None:
        """SIGSTOP: its sockets stay open, and nobody answers. Harmless where it does not run."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)
            self._paused = True

    def resume(self) -> None:
        """SIGCONT; harmless where it was not paused."""
        if self._paused and self.process is not None:
            self.process.send_signal(signal.SIGCONT)
        self._paused = False


class ZooKeeper:
    """A ZooKeeper of one or more servers: `with ZooKeeper(folder) as zookeeper: … zookeeper.hosts`."""

    def __init__(self, folder: Path, *, servers: int = 1, port: int = 0) -> None:
        """Makes the ensemble; `start` starts it. `port`, where not 0, is the first server's."""
        self.servers = [
            ZooKeeperServer(folder / str(number), number, port=port if number == 1 else 0)
            for number in range(1, servers + 1)
        ]

    @classmethod
    def of(cls, servers: Sequence[ZooKeeperServer]) -> ZooKeeper:
        """An ensemble of servers that were made one by one, on machines of their own say."""
        made = cls.__new__(cls)
        made.servers = list(servers)
        return made

    @property
    def hosts(self) -> str:
        """HOST:PORT of every server, with commas between."""
        return ",".join(each.address for each in self.servers)

    def start(self) -> ZooKeeper:
        """Starts all servers and returns when all serve."""
        for left in reversed(range(PORT_TRIES)):
            for each in self.servers:
                each.choose_ports()
            start_all(self.servers)
            try:
                for each in self.servers:
                    each.wait()
            except RuntimeError:
                taken = any("BindException" in each.log() for each in self.servers)
                self.stop()
                if not taken or not left:
                    raise
            except BaseException:
                self.kill()
                raise
            else:
                break
        return self

    def restart(self) -> None:
        """Starts what does not run, on the same ports and data, and returns when all serve."""
        for each in self.servers:
            if each.process is None:
                each.start()
        for each in self.servers:
            each.wait()

    @property
    def is_running(self) -> bool:
        """Whether all servers were started and have not ended."""
        return all(each.process is not None and each.process.poll() is None for each in self.servers)

    def leader(self) -> ZooKeeperServer:
        """The server that leads now, or the only one."""
        return next(each for each in self.servers if each.mode() in {"leader", "standalone"})

    def followers(self) -> list[ZooKeeperServer]:
        """The servers that follow now."""
        return [each for each in self.servers if each.mode() == "follower"]

    def stop(self) -> None:
        """Ends all servers."""
        for each in self.servers:
            with contextlib.suppress(ProcessLookupError):
                each.stop()

    def kill(self) -> None:
        """Ends all servers without a farewell."""
        for each in self.servers:
            with contextlib.suppress(ProcessLookupError):
                each.kill()

    def __enter__(self) -> ZooKeeper:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def start_all(servers: Sequence[ZooKeeperServer]) -> None:
    """Writes the configurations of an ensemble and starts its processes."""
    for each in servers:
        each.write_config(servers)
    for each in servers:
        each.start()
