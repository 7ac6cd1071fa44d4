"""What the kernel can do is found out at the start, and what it cannot do is done without."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from backends import linux
from backends.beneath import ComponentWalk, KernelConfinement, confinement
from backends.errors import Unavailable
from backends.linux import Abilities, Descriptor
from backends.local import LocalBackend
from backends.paths import StoragePath

from .conformance.actions import get, put


def failing(number: int) -> object:
    def fail(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


def test_what_is_found_works(tmp_path: Path) -> None:
    """The verdicts are compared with attempts on a real directory."""
    root = os.open(tmp_path, os.O_PATH)

    def works(call: Callable[[], object]) -> bool:
        try:
            call()
        except OSError:
            return False
        return True

    found = Abilities.detect()
    with Descriptor(root):
        opens = works(lambda: os.close(linux.openat2(root, b".", os.O_PATH, linux.RESOLVE_BENEATH)))
        asks = works(lambda: linux.access_in_effect(root, os.W_OK))
    assert (found.openat2, found.access_in_effect) == (opens, asks)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_without_openat2_the_walk_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """An older kernel, or one whose sandbox forbids the call."""
    monkeypatch.setattr(linux, "openat2", failing(number))
    abilities = Abilities.detect()
    assert isinstance(confinement(abilities), ComponentWalk)
    (tmp_path / "root").mkdir()
    backend = LocalBackend(tmp_path / "root", tmp_path / "journals")
    put(backend, "file", b"content")
    assert get(backend, "file") == b"content"
    backend.close()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_without_faccessat2_an_open_tells_who_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(linux, "access_in_effect", failing(number))
    abilities = Abilities.detect()
    assert not abilities.access_in_effect
    (tmp_path / "file").touch()
    backend = LocalBackend(tmp_path, tmp_path / "journals", abilities=abilities)
    for where in ("file", ""):
        backend.require_writable(StoragePath.parse(where))
    backend.close()


def test_a_tree_in_motion_is_tried_again_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """openat2 gives up with EAGAIN while something is renamed; so do we after some turns."""
    openat2, turns = linux.openat2, [0]

    def busy(*arguments: object) -> int:
        turns[0] += 1
        if turns[0] % 10:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return openat2(*arguments)

    root = os.open(tmp_path, os.O_PATH)
    monkeypatch.setattr(linux, "openat2", busy)
    os.close(KernelConfinement().open(root, StoragePath(), os.O_PATH))
    monkeypatch.setattr(linux, "openat2", failing(errno.EAGAIN))
    with pytest.raises(BlockingIOError):
        KernelConfinement().open(root, StoragePath(), os.O_PATH)
    os.close(root)
    backend = LocalBackend(tmp_path, tmp_path / "journals", abilities=Abilities())
    with pytest.raises(Unavailable, match="EAGAIN"):
        backend.stat(StoragePath())
    backend.close()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EXDEV, errno.EINVAL])
def test_what_the_caches_do_not_know_is_left_to_a_thread(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Not cached, on another mount, or a kernel before 5.12."""
    monkeypatch.setattr(linux, "openat2", failing(number))
    assert KernelConfinement().try_open(3, StoragePath(), os.O_RDONLY) is None


def test_a_c_library_without_a_call_is_a_kernel_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """musl has no renameat2; a hint that cannot be given is no error."""
    monkeypatch.setattr(linux, "_renameat2", None)
    monkeypatch.setattr(linux, "_sync_file_range", None)
    with pytest.raises(OSError, match="not implemented"):
        linux.rename_noreplace(3, b"a", 3, b"b")
    linux.start_write_back(3)


def _open_at_a_quiet_number(path: Path) -> int:
    """Open with a number that no other thread of this process gets: they take the lowest free one."""
    low = os.open(path, os.O_RDONLY)
    number: int = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 500)
    os.close(low)
    return number


def test_a_descriptor_is_closed_once(tmp_path: Path) -> None:
    """Its number may mean another file a moment later."""
    number = _open_at_a_quiet_number(tmp_path)
    descriptor = Descriptor(number)
    descriptor.close()
    other = _open_at_a_quiet_number(tmp_path)
    assert other == number
    descriptor.close()
    del descriptor
    os.fstat(other)
    os.close(other)


def test_a_forgotten_descriptor_is_closed(tmp_path: Path) -> None:
    number = _open_at_a_quiet_number(tmp_path)
    descriptor = Descriptor(number)
    assert descriptor.fileno() == number
    del descriptor
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
