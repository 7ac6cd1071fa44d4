"""Configured backends as objects, with the identity of each local root recorded at its first start.

An unmounted NAS looks like an empty directory: while a root is not the recorded one, its backend is Unavailable,
until the right one is back or the operator confirms a real change.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog
from sqlalchemy import Connection

from backends import credentials
from backends.accounts import Accounts
from backends.credential_threads import CredentialThreads
from backends.errors import StorageError
from backends.interface import StorageBackend
from backends.local import LocalBackend
from backends.mapped import MappedBackend
from backends.memory import MemoryBackend
from backends.ownership import NewFiles, Owner
from backends.paths import StoragePath
from backends.root import RootIdentity
from gateway.config import (
    BackendConfig,
    Config,
    ConfigError,
    FixedOwnership,
    LocalConfig,
    MapOwnership,
    MemoryConfig,
    Mistake,
    OwnershipConfig,
    S3Config,
    ServiceOwnership,
    SFTPConfig,
    WebDAVConfig,
)
from gateway.errors import Conflict, NoSuch
from gateway.store import backend_roots, events, uploads
from gateway.store.engine import Store
from gateway.tree import Storage
from gateway.webdav_storage import open_webdav

FOLLOW = 1.0  # seconds between two looks at what other processes have recorded
LOOK_TIME = 5.0  # seconds that an operator waits for a backend that he has asked about

log = structlog.get_logger()


def open_backend(name: str, config: BackendConfig, store: Store, state_dir: Path) -> StorageBackend:
    """Return the backend `name`, without a look at its storage; the one table from configured type to class."""
    match config:
        case LocalConfig():
            recorded = store.read_sync(lambda tx: backend_roots.get(tx, name))
            known = RootIdentity.parse(recorded) if recorded else None
            return _local(name, config, known, state_dir / "journals", _keeps(store))
        case MemoryConfig():
            return MemoryBackend()
        case S3Config():
            return _s3(name, config, state_dir / "journals")
        case SFTPConfig():
            return _sftp(name, config, state_dir / "journals")
        case WebDAVConfig():
            return open_webdav(name, config)


def _local(
    name: str, config: LocalConfig, known: RootIdentity | None, journals: Path, is_kept: Callable[[str], bool]
) -> StorageBackend:
    new_files = _new_files(config.ownership)
    open_local = partial(LocalBackend, config.root, journals, root_identity=known, name=name, look=False)
    match config.ownership:
        case ServiceOwnership() | FixedOwnership():
            return open_local(new_files=new_files, is_kept=is_kept)
        case MapOwnership(minimum_uid=minimum_uid):
            threads = CredentialThreads(name)
            service = open_local(new_files=new_files, as_service=partial(credentials.acting_with, threads.own))
            return MappedBackend(service, Accounts(minimum_uid), threads)


def _s3(name: str, config: S3Config, journals: Path) -> StorageBackend:
    from backends.s3 import KeyFiles, Location, S3Backend  # boto3 takes a fifth of a second, and 30 MB

    location = Location(
        bucket=config.bucket,
        prefix=config.prefix,
        endpoint=config.endpoint,
        region=config.region,
        addressing=config.addressing,
        ca_file=config.ca_file,
    )
    access_key, secret_key = config.access_key_file, config.secret_key_file
    keys = KeyFiles(access_key, secret_key) if access_key is not None and secret_key is not None else None
    return S3Backend(location, journals, keys=keys, name=name)


def _sftp(name: str, config: SFTPConfig, journals: Path) -> StorageBackend:
    from backends.sftp import Account, SFTPBackend  # paramiko takes a tenth of a second

    account = Account(
        name,
        config.host,
        config.port,
        config.user,
        config.known_hosts_file,
        key_file=config.key_file,
        password_file=config.password_file,
    )
    return SFTPBackend(account, config.root, journals, connections=config.connections)


def _new_files(ownership: OwnershipConfig) -> NewFiles:
    owner = Owner(ownership.user, ownership.group) if isinstance(ownership, FixedOwnership) else None
    return NewFiles(owner, ownership.umask)


def _keeps(store: Store) -> Callable[[str], bool]:
    """Tell of what an upload has left in storage whether it is to be resumed."""
    return lambda token: store.read_sync(lambda tx: uploads.is_kept(tx, token, time.time()))


def view_of(backend: StorageBackend) -> Callable[[str], StorageBackend] | None:
    """Return what gives the backend as one user may use it, None where it does not distinguish them."""
    return backend.acting_as if isinstance(backend, MappedBackend) else None


def as_service(storage: Storage) -> Storage:
    """Return the storage for the gateway's own work, which is done for no user."""
    backend = storage.backend
    return replace(storage, backend=backend.service) if isinstance(backend, MappedBackend) else storage


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


