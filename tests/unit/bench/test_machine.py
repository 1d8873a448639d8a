"""What stands beside the figures."""

from __future__ import annotations

from pathlib import Path

from fastlog.bench.harness.machine import file_system, processor, touch_memory

MOUNTS = """\
/dev/vda / ext4 rw 0 0
tmpfs /dev/shm tmpfs rw 0 0
/dev/vdb /mnt/with\\040blank xfs rw 0 0
tmpfs /mnt/with\\040blank tmpfs rw 0 0
"""


def test_the_file_system_is_that_of_the_innermost_and_latest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert file_system(Path("/no-such-directory"), mounts) == "ext4"
    assert file_system(Path("/dev/shm/below"), mounts) == "tmpfs"
    assert file_system(Path("/mnt/with blank"), mounts) == "tmpfs"
    assert file_system(Path("/"), tmp_path / "absent") == "unknown"


def test_the_processor_has_a_name(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n")
    assert processor(cpuinfo) == "Some CPU @ 3 GHz"
    assert processor(tmp_path / "absent")


def test_touching_memory_leaves_no_file(tmp_path: Path) -> None:
    touch_memory(tmp_path, 3 << 19)
    assert not list(tmp_path.iterdir())
