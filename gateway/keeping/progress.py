"""One copy on its way: how far it is, what has failed, and how it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog

from backends.paths import StoragePath
from gateway.store.kept import RUNNING, Kept

FAILURES_TOLD = 1000  # all are counted; so many are told one by one

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Copy:
    """What is copied where: `source` is a path in the Share, `target` one in the user's tree."""

    share: str
    source: StoragePath
    target: StoragePath


@dataclass(slots=True)
class Moving:
    """A file that is being copied, in bytes."""

    path: StoragePath
    size: int
    moved: int = 0

    def add(self, size: int) -> None:
        self.moved += size


class Run:
    """A copy, as whoever watches it sees it; lives on the event loop."""

    def __init__(self, copy: Copy, user: str, begun: int, *, overwrite: bool) -> None:
        """Begin for `user`, at `begun` in seconds since the epoch."""
        self.copy = copy
        self.user = user
        self.overwrite = overwrite
        self.begun = begun
        self.finished: int | None = None
        self.files = 0
        self.bytes = 0
        self.skipped = 0
        self.failed = 0
        self.failures: list[tuple[StoragePath, str]] = []
        self.moving: list[Moving] = []
        self.reason: str | None = None
        self.ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Say that the task which does the work is this one; where it was stopped before, it ends at its next step."""
        self._task = asyncio.current_task()
        if self._task is not None and self.reason is not None:
            self._task.cancel()

    @property
    def state(self) -> str:
        if self.finished is None:
            return RUNNING
        if self.reason is not None:
            return "stopped"
        return "incomplete" if self.failed else "done"

    def row(self) -> Kept:
        return Kept(
            share=self.copy.share,
            source=self.copy.source,
            target=self.copy.target,
            state=self.state,
            reason=self.reason,
            files=self.files,
            bytes=self.bytes,
            skipped=self.skipped,
            failed=self.failed,
            begun=self.begun,
            ended=self.finished,
        )

    def stop(self, reason: str) -> None:
        """End the copy with what it has; the first reason counts."""
        if self.reason is None and self.finished is None:
            self.reason = reason
            if self._task is not None:
                self._task.cancel()

    def end(self, now: int, reason: str | None = None) -> None:
        """Say that the work has ended, with what has broken it off unless that is known already."""
        self.reason = self.reason or reason
        self.finished = now

    def fail(self, path: StoragePath, reason: str) -> None:
        """Note that what is at `path` in the copy could not be copied; the rest goes on."""
        self.failed += 1
        if len(self.failures) < FAILURES_TOLD:
            self.failures.append((path, reason))
            log.info("keeping.failed", share=self.copy.share, path=str(path), reason=reason)

    @contextlib.contextmanager
    def file(self, path: StoragePath, size: int) -> Iterator[Callable[[int], None]]:
        """Show a file as moving while the block runs, which tells of each piece."""
        moving = Moving(path, size)
        self.moving.append(moving)
        try:
            yield moving.add
        finally:
            self.moving.remove(moving)

    def done(self, size: int | None) -> None:
        """Count a file of `size` bytes that was written, or for None one that was there already."""
        if size is None:
            self.skipped += 1
        else:
            self.files += 1
            self.bytes += size
