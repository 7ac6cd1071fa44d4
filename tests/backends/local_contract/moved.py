"""A directory that is moved away, by a client or by another program, while something is done in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

from backends import local_tree
from backends.errors import NotADirectory, NotFound
from backends.local import LocalBackend
from backends.renaming import exclusively

from ..conformance.actions import get, make, path, put
from .place import Place

# What another program does to `folder` meanwhile; `place.outside` is another part of the same disk
DEPARTURES: dict[str, Callable[[Place], object]] = {
    "moved within the root": lambda place: os.rename(place.root / "folder", place.root / "moved"),
    "moved out of the root": lambda place: os.rename(place.root / "folder", place.base / "moved"),
    "moved with its parent": lambda place: os.rename(place.root / "parent", place.root / "moved"),
    "replaced by a directory": lambda place: _replace(place, lambda: (place.root / "folder").mkdir()),
    "replaced by a file": lambda place: _replace(place, lambda: (place.root / "folder").touch()),
    "replaced by a link that leaves": lambda place: _replace(
        place, lambda: (place.root / "folder").symlink_to("../moved")
    ),
}

ACTS: dict[str, Callable[[LocalBackend, str], None]] = {
    "rename out": lambda backend, name: backend.rename(path(f"{name}/old"), path("new"), overwrite=True),
    "rename in": lambda backend, name: backend.rename(path("other"), path(f"{name}/new"), overwrite=True),
    "remove": lambda backend, name: backend.remove(path(f"{name}/old")),
}


def _replace(place: Place, put_there: Callable[[], object]) -> None:
    os.rename(place.root / "folder", place.base / "moved")
    put_there()


class MovedParentTests:
    @pytest.fixture(params=DEPARTURES)
    def folder(
        self, place: Place, backend: LocalBackend, request: pytest.FixtureRequest
    ) -> tuple[str, Callable[[], None]]:
        """The path of a directory with a file in it, and what takes it away."""
        name = "parent/folder" if request.param == "moved with its parent" else "folder"
        if name != "folder":
            make(backend, "parent")
        make(backend, name)
        put(backend, f"{name}/old", b"old")
        return name, lambda: DEPARTURES[request.param](place)

    def test_an_upload_into_it_is_not_found(
        self, place: Place, backend: LocalBackend, folder: tuple[str, Callable[[], None]]
    ) -> None:
        """Neither a new file nor a new content arrives where the client has not put it, or has no right to."""
        name, leave = folder
        with backend.open_write(path(f"{name}/new")) as new, backend.open_write(path(f"{name}/old")) as old:
            leave()
            for writer in (new, old):
                writer.write(b"new")
                with pytest.raises((NotFound, NotADirectory)):
                    writer.commit()
        files = [found for found in place.base.rglob("*") if found.is_file() and found.name in ("old", "new")]
        assert [(file.name, file.read_bytes()) for file in files] == [("old", b"old")]

    @pytest.mark.parametrize("act", ACTS)
    def test_a_name_in_it_stays_as_it_is(
        self,
        place: Place,
        backend: LocalBackend,
        monkeypatch: pytest.MonkeyPatch,
        folder: tuple[str, Callable[[], None]],
        act: str,
    ) -> None:
        """It leaves while the change waits for the lock on it."""
        name, leave = folder
        put(backend, "other", b"other")

        @contextlib.contextmanager
        def leave_first(*directories: int) -> Iterator[None]:
            with exclusively(*directories):
                leave()
                yield

        monkeypatch.setattr(local_tree, "exclusively", leave_first)
        with pytest.raises((NotFound, NotADirectory)):
            ACTS[act](backend, name)
        monkeypatch.undo()
        assert get(backend, "other") == b"other"
        assert sorted(found.name for found in place.base.rglob("*") if found.name in ("old", "new")) == ["old"]

    def test_an_upload_arrives_where_its_directory_is_again(self, place: Place, backend: LocalBackend) -> None:
        """What counts is where it lies when the file gets its name."""
        make(backend, "folder")
        with backend.open_write(path("folder/file")) as writer:
            backend.rename(path("folder"), path("moved"), overwrite=False)
            writer.write(b"content")
            backend.rename(path("moved"), path("folder"), overwrite=False)
            writer.commit()
        assert get(backend, "folder/file") == b"content"
