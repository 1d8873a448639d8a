"""A small ext4 file system on a loop device, which can lose its power, fill up and become read-only. Needs root.

The power cut is ext4's own: the ioctl EXT4_IOC_SHUTDOWN with NOLOGFLUSH stops the file system at once, with nothing
more written, neither data nor journal. What is there after it was unmounted and mounted again is what had been synced
or written back before, as after a cut of the machine's power. Each later write fails with EIO.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
COMMAND_SECONDS = 20.0
# no blocks kept for root, a small journal, and read-only after an error, as distributions set it up
MKFS = ("mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=4", "-e", "remount-ro")


class LoopDisk:
    """One file system in the file `folder`/disk.img, mounted at `folder`/mnt until `close`."""

    def __init__(self, folder: Path, *, mebibytes: int = 64) -> None:
        self.path = folder / "mnt"
        self._image = folder / "disk.img"
        self._mounted = False
        folder.mkdir(parents=True, exist_ok=True)
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(mebibytes << 20)
        run(*MKFS, str(self._image))
        self.mount()

    def mount(self) -> None:
        """Mounts it; after a power cut the journal is replayed."""
        # the device goes with its last user: an unmounted disk leaves nothing behind
        run("mount", "-t", "ext4", "-o", "loop", str(self._image), str(self.path))
        self._mounted = True

    def unmount(self) -> None:
        """Unmounts it; what runs on it must have ended."""
        deadline = time.monotonic() + COMMAND_SECONDS
        while True:
            try:
                run("umount", str(self.path))
                break
            except AssertionError:
                # a process that was killed lets go of its files a moment later
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self._mounted = False

    def cut_power(self) -> None:
        """Nothing more reaches the disk, from now on. Only ever this disk: anything else is refused.

        Whoever writes must be dead by then, as it is when the power goes. A process that lived on for a moment could be
        told lies: an fdatasync that meets the aborted journal may return success (4 of 40 times, Linux 6.18).
        """
        self._shut_down()

    def fail(self) -> None:
        """Each write fails with EIO from now on, under the hands of those who write; a sync may pass all the same."""
        self._shut_down()

    def _shut_down(self) -> None:
        source = run("findmnt", "-n", "-o", "SOURCE", "--mountpoint", str(self.path)).strip()
        device = Path(source).stat().st_rdev
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            assert source.startswith("/dev/loop"), source
            assert os.fstat(handle).st_dev == device, f"{self.path} is not our own loop device's"
            fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def restore_power(self) -> None:
        """What the machine finds when it is started again.

        On a copy of the disk: a process with mounts of its own, of another test, may have this one's too, and keeps the
        file system as it was for as long as it lives.
        """
        self.unmount()
        copy = self._image.with_suffix(".copy")
        run("cp", "--sparse=always", str(self._image), str(copy))
        copy.replace(self._image)
        self.mount()

    def make_read_only(self) -> None:
        """What ext4 does at an error of its own (errors=remount-ro), under the hands of those who write.

        A sync that meets it on its way may return success for what is not on the disk (10 of 120 times, Linux 6.18).
        """
        run("mount", "-o", "remount,abort", str(self.path))

    @contextlib.contextmanager
    def filled(self) -> Iterator[None]:
        """Not one byte of room inside of the `with`."""
        ballast = self.path / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
        try:
            yield
        finally:
            ballast.unlink()

    def close(self) -> None:
        """Unmounts it and removes its image; again is harmless."""
        if self._mounted:
            try:
                self.unmount()
            except AssertionError:
                # better an unmount that ends with the last user than one that never happens
                run("umount", "--lazy", str(self.path))
                self._mounted = False
        self._image.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()


def run(*command: str) -> str:
    """Runs a program to its end; its output. AssertionError with what it said when it failed."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


def set_earlier_boot(data_dir: Path) -> None:
    """Lets a data directory say that it was last used before the machine was started.

    The broker compares the machine's boot id with the one in `fastlog.run`. The kernel's cannot be changed, so the
    written one is: what differs is what counts. All else is as the power cut left it.
    """
    file = data_dir / "fastlog.run"
    lines = file.read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == ["version", "boot_id", "incarnation"], lines
    lines[1] = "boot_id: 00000000-0000-4000-8000-000000000000"
    file.write_text("".join(f"{line}\n" for line in lines))
