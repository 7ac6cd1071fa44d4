"""Run in a child of the nursery: one COPY or MOVE, with a SIGKILL before the change of the storage that is named."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from backends.local import LocalBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway.files import Moves
from gateway.living import Living
from gateway.store import engine
from gateway.store.engine import Store
from gateway.tree import READ_WRITE, Place, Storage

CHANGES = frozenset({"open_write", "make_directory", "remove", "rename", "copy", "set_modified"})


class Dying:
    """A backend that kills its process before, or after, the change with this number."""

    def __init__(self, inner: LocalBackend, number: int, after: bool) -> None:
        self._inner, self._left, self._after = inner, number, after

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._inner, name)
        return inner if name not in CHANGES else lambda *given, **named: self._change(inner, *given, **named)

    def _change(self, change: Any, *given: Any, **named: Any) -> Any:
        self._left -= 1
        if not self._left and not self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return change(*given, **named)
        finally:
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def place(storage: Storage, path: str) -> Place:
    return Place(storage, StoragePath.parse(path), StoragePath(), READ_WRITE)


def perform(directory: str, method: str, number: int, after: bool) -> None:
    """COPY or MOVE `new` to `old`; with `method` given as `copy` or `move`."""
    base = Path(directory)
    engine._migrate = lambda _engine: None  # done already
    moves = Moves(Store(f"sqlite:///{base / 'state.sqlite'}"), Living(base / "processes"))
    backend = LocalBackend(base / "root", base / "journals")
    storage = Storage("storage", Dying(backend, number, after), Pool("storage"))  # type: ignore[arg-type]
    getattr(moves, method)(place(storage, "new"), place(storage, "old"), overwrite=True)
