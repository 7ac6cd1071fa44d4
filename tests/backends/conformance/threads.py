"""Many threads on one backend: no surprise errors, and every content that is read is one that was written, whole."""

from __future__ import annotations

import hashlib
import random
import threading

from backends.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidPath,
    IsADirectory,
    NotADirectory,
    NotFound,
    PreconditionFailed,
)
from backends.interface import StorageBackend

from .actions import get, names, path, put

THREADS = 8
TURNS = 60
NAMES = ["a", "b", "folder", "folder/a", "folder/b", "other", "other/a"]

# What a thread may meet because of the others; anything else is a fault. InvalidPath: the target's directory was
# moved into the source a moment ago.
EXPECTED = (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidPath,
    IsADirectory,
    NotADirectory,
    NotFound,
    PreconditionFailed,
)


def sealed(random_source: random.Random) -> bytes:
    """Return a content that tells whether it is whole."""
    body = random_source.randbytes(random_source.choice([0, 10, 5_000, 70_000]))
    return hashlib.sha256(body).digest() + body


def is_whole(content: bytes) -> bool:
    return hashlib.sha256(content[32:]).digest() == content[:32]


class ThreadConformance:
    def test_threads_do_not_disturb_each_other(self, backend: StorageBackend) -> None:
        torn: list[str] = []
        surprises: list[Exception] = []
        threads = [
            threading.Thread(target=_work, args=(backend, random.Random(seed), torn, surprises))
            for seed in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (torn, surprises) == ([], [])
        for name in names(backend):
            entry = backend.stat(path(name))
            assert entry.is_directory or is_whole(get(backend, name))


def _work(backend: StorageBackend, random_source: random.Random, torn: list[str], surprises: list[Exception]) -> None:
    for _ in range(TURNS):
        try:
            _act(backend, random_source, torn)
        except EXPECTED:
            continue
        except Exception as error:
            surprises.append(error)


def _act(backend: StorageBackend, random_source: random.Random, torn: list[str]) -> None:
    one, other = random_source.choice(NAMES), random_source.choice(NAMES)
    match random_source.randrange(8):
        case 0 | 1:
            put(backend, one, sealed(random_source), if_none_match=random_source.random() < 0.3)
        case 2 | 3:
            if not is_whole(get(backend, one)):
                torn.append(one)
        case 4:
            backend.make_directory(path(one))
        case 5:
            backend.remove(path(one))
        case 6:
            if not path(other).is_within(path(one)):
                backend.rename(path(one), path(other), overwrite=random_source.random() < 0.5)
        case _:
            names(backend, one)
