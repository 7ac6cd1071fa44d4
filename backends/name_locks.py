"""Among the threads of one backend, changes of one name come one after the other, where storage itself has no locks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Generic, TypeVar

Name = TypeVar("Name", bytes, str)


class NameLocks(Generic[Name]):
    """A lock for each name that somebody holds or waits for; others wait for nobody, however long that takes."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._locks: dict[Name, Lock] = {}
        self._users: Counter[Name] = Counter()

    @contextmanager
    def held(self, *names: Name) -> Iterator[None]:
        """Hold these names; in one order, so that none wait in a ring."""
        with ExitStack() as stack:
            for name in sorted(set(names)):
                stack.enter_context(self._one(name))
            yield

    @contextmanager
    def _one(self, name: Name) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(name, Lock())
            self._users[name] += 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                self._users[name] -= 1
                if not self._users[name]:
                    del self._users[name], self._locks[name]
