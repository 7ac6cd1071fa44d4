"""Power cuts: the writer's disk is an image, which is copied while the writer is frozen, and the copy is mounted.

What was written and not made durable is in the page cache of the mounted disk and not in the image, as it would not
be on a disk. The journal of ext4 is replayed at the mount, as after a real cut.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import disks
from .nursery import Nursery

SIZE = 48 * disks.MIB
PATIENCE = 30.0  # seconds that a thread may take to leave the kernel


@contextmanager
def frozen(child: int) -> Iterator[None]:
    """Stop every thread of a process for the block: each finishes the system call that it is in."""
    os.kill(child, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + PATIENCE
        while any(_state(thread) != "T" for thread in Path(f"/proc/{child}/task").iterdir()):
            assert time.monotonic() < deadline, "the writer does not stop"
            time.sleep(0.001)
        yield
    finally:
        os.kill(child, signal.SIGCONT)


def cut(
    base: Path,
    writer: str,
    cuts: int,
    choices: random.Random,
    work: Callable[[Path, list[str]], None],
    **arguments: object,
) -> None:
    """Let `writer` work on a disk, cut its power so often, and give `work` each time a disk as it is afterwards.

    `work` also gets the lines that the writer has said since the last time. Each cut is after a few lines more.
    """
    image = disks.image(base / "disk.img", SIZE)
    with disks.loop(base / "disk", image) as disk, Nursery(writer) as nursery:
        (disk / "root").mkdir()
        (disk / "journals").mkdir()
        disks.run("sync", "--file-system", disk)
        child = nursery.fork(directory=str(disk), **arguments)
        try:
            assert nursery.line() == "ready"
            for number in range(cuts):
                lines = [nursery.line() for _ in range(choices.randrange(1, 12))]
                time.sleep(choices.uniform(0, 0.01))
                copy = base / f"{number}.img"
                with frozen(child):
                    disks.run("cp", "--sparse=always", image, copy)
                    lines += nursery.said()
                with disks.loop(base / f"after-{number}", copy) as after:
                    work(after, lines)
                copy.unlink()
        finally:
            nursery.kill(child, 0)


def _state(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]
