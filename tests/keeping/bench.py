"""What copies need, in one process: the sender's storage in memory, and a mount on a local directory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from parts import Clock, new_store, received

from backends.errors import StorageError
from backends.interface import Entry, Reader, Scan, Writer
from backends.local import LocalBackend
from backends.memory import MemoryBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway.access import Access
from gateway.arriving import Arriving
from gateway.belongings import Belongings
from gateway.changes import Changes
from gateway.config import MountConfig
from gateway.keeping import Copies, Copy, Run
from gateway.locks import Locks
from gateway.mounts import Mounts
from gateway.ocm.keys import JWKSet
from gateway.store import kept, received_shares, users
from gateway.store.kept import Kept
from gateway.store.received_shares import ReceivedShare
from gateway.tree import Storage, Tree
from gateway.uploads import Uploads
from gateway.users import Passwords
from gateway.watch import Watch


def path(text: str | bytes) -> StoragePath:
    return StoragePath.parse(text)


class Told(Reader):
    """A file whose sender sends a digest along, and which may be held up or changed in the middle."""

    def __init__(self, inner: Reader, theirs: Theirs, where: StoragePath) -> None:
        self._inner = inner
        self._theirs = theirs
        self._where = where
        self.entry = inner.entry

    @property
    def digests(self) -> Mapping[str, bytes]:
        return self._theirs.digests.get(self._where, {})

    def read_at(self, offset: int, size: int) -> bytes:
        theirs = self._theirs
        with theirs.counting():
            theirs.read.append((str(self._where), offset))
            theirs.reading(str(self._where))
            end = theirs.ends.get(self._where, self.entry.size)
            return self._inner.read_at(offset, min(size, max(0, end - offset)))

    def close(self) -> None:
        self._inner.close()


class Theirs(MemoryBackend):
    """The sender's storage: `reading` is called before each piece and may wait, change or raise something."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[tuple[str, int]] = []
        self.digests: dict[StoragePath, Mapping[str, bytes]] = {}
        self.ends: dict[StoragePath, int] = {}  # where a file ends before its size
        self.reading: Callable[[str], object] = lambda _path: None
        self.looking: Callable[[str], object] = lambda _path: None
        self.at_once = 0
        self.most_at_once = 0
        self._count = threading.Lock()

    def stat(self, where: StoragePath) -> Entry:
        self.looking(str(where))
        return super().stat(where)

    def scan(self, where: StoragePath, batch: int = 2) -> Scan:
        return super().scan(where, 2)

    def open_read(self, where: StoragePath) -> Told:
        return Told(super().open_read(where), self, where)

    def counting(self) -> Theirs:
        return self

    def __enter__(self) -> None:
        with self._count:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)

    def __exit__(self, *exception: object) -> None:
        with self._count:
            self.at_once -= 1

    def put(self, where: str | bytes, content: bytes, modified: int | None = None) -> None:
        with self.open_write(path(where), size=len(content)) as writer:
            writer.write(content)
            writer.commit()
        if modified is not None:
            self.set_modified(path(where), modified)

    def say_digest(self, where: str, of: bytes) -> None:
        self.digests[path(where)] = {"sha256": hashlib.sha256(of).digest()}


class Mine(LocalBackend):
    """Alice's storage: writing raises what `refusing` says for a path."""

    refusing: Callable[[str], StorageError | None] = staticmethod(lambda _path: None)

    def open_write(self, where: StoragePath, **expectations: Any) -> Writer:
        if (error := self.refusing(str(where))) is not None:
            raise error
        return super().open_write(where, **expectations)


class Timeless(MemoryBackend):
    """Storage that keeps its own times, as WebDAV does."""

    features = replace(MemoryBackend.features, set_modified=False)


class Bench:
    """Mounts `home` (to write) and `frozen` (to read) on one directory, `other` in memory; Shares of one sender."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.data = directory / "data"
        (self.data / "frozen").mkdir(parents=True)
        self.store = new_store(directory)
        self.store.run_sync(lambda tx: [users.add(tx, name, "hash", 0) for name in ("alice", "bob")])
        self.theirs = Theirs()
        self.mine = Mine(self.data, directory / "journals")
        self.timeless = Timeless()
        self.storages = {
            "storage": Storage("storage", self.mine, Pool("storage", threads=4)),
            "other": Storage("other", self.timeless, Pool("other", threads=4)),
        }
        self.remotes: dict[str, Storage] = {}
        mounts = Mounts(
            [
                MountConfig(name="home", backend="storage", path="", rights="write"),
                MountConfig(name="own", backend="storage", path="users/{user}", rights="write"),
                MountConfig(name="other", backend="other", path="", rights="write"),
                MountConfig(name="frozen", backend="storage", path="frozen", rights="read"),
            ],
            {},
        )
        self._passwords = Passwords(self.store)
        access = Access(
            self.store, mounts, self._passwords, issuer="x", token_keys=lambda: JWKSet(()), clock=self.clock
        )
        self.changes = Changes(self.store)
        tree = Tree(self.store, mounts, self.storages, self._remote, self.changes, self.clock)
        self.locks = Locks(self.store, self.clock)
        uploads = Uploads(self.store, access, mounts, self.clock)
        self.belongings = Belongings(self.store)
        self.watch = Watch(access, every=0.02)
        parts = (access, tree, self.watch, self.locks, Arriving(uploads, self.belongings), self.changes, self.clock)
        self.copies = Copies(self.store, *parts, every=0.02)
        self.receive("share")

    async def _remote(self, share: ReceivedShare) -> Storage:
        if share.id not in self.remotes:
            self.remotes[share.id] = Storage(share.storage, self.theirs, Pool(share.id, threads=4))
        return self.remotes[share.id]

    async def close(self) -> None:
        await self.copies.close(5)
        for storage in (*self.storages.values(), *self.remotes.values()):
            storage.pool.close()
        self._passwords.close()
        self.store.close()

    def receive(self, share_id: str, **changes: Any) -> None:
        share = received(share_id, **({"state": "accepted", "mount": share_id, "provider_id": share_id} | changes))
        self.store.run_sync(lambda tx: received_shares.add(tx, share, share_id.encode(), b"sealed"))

    def copy(self, target: str = "/home/kept", source: str = "", share: str = "share") -> Copy:
        return Copy(share, path(source), path(target))

    async def begin(self, copy: Copy | None = None, *, overwrite: bool = False, user: str = "alice") -> Run:
        return await self.copies.begin(user, copy or self.copy(), user, overwrite=overwrite)

    async def keep(self, copy: Copy | None = None, *, overwrite: bool = False) -> Run:
        """Copy, and wait for the end."""
        run = await self.begin(copy, overwrite=overwrite)
        await run.ended.wait()
        return run

    def rows(self, share: str = "share") -> list[Kept]:
        return self.store.read_sync(lambda tx: kept.of_share(tx, share))

    def files(self, below: str = "kept") -> dict[str, bytes | None]:
        """Return what is in a folder at any depth: contents of files, None for folders."""
        top = self.data / below
        return {str(one.relative_to(top)): None if one.is_dir() else one.read_bytes() for one in sorted(top.rglob("*"))}


def counts(run: Run) -> tuple[str, int, int, int]:
    """Return how a run has ended: its state, and how many files were copied, were there already, and failed."""
    return run.state, run.files, run.skipped, run.failed


def failed(run: Run) -> dict[str, str]:
    return {str(where): reason for where, reason in run.failures}


def reads(theirs: Theirs) -> Iterable[str]:
    """Return the files that were read, each once."""
    return sorted({where for where, _ in theirs.read})
