"""The few things that every test does to a backend."""

from __future__ import annotations

from typing import Any

from backends.interface import Entry, StorageBackend
from backends.paths import StoragePath

ROOT = StoragePath()


def path(text: bytes | str) -> StoragePath:
    return StoragePath.parse(text)


def put(backend: StorageBackend, where: bytes | str, content: bytes = b"", **expectations: Any) -> Entry:
    """Write a whole file and return the entry that commit gave."""
    with backend.open_write(path(where), **expectations) as writer:
        if content:
            writer.write(content)
        return writer.commit()


def get(backend: StorageBackend, where: bytes | str) -> bytes:
    """Read a whole file, as large as its entry says."""
    with backend.open_read(path(where)) as reader:
        return reader.read_at(0, reader.entry.size + 1)


def make(backend: StorageBackend, *where: str) -> None:
    for one in where:
        backend.make_directory(path(one))


def names(backend: StorageBackend, where: bytes | str = b"") -> list[bytes]:
    """List the names in a directory, sorted."""
    with backend.scan(path(where)) as scan:
        return sorted(entry.name for entry in scan)


def exists(backend: StorageBackend, where: bytes | str) -> bool:
    target = path(where)
    with backend.scan(target.parent) as scan:
        return any(entry.name == target.name for entry in scan)
