"""What a service that is not root needs for each mode of ownership; README, "Whose files", names the same."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from two_users import ALICE, BOB, LAB, belongs_to, homes, mapped, owner, permissions, require_root

from backends import credentials, temporaries
from backends.credentials import CAPABILITIES, Credentials
from backends.errors import NothingParked, OutOfSpace, PermissionDenied
from backends.interface import Parked
from backends.linux import Abilities
from backends.local import LocalBackend
from backends.mapped import MappedBackend
from backends.ownership import NewFiles, Owner

from .conformance.actions import get, make, path, put

SERVICE = 70_900  # its uid and gid
_PR_SET_KEEPCAPS = 8  # linux/prctl.h


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account can reach, with a tree for two users and a directory for journals."""
    require_root()
    directory = Path(tempfile.mkdtemp(prefix="ocm-ownership-"))
    directory.chmod(0o755)
    for name in ("root", "journals"):
        (directory / name).mkdir()
    homes(directory / "root")
    os.chown(directory / "journals", SERVICE, SERVICE)
    yield directory
    shutil.rmtree(directory)


def become(capabilities: tuple[str, ...]) -> None:
    """Make this process the service's, with these capabilities alone: User= and AmbientCapabilities= in a unit."""
    ctypes.CDLL(None).prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(SERVICE, SERVICE, SERVICE)
    os.setresuid(SERVICE, SERVICE, SERVICE)
    numbers, sets = credentials._numbers(), credentials._Sets()
    sets.effective_low = sets.permitted_low = sum(CAPABILITIES[name] for name in capabilities)
    header = credentials._Header(credentials._VERSION_3, 0)
    credentials._call(numbers.capset, ctypes.byref(header), ctypes.byref(sets))
    assert Credentials.of_thread() == Credentials(SERVICE, SERVICE, (), sets.effective_low)


def as_the_service(capabilities: tuple[str, ...], work: Callable[[], None]) -> None:
    """Run `work` in a process of its own; fails as it does."""
    told, telling = os.pipe()
    child = os.fork()
    if not child:
        try:
            become(capabilities)
            work()
            os._exit(0)
        except BaseException:
            os.write(telling, traceback.format_exc().encode()[-4000:])
            os._exit(1)
    os.close(telling)
    with open(told, "rb") as report:
        text = report.read().decode()
    assert os.waitpid(child, 0)[1] == 0, text


def serve_own(place: Path, **settings: Any) -> LocalBackend:
    return LocalBackend(place / "root", place / "journals", is_kept=lambda token: True, **settings)


def park(backend: LocalBackend, where: str) -> Parked:
    with backend.open_write(path(where), size=8) as writer:
        writer.write(b"half")
        return writer.park(lambda parked: None)


