"""A neighbour with write access who swaps a directory for a link to the outside, as fast as he can."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from backends.errors import StorageError
from backends.local import LocalBackend

from ..conformance.actions import make, path, put
from .place import SECRET, Place

DURATION = 0.6  # seconds
INSIDE = b"inside"


class RaceTests:
    def test_swapping_links_never_lead_out(self, place: Place, backend: LocalBackend) -> None:
        """`folder` and `file` turn into links to the outside and back, while everything is tried on both."""
        make(backend, "folder")
        put(backend, "folder/secret", INSIDE)
        put(backend, "file", INSIDE)
        stop = threading.Event()
        read: set[bytes] = set()
        surprises: list[BaseException] = []
        loops: list[Callable[[], object]] = [
            lambda: _swap_folder(place.root),
            lambda: _swap_file(place.root),
            lambda: _read(backend, "folder/secret", read),
            lambda: _read(backend, "file", read),
            lambda: put(backend, "folder/new", INSIDE),
            lambda: put(backend, "file", INSIDE),
            lambda: _scan(backend, "folder", read),
            lambda: backend.set_modified(path("folder/secret"), 5_000_000_000),
            lambda: _make_and_remove(backend, "folder/made"),
        ]
        threads = [threading.Thread(target=_repeat, args=(act, stop, surprises)) for act in loops]
        for thread in threads:
            thread.start()
        time.sleep(DURATION)
        stop.set()
        for thread in threads:
            thread.join()
        assert surprises == []
        assert read == {INSIDE}
        assert place.outside_is_untouched()


def _swap_folder(root: Path) -> None:
    os.rename(root / "folder", root / "spare")
    os.symlink("../outside/folder", root / "folder")
    os.unlink(root / "folder")
    os.rename(root / "spare", root / "folder")


def _swap_file(root: Path) -> None:
    """The name is never free: each takes the place of the other in one step."""
    os.symlink("../outside/secret", root / "new-link")
    os.replace(root / "new-link", root / "file")
    (root / "new-file").write_bytes(INSIDE)
    os.replace(root / "new-file", root / "file")


def _repeat(act: Callable[[], object], stop: threading.Event, surprises: list[BaseException]) -> None:
    while not stop.is_set():
        try:
            act()
        except StorageError:
            continue
        except BaseException as error:
            surprises.append(error)


def _read(backend: LocalBackend, name: str, read: set[bytes]) -> None:
    for reader in (backend.open_read(path(name)), backend.try_open_read(path(name))):
        if reader is not None:
            with reader:
                read.add(reader.read_at(0, 1000))


def _scan(backend: LocalBackend, name: str, read: set[bytes]) -> None:
    with backend.scan(path(name)) as scan:
        for entry in scan:
            if entry.size == len(SECRET):
                read.add(b"listed: " + entry.name)


def _make_and_remove(backend: LocalBackend, name: str) -> None:
    try:
        backend.make_directory(path(name))
    finally:
        backend.remove(path(name))
