"""What leads out of the root, and what is neither a file nor a directory, does not exist."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.errors import AlreadyExists, NotADirectory, NotFound, PermissionDenied, StorageError
from backends.local import LocalBackend
from backends.paths import StoragePath

from ..conformance.actions import get, make, names, path, put
from .place import Place


def _fifo(place: Place, name: Path) -> None:
    os.mkfifo(name)


def _socket(place: Place, name: Path) -> None:
    """The address of a socket has at most 107 bytes, fewer than some temporary directories: go by a descriptor."""
    directory = os.open(name.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{directory}/{name.name}")
    os.close(directory)


def _link(*to: str) -> Callable[[Place, Path], None]:
    return lambda place, name: name.symlink_to("/".join(to).format(root=place.root, outside=place.outside))


# name -> how it is planted; each must be invisible in every way there is
INVISIBLE: dict[str, Callable[[Place, Path], None]] = {
    "a link to a file outside": _link("../../outside/secret"),
    "an absolute link to a file outside": _link("{outside}/secret"),
    "a link to a directory outside": _link("../../outside/folder"),
    "an absolute link to a directory outside": _link("{outside}/folder"),
    "an absolute link to a file inside": _link("{root}/folder/file"),
    "an absolute link to a directory inside": _link("{root}/folder"),
    "a link that leaves and comes back": _link("../../root/folder/file"),
    "a link to the parent of the root": _link("../.."),
    "a link to the root of the machine": _link("/"),
    "a link to itself": _link("a link to itself"),
    "a link to nothing": _link("nothing"),
    "a link to a link that leaves": _link("leaving"),
    "a link to a magic link": _link("/proc/self/cwd"),
    "a link to a FIFO": _link("fifo"),
    "a link through a file": _link("file/below"),
    "a FIFO": _fifo,
    "a socket": _socket,
}


QUESTIONS: dict[str, Callable[[LocalBackend, StoragePath], object]] = {
    "stat": LocalBackend.stat,
    "scan": LocalBackend.scan,
    "open_read": LocalBackend.open_read,
    "remove": LocalBackend.remove,
    "set_modified": lambda backend, where: backend.set_modified(where, 0),
    "copy": lambda backend, where: backend.copy(where, path("new"), overwrite=True),
    "rename": lambda backend, where: backend.rename(where, path("new"), overwrite=True),
}


def _answer(ask: Callable[[LocalBackend, StoragePath], object], backend: LocalBackend, where: StoragePath) -> object:
    try:
        return ask(backend, where)
    except StorageError as error:
        return type(error).__name__


class ConfinementTests:
    @pytest.fixture(params=INVISIBLE)
    def invisible(self, place: Place, backend: LocalBackend, request: pytest.FixtureRequest) -> Iterator[StoragePath]:
        """Plant one of them in `folder`, beside a file; afterwards it is as it was, and so is everything outside."""
        make(backend, "folder")
        put(backend, "folder/file", b"visible")
        folder = place.root / "folder"
        (folder / "leaving").symlink_to(place.outside / "secret")
        os.mkfifo(folder / "fifo")
        INVISIBLE[request.param](place, folder / request.param)
        before = os.lstat(folder / request.param)
        yield path(f"folder/{request.param}")
        assert os.path.samestat(before, os.lstat(folder / request.param))
        assert place.outside_is_untouched()

    def test_it_is_not_listed(self, backend: LocalBackend, invisible: StoragePath) -> None:
        assert names(backend, "folder") == [b"file"]

    def test_it_is_not_found(self, backend: LocalBackend, invisible: StoragePath) -> None:
        """Neither it nor anything below it, whatever is asked."""
        for below in ("", "secret", "file", "etc/passwd", "nothing"):
            where = invisible.join(path(below).parts)
            answers = {question: _answer(ask, backend, where) for question, ask in QUESTIONS.items()}
            assert answers == dict.fromkeys(QUESTIONS, "NotFound"), below
        assert names(backend) == [b"folder"]

    def test_it_is_not_found_without_waiting_either(self, backend: LocalBackend, invisible: StoragePath) -> None:
        for where in (invisible, invisible.child(b"secret")):
            try:
                assert backend.try_open_read(where) is None
            except NotFound:
                continue

    def test_its_name_is_taken(self, backend: LocalBackend, invisible: StoragePath) -> None:
        """Nothing is created there and nothing invisible is replaced."""
        put(backend, "other", b"other")
        make(backend, "empty")
        for act, error in (
            (lambda: backend.open_write(invisible), PermissionDenied),
            (lambda: backend.make_directory(invisible), AlreadyExists),
            (lambda: backend.rename(path("other"), invisible, overwrite=False), AlreadyExists),
            (lambda: backend.rename(path("other"), invisible, overwrite=True), PermissionDenied),
            (lambda: backend.rename(path("empty"), invisible, overwrite=True), PermissionDenied),
            (lambda: backend.copy(path("other"), invisible, overwrite=True), PermissionDenied),
        ):
            with pytest.raises(error):
                act()
        assert get(backend, "other") == b"other"

    def test_nothing_is_created_below_it(self, backend: LocalBackend, invisible: StoragePath) -> None:
        put(backend, "other", b"other")
        below = invisible.child(b"new")
        for act in (
            lambda: backend.open_write(below),
            lambda: backend.make_directory(below),
            lambda: backend.rename(path("other"), below, overwrite=True),
            lambda: backend.copy(path("other"), below, overwrite=True),
        ):
            with pytest.raises((NotFound, NotADirectory)):
                act()

    def test_a_name_that_becomes_invisible_while_it_is_written_is_kept(
        self, place: Place, backend: LocalBackend
    ) -> None:
        with backend.open_write(path("name")) as writer:
            writer.write(b"new")
            (place.root / "name").symlink_to(place.outside / "secret")
            with pytest.raises(PermissionDenied):
                writer.commit()
        assert (place.root / "name").is_symlink()
        assert place.outside_is_untouched()

    def test_a_fifo_is_not_opened(self, place: Place, backend: LocalBackend) -> None:
        """Else a program that waits there to write would go on, and what it writes would be lost."""
        put(backend, "other", b"other")
        os.mkfifo(place.root / "fifo")
        begun, released = threading.Event(), threading.Event()

        def wait_to_write() -> None:
            begun.set()
            os.close(os.open(place.root / "fifo", os.O_WRONLY))
            released.set()

        writer = threading.Thread(target=wait_to_write)
        writer.start()
        begun.wait()
        time.sleep(0.02)  # until it waits in open(2)
        for ask in (*QUESTIONS.values(), LocalBackend.try_open_read, LocalBackend.open_write):
            _answer(ask, backend, path("fifo"))
            _answer(lambda to, where: to.rename(path("other"), where, overwrite=True), backend, path("fifo"))
        went_on = released.wait(0.05)
        os.close(os.open(place.root / "fifo", os.O_RDONLY | os.O_NONBLOCK))
        writer.join()
        assert not went_on

    def test_devices_do_not_exist(self, place: Place) -> None:
        backend = LocalBackend("/dev", place.journals, abilities=place.abilities)
        for ask in (backend.stat, backend.open_read, backend.open_write):
            with pytest.raises((NotFound, PermissionDenied)):
                ask(path("null"))
        assert b"null" not in names(backend)

    def test_magic_links_do_not_exist(self, place: Place) -> None:
        """The links of /proc lead past every check of names: `cwd` and `fd/N` are not even paths."""
        backend = LocalBackend("/proc/self", place.journals, abilities=place.abilities)
        with open(place.outside / "secret", "rb") as secret:
            for where in ("cwd", "root", "exe", "cwd/outside", "root/etc/passwd", f"fd/{secret.fileno()}"):
                for ask in (backend.stat, backend.open_read, backend.scan):
                    with pytest.raises(NotFound):
                        ask(path(where))
            assert {b"cwd", b"root", b"exe"}.isdisjoint(names(backend))
            assert names(backend, "fd") == []

    @pytest.mark.parametrize("name", [b"a\\", b"\\a", b"..\\a", b"a\\..\\b", b"\\"])
    def test_a_name_that_nobody_could_ask_for_is_not_listed(
        self, place: Place, backend: LocalBackend, name: bytes
    ) -> None:
        (place.root / os.fsdecode(name)).touch()
        put(backend, "file")
        assert names(backend) == [b"file"]
