"""Whose new files are, and with which permissions, where the service itself makes them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from two_users import owner, permissions, require_root

from backends.errors import AlreadyExists, PermissionDenied, StorageError
from backends.linux import Abilities
from backends.local import LocalBackend
from backends.ownership import NewFiles, Owner

from .conformance.actions import get, make, path, put

GIVEN = Owner(70_010, 70_011)
ABILITIES = {"modern": Abilities(), "old": Abilities(openat2=False, unnamed_files=False, rename_noreplace=False)}

Open = Callable[[NewFiles], LocalBackend]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture(params=ABILITIES.values(), ids=ABILITIES)
def serve(root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Open]:
    opened: list[LocalBackend] = []

    def serve(new_files: NewFiles) -> LocalBackend:
        opened.append(LocalBackend(root, tmp_path / "journals", abilities=request.param, new_files=new_files))
        return opened[-1]

    yield serve
    for backend in opened:
        backend.close()
    assert not list(root.rglob(".ocm-gateway-*"))


@pytest.fixture
def process_umask() -> Iterator[int]:
    """A umask of the process that is neither the usual one nor any that is configured here."""
    before = os.umask(0o037)
    yield 0o037
    os.umask(before)


# --- permissions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("umask", "file", "folder"),
    [(0o000, 0o666, 0o777), (0o007, 0o660, 0o770), (0o002, 0o664, 0o775), (0o022, 0o644, 0o755), (0o077, 0o600, 0o700)],
)
def test_the_umask_of_a_backend_is_its_own(
    serve: Open, root: Path, process_umask: int, umask: int, file: int, folder: int
) -> None:
    """It withholds less or more than that of the process, which stays as it is."""
    backend = serve(NewFiles(umask=umask))
    entry = put(backend, "file", b"x")
    make(backend, "folder")
    backend.copy(path("file"), path("folder/copy"), overwrite=False)
    assert (permissions(root / "file"), entry.mode) == (file, file)
    assert permissions(root / "folder") == backend.stat(path("folder")).mode == folder
    assert permissions(root / "folder/copy") == file
    now = os.umask(process_umask)
    assert now == process_umask


def test_without_a_umask_that_of_the_process_holds(serve: Open, root: Path, process_umask: int) -> None:
    backend = serve(NewFiles())
    put(backend, "file", b"x")
    make(backend, "folder")
    assert (permissions(root / "file"), permissions(root / "folder")) == (0o640, 0o740)


def test_a_file_is_never_more_open_than_at_its_end(serve: Open, root: Path) -> None:
    """Where its temporary has a name, others see it while it is written."""
    backend = serve(NewFiles(umask=0o077))
    with backend.open_write(path("file")) as writer:
        writer.write(b"x")
        assert {permissions(found) for found in root.iterdir()} <= {0o600}
        writer.commit()


def test_a_replaced_file_keeps_its_permissions(serve: Open, root: Path) -> None:
    backend = serve(NewFiles(umask=0o077))
    put(backend, "file", b"old")
    (root / "file").chmod(0o646)
    put(backend, "file", b"new")
    assert permissions(root / "file") == 0o646


def test_a_default_acl_goes_before_the_umask(serve: Open, root: Path) -> None:
    """As for every program: the kernel does not ask for the umask where there is one (acl(5), umask(2))."""
    subprocess.run(["setfacl", "-m", "d:u::rwx,d:u:70020:rwx,d:g::---,d:o::---", root], check=True)
    backend = serve(NewFiles(umask=0o022))
    put(backend, "file", b"x")
    make(backend, "folder")
    put(backend, "folder/inner", b"x")
    for name, mode in (("file", 0o660), ("folder", 0o770), ("folder/inner", 0o660)):
        assert permissions(root / name) == mode
        shown = subprocess.run(["getfacl", "-cpn", root / name], check=True, capture_output=True, text=True).stdout
        assert "user:70020:rwx" in shown, name
        assert "group::---" in shown, name


def test_a_setgid_folder_stays_one_below(serve: Open, root: Path) -> None:
    """The bit survives a change of mode (chmod(2) would take it)."""
    root.chmod(0o2775)
    backend = serve(NewFiles(umask=0o007))
    make(backend, "folder", "folder/inner")
    assert permissions(root / "folder/inner") == 0o2770


# --- one account for all --------------------------------------------------------------------------------------------


def test_what_is_new_is_given_to_the_fixed_account(serve: Open, root: Path) -> None:
    require_root()
    backend = serve(NewFiles(owner=GIVEN, umask=0o027))
    entry = put(backend, "file", b"x")
    make(backend, "folder", "folder/inner")
    backend.copy(path("file"), path("folder/copy"), overwrite=False)
    for name in ("file", "folder", "folder/inner", "folder/copy"):
        assert owner(root / name) == (GIVEN.uid, GIVEN.gid), name
    assert entry.owner == (GIVEN.uid, GIVEN.gid)
    assert entry == backend.stat(path("file"))
    assert permissions(root / "folder") == 0o750


def test_a_setgid_folder_gives_its_own_group(serve: Open, root: Path) -> None:
    """As it would if the account itself made the file: what is said of one folder goes before what is said of all."""
    require_root()
    os.chown(root, 0, 70_030)
    root.chmod(0o2777)
    backend = serve(NewFiles(owner=GIVEN))
    put(backend, "file", b"x")
    make(backend, "folder")
    assert owner(root / "file") == owner(root / "folder") == (GIVEN.uid, 70_030)
    assert permissions(root / "folder") & 0o2000


def test_a_replaced_file_keeps_its_owner(serve: Open, root: Path) -> None:
    require_root()
    backend = serve(NewFiles(owner=GIVEN))
    (root / "file").write_bytes(b"old")
    os.chown(root / "file", 70_040, 70_041)
    put(backend, "file", b"new")
    assert (owner(root / "file"), get(backend, "file")) == ((70_040, 70_041), b"new")


def test_what_existed_keeps_its_owner(serve: Open, root: Path) -> None:
    require_root()
    backend = serve(NewFiles(owner=GIVEN, umask=0o027))
    for name in ("file", "moved"):
        (root / name).write_bytes(b"x")
    for name in ("folder", "other"):
        (root / name).mkdir()
    make_attempts = ("file", "folder")
    before = {found.name: (owner(found), permissions(found), found.stat().st_ino) for found in root.iterdir()}
    put(backend, "folder/new", b"x")
    for name in make_attempts:
        with pytest.raises(AlreadyExists):
            backend.make_directory(path(name))
    backend.rename(path("moved"), path("renamed"), overwrite=False)
    backend.set_modified(path("file"), 0)
    before["renamed"] = before.pop("moved")
    after = {found.name: (owner(found), permissions(found), found.stat().st_ino) for found in root.iterdir()}
    assert after == before


@pytest.mark.parametrize("full", [True, False])
def test_a_folder_that_another_program_has_put_there_meanwhile_is_not_given_away(
    serve: Open, root: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """Between mkdir(2) and the open that follows it."""
    require_root()
    victim = root / "victim"
    victim.mkdir()
    if full:
        (victim / "file").write_bytes(b"x")
    else:
        os.chown(victim, 70_050, 70_050)
    had = owner(victim)
    backend = serve(NewFiles(owner=GIVEN))
    mkdir = os.mkdir

    def swapped(name: bytes, mode: int, *, dir_fd: int) -> None:
        mkdir(name, mode, dir_fd=dir_fd)
        (root / "new").rmdir()
        victim.rename(root / "new")

    monkeypatch.setattr(os, "mkdir", swapped)
    with pytest.raises(AlreadyExists):
        backend.make_directory(path("new"))
    monkeypatch.undo()
    assert owner(root / "new") == had


def test_a_storage_that_gives_nothing_away_takes_nothing(
    serve: Open, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an NFS server does that squashes root: better no file than one of another owner."""
    backend = serve(NewFiles(owner=GIVEN))

    def refuse(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    for attempt in (lambda: put(backend, "file", b"x"), lambda: make(backend, "folder")):
        with pytest.raises(PermissionDenied, match="give a new file to 70010:70011"):
            attempt()
    assert list(root.iterdir()) == []


def test_a_folder_that_cannot_be_finished_is_not_left(serve: Open, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = serve(NewFiles(umask=0o077))

    def fail(descriptor: int, mode: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fchmod", fail)
    before = os.umask(0o777)
    try:
        with pytest.raises(StorageError):
            backend.make_directory(path("folder"))
    finally:
        os.umask(before)
    assert list(root.iterdir()) == []
