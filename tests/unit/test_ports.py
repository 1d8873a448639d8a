"""Ports for servers of tests: free, and none that a connection would be given."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fastlog.testing import ports
from fastlog.testing.ports import HOST, free_ports


def test_they_are_free_and_no_connections() -> None:
    found = free_ports(20)
    assert len(set(found)) == 20
    end = int(ports.RANGE.read_text().split()[0])
    for port in found:
        assert ports.FIRST <= port < end
        with socket.create_server((HOST, port)):
            pass


def test_one_that_is_taken_is_passed_over() -> None:
    (before,) = free_ports(1)
    with socket.create_server((HOST, before + 1)):
        (after,) = free_ports(1)
    assert after != before + 1


@pytest.mark.parametrize("text", ["1024\t60999\n", None])
def test_where_connections_get_any_port_it_is_any_free_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    monkeypatch.setattr(ports, "RANGE", tmp_path / "range")
    if text is not None:
        ports.RANGE.write_text(text)
    for port in free_ports(3):
        with socket.create_server((HOST, port)):
            pass
