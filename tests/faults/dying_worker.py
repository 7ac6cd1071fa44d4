"""Run by a test in the place of `ocm-gateway`: a worker that gets an order kills itself at the change that it names.

The order is a file, whose first reader takes it away: a method of the storage, how many calls of it to let pass, and
whether the next is made before the end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backends.local import LocalBackend
from gateway.cli import main

CHANGES = ("open_write", "make_directory", "remove", "rename", "copy")


class Order:
    """When to die."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._method, self._left, self._after = "", 0, False

    def watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call`, the method `name` of every local storage, as one that obeys."""

        def obeying(*given: Any, **named: Any) -> Any:
            self._take()
            if name != self._method:
                return call(*given, **named)
            self._left -= 1
            if self._left < 0 and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return call(*given, **named)
            finally:
                if self._left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        return obeying

    def _take(self) -> None:
        taken = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.rename(taken)
        except FileNotFoundError:
            return
        self._method, self._left, self._after = json.loads(taken.read_text())


if __name__ == "__main__":
    order = Order(Path(sys.argv[1]))
    for name in CHANGES:
        setattr(LocalBackend, name, order.watched(name, getattr(LocalBackend, name)))
    main(sys.argv[2:])
