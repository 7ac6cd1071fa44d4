"""Small file systems of one's own: tmpfs, and ext4 on a loop device. Mounting takes root; without it tests fail."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

MIB = 1 << 20


def run(*command: object) -> None:
    """Run a command of the system; fails with what it says."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}{done.stdout}"


@contextlib.contextmanager
def mounted(where: Path, *arguments: object) -> Iterator[Path]:
    """Mount at `where`, which is made, until the block ends, also when something still works there."""
    where.mkdir(parents=True)
    run("mount", *arguments, where)
    try:
        yield where
    finally:
        done = subprocess.run(["umount", where], capture_output=True, timeout=60)
        if done.returncode:
            run("umount", "--lazy", where)


def tmpfs(where: Path, size: int = 64 * MIB) -> contextlib.AbstractContextManager[Path]:
    """Mount a tmpfs of `size` bytes."""
    return mounted(where, "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs")


def image(path: Path, size: int) -> Path:
    """Make an ext4 image of `size` bytes without space that is kept for root."""
    with path.open("wb") as file:
        file.truncate(size)
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", path)
    return path


def loop(where: Path, disk: Path) -> contextlib.AbstractContextManager[Path]:
    """Mount an image; the journal is committed when something asks for it, and not by a timer meanwhile."""
    return mounted(where, "-t", "ext4", "-o", "loop,commit=300", disk)


def filled(directory: Path) -> Path:
    """Fill the file system at `directory` up, to the last byte, with one file, and return that."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (MIB, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size):
                    pass
        os.fsync(file.fileno())
    return ballast
