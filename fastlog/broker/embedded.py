"""`fastlog.Broker`: a broker inside the caller's process, for tests and for programs that bring their own.

It is what `fastlog serve` runs, from the same composition root, without what belongs to a program: it leaves signal
handlers, the interpreter's switch interval, the caller's asyncio loop and its logging alone.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from fastlog.broker import broker as composition
from fastlog.broker.addresses import EVERYWHERE
from fastlog.config import Endpoint, load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from fastlog.config import Given

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # directories below it are made by mkdtemp
MOUNTS = Path("/proc/self/mounts")
# a container's /dev/shm often has 64 MiB, which a few seconds of records fill
ROOM_BYTES_MIN = 256 << 20
# TCP is served without Python's lock, which a ZeroMQ listener would take from the program beside it: a producer in the
# same process sent 2.6 million records a second by TCP and 1.7 by ZeroMQ, and the start is 25 ms shorter
LISTENERS = "PLAINTEXT://127.0.0.1:0"
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


class Broker:
    """A broker in this process, which serves from here on until `close` or the end of a `with` block.

    `data_dir` is its data directory; without one (and without `log.dirs` among the settings) it keeps everything in
    memory and leaves nothing. Settings are those of `fastlog serve`, as a mapping by Kafka's keys
    (`settings={"log.segment.bytes": 1 << 20}`) or as keywords with `_` for `.` (`log_segment_bytes=1 << 20`), which
    win. Without `listeners` it takes a free port on 127.0.0.1 for Kafka clients, and none for ZeroMQ.

    Blocks until it serves, some milliseconds on an empty directory. Raises what ends `serve` too: ConfigError for a
    setting, another FastlogError for a directory that cannot be used, OSError for an address that is taken. Any number
    may run at once, each on a directory of its own. One that nobody closed is stopped when the interpreter exits. A
    child made by fork does not have the broker: closing it there does nothing.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        settings: Mapping[str, Given] | None = None,
        **keywords: Given,
    ) -> None:
        given = {"listeners": LISTENERS, **(settings or {})}
        given |= {name.replace("_", "."): value for name, value in keywords.items()}
        self._process = os.getpid()
        self._closing = threading.RLock()
        with ExitStack() as undo:
            if data_dir is None and given.get("log.dirs") is None:
                data_dir = tempfile.mkdtemp(prefix=f"fastlog-{self._process}-", dir=_memory())
                undo.callback(shutil.rmtree, data_dir, ignore_errors=True)
            # absolute: the caller may change its working directory
            options = {} if data_dir is None else {"log.dirs": str(Path(data_dir).absolute())}
            root = composition.Broker(load(settings=given, options=options))
            self._endpoints = {endpoint.scheme: endpoint for endpoint in root.start()}
            undo.callback(root.stop)
            self._data_dir = root.data_dir
            self._undo = undo.pop_all()
        atexit.register(self.close)

    @property
    def bootstrap(self) -> str:
        """HOST:PORT for Kafka clients and for fastlog's own."""
        return _local(self._endpoints[composition.TCP]).authority

    @property
    def zmq_endpoint(self) -> str | None:
        """The ZeroMQ listener's address as ZeroMQ writes it, `tcp://HOST:PORT`; None without one."""
        endpoint = self._endpoints.get(composition.ZMQ)
        return None if endpoint is None else f"tcp://{_local(endpoint).authority}"

    @property
    def data_dir(self) -> Path:
        """The data directory; one that was made for this broker is gone when it is closed."""
        return self._data_dir

    def close(self) -> None:
        """Stops the broker; blocks until no thread, descriptor or temporary file of it is left. Again is harmless.

        What is in flight is answered for at most `fastlog.shutdown.timeout.ms`. Raises where the logs could not be
        closed cleanly: the next start on the directory then recovers.
        """
        if os.getpid() != self._process:
            return
        with self._closing:
            try:
                self._undo.pop_all().close()
            finally:
                atexit.unregister(self.close)

    def __enter__(self) -> Broker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        listeners = " ".join(map(str, self._endpoints.values()))
        return f"<fastlog.Broker {listeners} on {self._data_dir}>"


def _local(endpoint: Endpoint) -> Endpoint:
    """An address that a client in this process can connect to."""
    host = LOOPBACK[endpoint.host] if endpoint.host in EVERYWHERE else endpoint.host
    return Endpoint(endpoint.scheme, host, endpoint.port)


def _memory(shared_memory: Path = SHARED_MEMORY, mounts: Path = MOUNTS) -> Path | None:
    """Where directories are in memory and have room; None where nowhere is, which is the usual temporary place."""
    try:
        rows = [line.split() for line in mounts.read_text().splitlines()]
        room = os.statvfs(shared_memory)
    except OSError:
        return None
    kinds = [row[2] for row in rows if row[1] == str(shared_memory)]
    usable = kinds[-1:] == ["tmpfs"] and os.access(shared_memory, os.W_OK | os.X_OK)
    return shared_memory if usable and room.f_bavail * room.f_frsize >= ROOM_BYTES_MIN else None
