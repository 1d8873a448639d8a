"""Machines that can be cut off: network namespaces on one bridge. Root only."""

from __future__ import annotations

import itertools
import os
import subprocess

NOBODY = "02:00:00:00:00:01"
counter = itertools.count()


class Network:
    """`count` machines, each with an address that this one reaches too."""

    def __init__(self, count: int) -> None:
        # names and addresses that no other test of this machine uses now; an interface's name has 15 characters at most
        self._name = f"fl{os.getpid()}x{next(counter)}"
        self._subnet = f"10.{80 + os.getpid() // 250 % 40}.{os.getpid() % 250}"
        self.machines = list(range(1, count + 1))
        self._made: list[tuple[str, ...]] = []
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        bridge = f"{self._name}b"
        self._do("ip", "link", "add", bridge, "type", "bridge", undo=("ip", "link", "del", bridge))
        self._do("ip", "addr", "add", f"{self.here}/24", "dev", bridge)
        self._do("ip", "link", "set", bridge, "up")
        for number in self.machines:
            space, cable = self._space(number), self._cable(number)
            self._do("ip", "netns", "add", space, undo=("ip", "netns", "del", space))
            self._do("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
            self._do("ip", "link", "set", cable, "master", bridge, "up")
            inside = ("ip", "-n", space)
            self._do(*inside, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
            self._do(*inside, "link", "set", "eth0", "up")
            self._do(*inside, "link", "set", "lo", "up")

    def _do(self, *command: str, undo: tuple[str, ...] | None = None) -> None:
        subprocess.run(command, check=True, capture_output=True, timeout=10)
        if undo:
            self._made.append(undo)

    def _space(self, number: int) -> str:
        return f"{self._name}n{number}"

    def _cable(self, number: int) -> str:
        return f"{self._name}v{number}"

    @property
    def here(self) -> str:
        """This machine's address, which all others reach."""
        return f"{self._subnet}.254"

    def address(self, number: int) -> str:
        """A machine's address."""
        return f"{self._subnet}.{number}"

    def on(self, number: int) -> tuple[str, ...]:
        """What goes before a command that is to run on a machine."""
        return ("ip", "netns", "exec", self._space(number))

    def cut(self, number: int) -> None:
        """Pulls a machine's cable: what it sends is lost, and so is what is sent to it."""
        self._do("ip", "link", "set", self._cable(number), "down")

    def heal(self, number: int) -> None:
        """Plugs it in again."""
        self._do("ip", "link", "set", self._cable(number), "up")

    def block(self, source: int, target: int) -> None:
        """From now on what one machine sends to another is lost, without a word; the way back stays as it is."""
        # to a card that nobody has: no rule of a firewall, for which a kernel may lack what it takes
        neighbour = ("ip", "-n", self._space(source), "neigh", "replace", self.address(target))
        self._do(*neighbour, "lladdr", NOBODY, "nud", "permanent", "dev", "eth0")

    def unblock(self, source: int, target: int) -> None:
        """Ends it."""
        self._do("ip", "-n", self._space(source), "neigh", "del", self.address(target), "dev", "eth0")

    def close(self) -> None:
        """Takes all apart; whatever runs on the machines has to be ended before."""
        while self._made:
            subprocess.run(self._made.pop(), check=False, capture_output=True, timeout=10)
