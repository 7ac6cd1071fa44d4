"""What a file that replaces another takes over from it: owner, group, permissions, ACL and user attributes."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from backends.local import LocalBackend

from ..conformance.actions import get, make, path, put
from .place import Place

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, MASK, OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
NOBODY = 0xFFFFFFFF  # the id of an entry that needs none


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Return entries (tag, permissions, id) as linux/posix_acl_xattr.h has them."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


# The mode shows 0660, its middle being the mask, though the group may do nothing
FOR_ONE_USER = acl(
    (USER_OBJ, 6, NOBODY), (USER, 6, 54_321), (GROUP_OBJ, 0, NOBODY), (MASK, 6, NOBODY), (OTHER, 0, NOBODY)
)


class ReplacedFileTests:
    @pytest.fixture
    def old(self, place: Place, backend: LocalBackend) -> Iterator[str]:
        put(backend, "file", b"old")
        yield os.fspath(place.root / "file")
        assert get(backend, "file") == b"new"

    def test_user_attributes_are_kept(self, backend: LocalBackend, old: str) -> None:
        os.setxattr(old, "user.comment", b"text \0 and more")
        os.setxattr(old, "user.empty", b"")
        put(backend, "file", b"new")
        assert {name: os.getxattr(old, name) for name in os.listxattr(old)} == {
            "user.comment": b"text \0 and more",
            "user.empty": b"",
        }

    def test_user_attributes_of_a_file_that_nobody_may_write_are_kept(
        self, backend: LocalBackend, old: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The kernel's rule for everybody but root: whoever may not write may not set them (xattr(7))."""
        os.setxattr(old, "user.comment", b"text")
        os.chmod(old, 0o444)
        setxattr = os.setxattr

        def set_as_the_owner(descriptor: int, name: str, value: bytes) -> None:
            if name.startswith("user.") and not os.fstat(descriptor).st_mode & stat.S_IWUSR:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            setxattr(descriptor, name, value)

        monkeypatch.setattr(os, "setxattr", set_as_the_owner)
        assert put(backend, "file", b"new").mode == 0o444
        assert os.getxattr(old, "user.comment") == b"text"

    def test_an_acl_is_kept(self, backend: LocalBackend, old: str) -> None:
        os.setxattr(old, ACCESS, FOR_ONE_USER)
        entry = put(backend, "file", b"new")
        assert (entry.mode, os.getxattr(old, ACCESS)) == (0o660, FOR_ONE_USER)

    def test_an_acl_that_cannot_be_kept_opens_the_file_to_nobody(
        self, backend: LocalBackend, old: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The mask must not become what the group may do."""
        os.setxattr(old, ACCESS, FOR_ONE_USER)

        def refuse(*arguments: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "setxattr", refuse)
        assert put(backend, "file", b"new").mode == 0o600

    def test_what_its_directory_gives_to_new_files_is_not_added(self, place: Place, backend: LocalBackend) -> None:
        make(backend, "folder")
        put(backend, "folder/file", b"old")
        os.setxattr(place.root / "folder", DEFAULT, FOR_ONE_USER)
        entry = put(backend, "folder/file", b"new")
        assert entry.mode == backend.stat(path("folder/file")).mode
        assert ACCESS not in os.listxattr(place.root / "folder" / "file")
        assert put(backend, "folder/new", b"new").mode == 0o660
        assert ACCESS in os.listxattr(place.root / "folder" / "new")

    def test_group_and_owner_are_asked_for(
        self, backend: LocalBackend, old: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each alone: an account that may not give files away may still know the group."""
        asked: list[tuple[int, int]] = []
        found = os.stat(old)

        def refuse(descriptor: int, owner: int, group: int) -> None:
            assert stat.S_ISREG(os.fstat(descriptor).st_mode)
            asked.append((owner, group))
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "fchown", refuse)
        put(backend, "file", b"new")
        assert sorted(asked) == [(-1, found.st_gid), (found.st_uid, -1)]

    def test_group_and_owner_are_kept_as_far_as_permitted(self, backend: LocalBackend, old: str) -> None:
        """Root may give to anybody, anybody else to the groups that he is in."""
        group = 54_322 if os.getuid() == 0 else (os.getgroups() or [os.getgid()])[-1]
        os.chown(old, 54_321 if os.getuid() == 0 else -1, group)
        os.chmod(old, 0o640)
        found = os.stat(old)
        entry = put(backend, "file", b"new")
        assert (entry.owner, entry.mode) == ((found.st_uid, found.st_gid), 0o640)

    def test_a_storage_without_attributes_keeps_the_mode(
        self, backend: LocalBackend, old: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*arguments: Any, **named: Any) -> None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

        os.chmod(old, 0o604)
        for name in ("listxattr", "getxattr", "setxattr", "removexattr"):
            monkeypatch.setattr(os, name, refuse)
        entry = put(backend, "file", b"new")
        monkeypatch.undo()
        assert entry.mode == 0o604

    def test_a_file_behind_a_link_lends_what_it_has(self, place: Place, backend: LocalBackend) -> None:
        """As its content is what the link shows; it stays itself as it was."""
        put(backend, "file", b"old")
        os.setxattr(place.root / "file", "user.comment", b"text")
        if self.abilities.openat2:  # else no link is there for anybody
            (place.root / "link").symlink_to("file")
            put(backend, "link", b"new")
            assert not (place.root / "link").is_symlink()
            assert os.getxattr(place.root / "link", "user.comment") == b"text"
        assert get(backend, "file") == b"old"
