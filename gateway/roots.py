"""Configured backends as objects, with the identity of each root recorded at its first start.

An unmounted NAS looks like an empty directory: while a root is not the recorded one, its backend is Unavailable.
"""

from __future__ import annotations

from pathlib import Path

from backends.interface import StorageBackend
from backends.local import LocalBackend
from backends.memory import MemoryBackend
from backends.root import RootIdentity
from gateway.config import BackendConfig, LocalConfig, MemoryConfig
from gateway.store import backend_roots
from gateway.store.engine import Store


def open_backend(name: str, config: BackendConfig, store: Store, state_dir: Path) -> StorageBackend:
    """Return the backend `name`; the one table from configured type to class."""
    match config:
        case LocalConfig():
            return _local(name, config, store, state_dir)
        case MemoryConfig():
            return MemoryBackend()


def _local(name: str, config: LocalConfig, store: Store, state_dir: Path) -> LocalBackend:
    recorded = store.read_sync(lambda tx: backend_roots.get(tx, name))
    known = RootIdentity.parse(recorded) if recorded else None
    backend = LocalBackend(config.root, state_dir / "journals", root_identity=known, name=name)
    if known is None:
        identity = str(backend.identity)
        store.run_sync(lambda tx: backend_roots.put(tx, name, identity))
    return backend
