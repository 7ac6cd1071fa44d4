"""Run in a child of the nursery: drive a local backend until killed, saying what is intended and how it ended."""

from __future__ import annotations

import os
import random
from pathlib import Path

from backends.errors import StorageError
from backends.linux import Abilities
from backends.local import LocalBackend
from backends.paths import StoragePath

from . import content, trees
from .nursery import say

_PIECE = 65_536


def write_for_ever(directory: str, seed: int, modern: bool = True, fsync: bool = True) -> None:
    """Work in `directory`/root; without `fsync` nothing is made durable, which a test has to notice."""
    if not fsync:
        os.fsync = lambda _: None
    base, choices = Path(directory), random.Random(seed)
    backend = LocalBackend(base / "root", base / "journals", abilities=Abilities(*[modern] * 3))
    say("ready")
    while True:
        operation = trees.chosen(choices)
        new = content.made(choices) if operation[0].startswith("put") else b""
        if new:
            operation = (*operation, content.digest(new))
        say("begin", *operation)
        try:
            _perform(backend, operation, new, choices)
        except StorageError as error:
            say("refused", type(error).__name__)
        else:
            say("done")


def _perform(backend: LocalBackend, operation: trees.Operation, new: bytes, choices: random.Random) -> None:
    offsets = list(range(0, len(new), _PIECE))
    match operation:
        case ("put" | "put_new" as kind, path, _):
            with backend.open_write(StoragePath.parse(path), if_none_match=kind == "put_new") as writer:
                for offset in offsets:
                    writer.write(new[offset : offset + _PIECE])
                writer.commit()
        case ("put_over", path, _):
            choices.shuffle(offsets)
            with backend.open_update(StoragePath.parse(path)) as writer:
                for offset in offsets:
                    writer.write_at(offset, new[offset : offset + _PIECE])
                writer.truncate(len(new))
                writer.commit()
        case ("make", path):
            backend.make_directory(StoragePath.parse(path))
        case ("remove", path):
            backend.remove(StoragePath.parse(path))
        case ("rename" | "copy" as kind, source, target, overwrite):
            change = backend.rename if kind == "rename" else backend.copy
            change(StoragePath.parse(source), StoragePath.parse(target), overwrite=overwrite == "overwrite")
