"""What other programs change in a storage, noticed in two ways.

A folder that somebody lists, and every folder on the way to it, is compared with how it looked the last time: its etag
tells that names in it came or went. And the folders that were listed last are watched, where the storage can do that:
then changes inside of files are noticed too, without anybody looking.

Our own changes are events and new etags as well. The events that the kernel holds when a change of ours is written
down are older than its row, so a row with a later time answers for them; and folders that it has changed are looked at
again before.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from backends.errors import NotFound, StorageError
from backends.interface import Entry, StorageBackend, Watcher
from backends.paths import StoragePath
from backends.pool import Pool

REMEMBERED = 16_384  # folders
LOOK_EVERY = 1.0  # seconds between two looks at a folder that is only passed
SETTLE = 0.5  # seconds that events are gathered before they are written down
BREATH = 0.01  # seconds between two reads of events, when there are many

Key = tuple[bytes, ...]  # the parts of a path: no object has to be made for a look

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Noticed:
    """A folder in which something has changed, or with `tree` all that is in it, before `at`.

    That is in nanoseconds since the epoch.
    """

    path: StoragePath
    at: int
    tree: bool = False


class Noticing:
    """Notices the changes of other programs in one storage; may be called from any thread."""

    def __init__(
        self,
        backend: StorageBackend,
        pool: Pool,
        record: Callable[[list[Noticed]], None],
        *,
        watches: int,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Hand what is noticed to `record`, in a thread of the pool or of our own."""
        self._backend = backend
        self._pool = pool
        self._record = record
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[Key, tuple[str, float]] = OrderedDict()  # etag, and when; the oldest first
        self._dirty: dict[StoragePath, Noticed] = {}  # events that are not written down yet
        self._due = 0.0  # when they are to be
        self._looking: set[asyncio.Future[None]] = set()
        self._closed = threading.Event()
        self._watcher: Watcher | None = backend.watch(watches) if watches else None
        if self._watcher is not None:
            self._thread = threading.Thread(target=self._follow, args=(self._watcher,), daemon=True, name="noticing")
            self._thread.start()

    def close(self) -> None:
        """Write down what has been noticed, and stop."""
        self._gather()
        self._closed.set()
        if self._watcher is not None:
            self._watcher.close()
            self._thread.join(SETTLE)
            self._write_down()

    # Looks

    def listed(self, path: StoragePath, entry: Entry) -> None:
        """Compare a folder that is about to be shown, and those above it, with the last look, and watch it."""
        changed = self._look_above(path)
        if entry.is_directory:
            if self._differs(path.parts, entry.etag):
                changed.append(path)
            self.watch(path)
        self._tell(changed)

    def members(self, path: StoragePath, folders: Iterable[Entry]) -> None:
        """Compare folders in the folder at `path` with the last look; new ones are remembered while there is room."""
        changed = []
        for entry in folders:
            key = (*path.parts, entry.name)
            if (key in self._seen or len(self._seen) < REMEMBERED) and self._differs(key, entry.etag):
                changed.append(path.child(entry.name))
        self._tell(changed)

    def passed(self, path: StoragePath) -> None:
        """Have the folders above a file that is read looked at in a thread, unless that was done a moment ago."""
        known = self._seen.get(path.parts[:-1])
        if (known is None or known[1] + LOOK_EVERY < time.monotonic()) and not self._looking:
            task = asyncio.ensure_future(self._pool.run(lambda: self._tell(self._look_above(path))))
            self._looking.add(task)
            task.add_done_callback(self._looked)

    def watch(self, path: StoragePath) -> None:
        """Watch the folder at `path`, if that can be done."""
        if self._watcher is not None:
            self._watcher.add(path)

    async def own_change(self, path: StoragePath, *, tree: bool) -> None:
        """Take what has happened at `path` until now for ours; call it before it is written down."""
        was_clean = not self._dirty
        self._gather()
        if self._dirty and was_clean and self._watcher is not None:
            self._watcher.wake()  # others' events may be among them, and nobody waits for their time to come
        if tree:
            self._forget(path)
        for folder in (path, path.parent):
            if folder.parts not in self._seen:
                continue
            if self._watcher is not None and self._watcher.watches(folder):
                self._differs(folder.parts, None)  # as it is at the next look: until then there are events
            else:
                await self._pool.run(self._look_again, folder)

    def _looked(self, task: asyncio.Future[None]) -> None:
        self._looking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("noticing.failed", reason=str(error))

    def _look_above(self, path: StoragePath) -> list[StoragePath]:
        """Return the folders above `path` that look different than the last time, of those not looked at just now."""
        changed = []
        since = time.monotonic() - LOOK_EVERY
        while not path.is_root:
            path = path.parent
            known = self._seen.get(path.parts)
            if (known is None or known[1] < since) and self._differs(path.parts, self._etag(path)):
                changed.append(path)
        return changed

    def _look_again(self, folder: StoragePath) -> None:
        self._differs(folder.parts, self._etag(folder))

    def _etag(self, path: StoragePath) -> str | None:
        try:
            return self._backend.stat(path).etag
        except StorageError:
            return None

    def _differs(self, key: Key, etag: str | None) -> bool:
        """Remember how a folder looks, and tell whether it looked different before; None: it cannot be seen."""
        with self._lock:
            before = self._seen.pop(key, None)
            if etag is not None:
                self._seen[key] = (etag, time.monotonic())
                if len(self._seen) > REMEMBERED:
                    self._seen.popitem(last=False)
        return before is not None and etag is not None and before[0] != etag

    def _forget(self, path: StoragePath) -> None:
        """Forget the folder at `path` and everything below it: another one may have its name now."""
        depth = len(path.parts)
        with self._lock:
            for key in [key for key in self._seen if key[:depth] == path.parts]:
                del self._seen[key]
        if self._watcher is not None:
            self._watcher.drop(path)

    def _tell(self, changed: list[StoragePath]) -> None:
        if changed:
            now = self._clock()
            self._record([Noticed(path, now) for path in changed])

    # Events

    def _follow(self, watcher: Watcher) -> None:
        """Gather events as they come, and write them down SETTLE seconds after the first of them."""
        while not self._closed.is_set():
            watcher.wait(max(0.0, self._due - time.monotonic()) if self._dirty else None)
            self._gather()
            if self._dirty and self._due <= time.monotonic():
                self._write_down()
            self._closed.wait(BREATH)

    def _gather(self) -> None:
        """Take over the events that the kernel holds by now."""
        if self._watcher is None or not (events := self._watcher.collect()):
            return
        now = self._clock()
        with self._lock:
            if not self._dirty:
                self._due = time.monotonic() + SETTLE
            for path, tree in events:
                known = self._dirty.get(path)
                self._dirty[path] = Noticed(path, now, tree or (known is not None and known.tree))

    def _write_down(self) -> None:
        with self._lock:
            noticed, self._dirty = list(self._dirty.values()), {}
        if not noticed:
            return
        for one in noticed:
            self._remember(one.path)
        try:
            self._record(noticed)
        except Exception:
            log.exception("noticing.failed")

    def _remember(self, path: StoragePath) -> None:
        """Look again at a folder that was watched, so that the next one who lists it finds nothing new."""
        try:
            etag = self._backend.stat(path).etag
        except NotFound:
            self._forget(path)
        except StorageError:
            return
        else:
            if path.parts in self._seen:
                self._differs(path.parts, etag)