def without(name: str, capabilities: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(other for other in capabilities if other != name)


def test_two_capabilities_let_users_work_and_give_them_nothing(place: Path) -> None:
    def work() -> None:
        backend = mapped(place / "root", place / "journals", as_root=False)
        alice, bob = backend.acting_as("alice"), backend.acting_as("bob")
        put(bob, "bob/secret", b"x")
        put(alice, "lab/file", b"old")
        put(alice, "lab/file", b"new")
        make(bob, "lab/folder")
        assert get(bob, "lab/file") == b"new"
        for forbidden in ("bob/secret", "bob"):
            with pytest.raises(PermissionDenied):
                alice.scan(path(forbidden))
        with pytest.raises(PermissionDenied):
            backend.service.scan(path("bob"))  # so the service is not more than it has to be either
        backend.close()

    as_the_service(("CAP_SETUID", "CAP_SETGID"), work)
    assert owner(place / "root/bob/secret") == belongs_to(BOB)
    assert owner(place / "root/lab/file") == (ALICE.uid, LAB)


def test_with_a_third_that_opens_every_file_users_still_have_only_their_own_rights(place: Path) -> None:
    """CAP_DAC_OVERRIDE is for the sweep; no setfsuid(2) takes it out of effect, as the service's uid is not 0."""
    orphan = place / "root/bob" / temporaries.new_name().decode()
    orphan.write_bytes(b"half a file")
    os.chown(orphan, *belongs_to(BOB))
    orphan.chmod(0o600)

    def work() -> None:
        backend = mapped(place / "root", place / "journals", as_root=False)
        with pytest.raises(PermissionDenied):
            backend.acting_as("alice").scan(path("bob"))
        dead = LocalBackend(place / "root", place / "journals")
        dead._journal.enter(path("bob"))
        assert dead._journal._file is not None
        dead._journal._file.close()  # as the end of its process would
        assert backend.service.sweep() == 1
        backend.close()

    as_the_service(("CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE"), work)
    assert not orphan.exists()


@pytest.mark.parametrize("missing", ["CAP_SETUID", "CAP_SETGID"])
def test_without_one_of_the_two_nothing_is_done(place: Path, missing: str) -> None:
    def work() -> None:
        backend = mapped(place / "root", place / "journals", as_root=False)
        try:
            put(backend.acting_as("alice"), "alice/file", b"x")
        except Exception as error:
            assert type(error).__name__ == "Unavailable", error  # noqa: PT017 -- in a process without pytest
            return
        raise AssertionError("it was written")

    as_the_service(without(missing, MappedBackend.NEEDED), work)
    assert not (place / "root/alice/file").exists()


# --- the others of map: what a crash has left -----------------------------------------------------------------------


def settle(place: Path) -> Callable[[], None]:
    """Return what puts back, as the service, a folder of bob's that was set aside in his home and in a sticky one."""
    for parent, mode in (("bob", 0o700), ("sticky", 0o1777)):
        (place / "root" / parent).mkdir(exist_ok=True)
        (place / "root" / parent).chmod(mode)
        (place / "root" / parent / "aside").mkdir(mode=0o700)
        os.chown(place / "root" / parent / "aside", *belongs_to(BOB))

    def work() -> None:
        service = mapped(place / "root", place / "journals", as_root=False).service
        for parent in ("bob", "sticky"):
            service.rename(path(f"{parent}/aside"), path(f"{parent}/back"), overwrite=False)
        service.close()

    return work


def test_what_a_crash_has_left_of_users_is_put_in_order(place: Path) -> None:
    as_the_service(MappedBackend.NEEDED, settle(place))


@pytest.mark.parametrize("missing", ["CAP_DAC_OVERRIDE", "CAP_FOWNER"])
def test_without_one_of_the_others_it_is_not(place: Path, missing: str) -> None:
    work = settle(place)
    with pytest.raises(AssertionError, match="PermissionDenied"):
        as_the_service(without(missing, MappedBackend.NEEDED), work)


# --- those of fixed -------------------------------------------------------------------------------------------------

GIVEN = NewFiles(owner=Owner(ALICE.uid, LAB), umask=0o007)


def work_for_a_fixed_account(place: Path) -> Callable[[], None]:
    """Return what makes, replaces, goes on with, copies, moves and removes, in a root of hers that hands on a group."""
    root = place / "root"
    os.chown(root, ALICE.uid, LAB)
    root.chmod(0o2750)

    def work() -> None:
        os.umask(0o027)
        backend = serve_own(place, new_files=GIVEN)
        make(backend, "folder", "folder/inner")
        assert permissions(root / "folder/inner") == 0o2770
        for content in (b"old", b"new"):
            put(backend, "folder/inner/file", content)
        assert backend.set_modified(path("folder/inner/file"), 1).modified == 1
        (root / "folder/inner/file").chmod(0o444)
        parked = park(backend, "folder/inner/file")
        with backend.open_write(path("folder/inner/file"), size=8, resume=parked) as writer:
            writer.write(b"+end")
            writer.commit()
        backend.discard(path("folder/other"), park(backend, "folder/other").token)
        assert get(backend, "folder/inner/file") == b"half+end"
        backend.copy(path("folder/inner/file"), path("folder/copy"), overwrite=False)
        backend.rename(path("folder/copy"), path("folder/moved"), overwrite=False)
        for name in ("folder/inner/file", "folder/inner"):
            backend.remove(path(name))
        put(backend, "folder/file", b"x")
        backend.close()

    return work


def test_a_service_with_these_works_with_what_it_gives_to_a_fixed_account(place: Path) -> None:
    as_the_service(GIVEN.needed(), work_for_a_fixed_account(place))
    given = {found.relative_to(place / "root"): permissions(found) for found in (place / "root/folder").rglob("*")}
    assert given == {Path("folder/moved"): 0o660, Path("folder/file"): 0o660}
    assert {owner(found) for found in (place / "root/folder").rglob("*")} == {(ALICE.uid, LAB)}


@pytest.mark.parametrize("missing", GIVEN.needed())
def test_without_one_of_these_it_does_not(place: Path, missing: str) -> None:
    work = work_for_a_fixed_account(place)
    with pytest.raises(AssertionError, match="permissions" if missing == "CAP_FSETID" else "PermissionDenied"):
        as_the_service(without(missing, GIVEN.needed()), work)


# --- without any --------------------------------------------------------------------------------------------------


def fail(_number: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("mode", [0o444, 0o000, 0o640])
@pytest.mark.parametrize("abilities", [Abilities(), Abilities(unnamed_files=False)], ids=["unnamed", "named"])
def test_an_upload_that_replaces_a_closed_file_is_gone_on_with(place: Path, mode: int, abilities: Abilities) -> None:
    """What is parked resembles the old file, but for what keeps the service itself out; in the end all of it does."""
    os.chown(place / "root", SERVICE, SERVICE)

    def work() -> None:
        backend = serve_own(place, abilities=abilities)
        put(backend, "file", b"old")
        (place / "root/file").chmod(mode)
        parked = park(backend, "file")
        (hidden,) = (place / "root").glob(".ocm-gateway-*")
        assert permissions(hidden) == mode | 0o600
        with backend.open_write(path("file"), size=8, resume=parked) as writer, pytest.MonkeyPatch.context() as patch:
            writer.write(b"+end")
            patch.setattr(os, "fsync", fail)
            with pytest.raises(OutOfSpace):
                writer.commit()
        with backend.open_write(path("file"), size=8, resume=parked) as writer:
            writer.write(b"+end")
            writer.commit()
        backend.close()

    as_the_service((), work)
    assert (place / "root/file").read_bytes() == b"half+end"
    assert permissions(place / "root/file") == mode


def test_what_a_crash_has_left_closed_is_begun_anew(place: Path) -> None:
    """Between the permissions of the old file and its name; root alone could open it."""
    os.chown(place / "root", SERVICE, SERVICE)

    def work() -> None:
        backend = serve_own(place)
        parked = park(backend, "file")
        (hidden,) = (place / "root").glob(".ocm-gateway-*")
        hidden.chmod(0o444)
        with pytest.raises(NothingParked):
            backend.open_write(path("file"), size=8, resume=parked)
        backend.discard(path("file"), parked.token)
        backend.close()

    as_the_service((), work)
    assert not list((place / "root").glob(".ocm-gateway-*"))
