"""Which starts a data directory has seen."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from fastlog.cluster import INCARNATIONS_NAME
from fastlog.cluster.incarnation import KEPT_MAX, Incarnations
from fastlog.ports import CorruptStoreError


def ids(*numbers: int) -> tuple[UUID, ...]:
    return tuple(UUID(int=each) for each in numbers)


def test_a_start_knows_those_before_it_until_one_registers(tmp_path: Path) -> None:
    assert Incarnations(tmp_path).begin(UUID(int=1)) == ()
    assert Incarnations(tmp_path).begin(UUID(int=2)) == ids(1)
    third = Incarnations(tmp_path)
    assert third.begin(UUID(int=3)) == ids(2, 1)
    third.registered(UUID(int=3))
    assert Incarnations(tmp_path).begin(UUID(int=4)) == ids(3)
    assert sorted(each.name for each in tmp_path.iterdir()) == [INCARNATIONS_NAME]


def test_only_the_latest_starts_are_kept(tmp_path: Path) -> None:
    for number in range(40):
        Incarnations(tmp_path).begin(UUID(int=number))
    assert Incarnations(tmp_path).begin(UUID(int=40)) == ids(*range(39, 39 - KEPT_MAX, -1))


@pytest.mark.parametrize("data", [b"", b"{}", b'["x"]', b"\xff"])
def test_a_file_that_is_garbage_is_refused_untouched(tmp_path: Path, data: bytes) -> None:
    (tmp_path / INCARNATIONS_NAME).write_bytes(data)
    with pytest.raises(CorruptStoreError, match=INCARNATIONS_NAME):
        Incarnations(tmp_path).begin(UUID(int=1))
    assert (tmp_path / INCARNATIONS_NAME).read_bytes() == data
