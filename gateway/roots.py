"""Configured backends as objects, with the identity of each local root recorded at its first start.

An unmounted NAS looks like an empty directory: while a root is not the recorded one, its backend is Unavailable,
until the right one is back or the operator confirms a real change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy import Connection

from backends.errors import StorageError
from backends.interface import StorageBackend
from backends.local import LocalBackend
from backends.memory import MemoryBackend
from backends.paths import StoragePath
from backends.root import RootIdentity
from gateway.config import BackendConfig, Config, ConfigError, LocalConfig, MemoryConfig, Mistake
from gateway.errors import Conflict, NoSuch
from gateway.store import backend_roots, events
from gateway.store.engine import Store
from gateway.tree import Storage

FOLLOW = 1.0  # seconds between two looks at what other processes have recorded

log = structlog.get_logger()


def open_backend(name: str, config: BackendConfig, store: Store, state_dir: Path) -> StorageBackend:
    """Return the backend `name`, without a look at its storage; the one table from configured type to class."""
    match config:
        case LocalConfig():
            recorded = store.read_sync(lambda tx: backend_roots.get(tx, name))
            known = RootIdentity.parse(recorded) if recorded else None
            return LocalBackend(config.root, state_dir / "journals", root_identity=known, name=name, look=False)
        case MemoryConfig():
            return MemoryBackend()


def require_roots(config: Config, store: Store) -> None:
    """Refuse a root that is not there and never was: that is a mistake, and no NAS that is away; raises ConfigError."""
    mistakes = []
    recorded = store.read_sync(backend_roots.names)
    for name, backend in config.backends.items():
        if isinstance(backend, LocalConfig) and name not in recorded and not backend.root.is_dir():
            allowed = f"a directory; to make it: mkdir -p {backend.root}"
            mistakes.append(Mistake(f"backends.{name}.root", f"{str(backend.root)!r}, which does not exist", allowed))
    if mistakes:
        raise ConfigError(mistakes)


def settle(storage: Storage, store: Store) -> None:
    """Record the root's identity at its first start, and remove what a crash has left; waits for the storage."""
    backend, name = storage.backend, storage.name
    if not isinstance(backend, LocalBackend):
        return
    try:
        identity = str(backend.identity)
        backend.stat(StoragePath())
        backend.sweep()
    except StorageError as error:
        hint = f"once it was really replaced: ocm-gateway backend accept-root {name}"
        log.warning("storage is away", backend=name, reason=str(error), hint=hint)
        return
    if store.read_sync(lambda tx: backend_roots.get(tx, name)) is None:
        store.run_sync(lambda tx: backend_roots.put(tx, name, identity))


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """A backend and, when it does not answer, why."""

    name: str
    type: str
    problem: str | None


class Roots:
    """The operator's commands on backends."""

    def __init__(self, store: Store, storages: Mapping[str, Storage], clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._storages = storages
        self._clock = clock

    async def everything(self) -> list[BackendStatus]:
        """Return every backend, after a look at its root."""
        return [await self._status(storage) for storage in self._storages.values()]

    async def accept(self, name: str, actor: str) -> BackendStatus:
        """Confirm that the root that is there now is the right one; raises NoSuch, Conflict, Unavailable."""
        storage = self._storages.get(name)
        if storage is None:
            raise NoSuch("NO_SUCH_BACKEND", f"there is no backend {name}; the configuration has {self._names()}")
        backend = storage.backend
        if not isinstance(backend, LocalBackend):
            raise Conflict("NO_ROOT", f"the backend {name} has no root that could be another one")
        identity = str(await storage.pool.run(backend.accept_root))
        now = int(self._clock())

        def work(tx: Connection) -> None:
            backend_roots.put(tx, name, identity)
            events.add(tx, at=now, actor=actor, action="backend.accept-root", subject=name, identity=identity)

        await self._store.run(work)
        return await self._status(storage)

    async def follow(self) -> None:
        """Take over what another process of the gateway records, or the operator confirms there, until cancelled."""
        known: dict[str, str] = {}
        while True:
            try:
                recorded = await self._store.read(backend_roots.everything)
            except StorageError:
                recorded = {}
            for name, identity in recorded.items():
                storage = self._storages.get(name)
                if storage is None or known.get(name) == identity or not isinstance(storage.backend, LocalBackend):
                    continue
                if storage.backend.expect_root(RootIdentity.parse(identity)):
                    known[name] = identity
            await asyncio.sleep(FOLLOW)

    async def _status(self, storage: Storage) -> BackendStatus:
        problem = None
        try:
            await storage.pool.run(storage.backend.stat, StoragePath())
        except StorageError as error:
            problem = str(error)
        return BackendStatus(storage.name, type(storage.backend).__name__.removesuffix("Backend").lower(), problem)

    def _names(self) -> str:
        return ", ".join(self._storages)