def require_ownership(config: Config) -> None:
    """Refuse a mode of ownership that this process has not the rights for; raises ConfigError."""
    mistakes = []
    for name, backend in config.backends.items():
        needed = _needed(backend.ownership) if isinstance(backend, LocalConfig) else ()
        if isinstance(backend, LocalConfig) and (lacking := _lacking(needed)):
            mode = backend.ownership.mode
            allowed = f"service; {mode} for root, or with {', '.join(needed)} (README, Whose files)"
            mistakes.append(Mistake(f"backends.{name}.ownership.mode", f"{mode} {lacking}", allowed))
    if mistakes:
        raise ConfigError(mistakes)


def _needed(ownership: OwnershipConfig) -> tuple[str, ...]:
    """Return the capabilities without which new files cannot be whose they are said to be."""
    return MappedBackend.NEEDED if isinstance(ownership, MapOwnership) else _new_files(ownership).needed()


def _lacking(needed: tuple[str, ...]) -> str:
    """Say what keeps this process from what needs these capabilities; the empty text is nothing."""
    if not needed:
        return ""
    if not credentials.is_supported():
        return "on an architecture whose system calls are not known"
    without = credentials.missing(needed)
    return f"in a process of uid {os.geteuid()} without {' and '.join(without)}" if without else ""


def settle(storage: Storage, store: Store) -> None:
    """Look at the storage; record a local root's identity at its first start, and remove what a crash has left there.

    Waits for the storage.
    """
    backend, name = as_service(storage).backend, storage.name
    if not isinstance(backend, LocalBackend):
        _look(name, backend)
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


def _look(name: str, backend: StorageBackend) -> None:
    """Look at another server's storage, and remove what a crash has left there: what is wrong is said at the start."""
    try:
        backend.stat(StoragePath())
        backend.sweep()
    except StorageError as error:
        log.warning("storage is away", backend=name, reason=str(error))
        return
    if not backend.features.conditional_write:
        log.info("storage compares no conditions", backend=name, hint="other programs should not write the same files")


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
        """Return every backend, after a look at its root; one that hangs delays this by LOOK_TIME."""
        return [*await asyncio.gather(*map(self._status, self._storages.values()))]

    async def accept(self, name: str, actor: str) -> BackendStatus:
        """Confirm that the root that is there now is the right one; raises NoSuch, Conflict, Unavailable."""
        storage = self._storages.get(name)
        if storage is None:
            raise NoSuch("NO_SUCH_BACKEND", f"there is no backend {name}; the configuration has {self._names()}")
        backend = as_service(storage).backend
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
                backend = None if storage is None else as_service(storage).backend
                if known.get(name) == identity or not isinstance(backend, LocalBackend):
                    continue
                if backend.expect_root(RootIdentity.parse(identity)):
                    known[name] = identity
            await asyncio.sleep(FOLLOW)

    async def _status(self, storage: Storage) -> BackendStatus:
        problem, backend = None, as_service(storage).backend
        try:
            await storage.ask(LOOK_TIME, backend.stat, StoragePath())
        except StorageError as error:
            problem = str(error)
        return BackendStatus(storage.name, type(backend).__name__.removesuffix("Backend").lower(), problem)

    def _names(self) -> str:
        return ", ".join(self._storages)
