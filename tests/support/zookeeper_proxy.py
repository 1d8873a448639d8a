"""A way to ZooKeeper, or to a broker, that loses requests, or their answers, when it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading


class Proxy:
    """Passes bytes between clients and one server; each direction can be made to lose what comes."""

    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self.lose_requests = False
        self.lose_answers = False
        self.lost_bytes = 0
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """HOST:PORT for clients."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            with self._lock:
                self._open += [client, server]
            threading.Thread(
                target=self._pass_on, args=(client, server, "lose_requests"), daemon=True
            ).start()
            threading.Thread(target=self._pass_on, args=(server, client, "lose_answers"), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, lose: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if getattr(self, lose):
                    self.lost_bytes += len(data)
                else:
                    target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Ends all connections; new ones lose nothing."""
        self.lose_requests = self.lose_answers = False
        self.cuts += 1
        with self._lock:
            ended, self._open = self._open, []
        for each in ended:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
