"""Every errno becomes an error of the contract, and those that say something about the request say the right thing."""

from __future__ import annotations

import errno
import os

import pytest

from backends import errors
from backends.errors import NotFound, StorageError, Unavailable
from backends.paths import StoragePath
from backends.system_errors import ERRORS, StorageErrors, translate

MEANINGS = {
    "NotFound": "ENOENT ELOOP ENXIO ENODEV",
    "AlreadyExists": "EEXIST",
    "NotADirectory": "ENOTDIR",
    "IsADirectory": "EISDIR",
    "DirectoryNotEmpty": "ENOTEMPTY",
    "PermissionDenied": "EACCES EPERM EROFS EBUSY",
    "InvalidPath": "ENAMETOOLONG EINVAL EILSEQ",
    "OutOfSpace": "ENOSPC EDQUOT EFBIG EMLINK",
    "Unsupported": "EXDEV EOPNOTSUPP ENOTSUP ENOSYS",
    "Unavailable": "EIO ESTALE ETIMEDOUT EHOSTDOWN EHOSTUNREACH ENETDOWN ENOTCONN ENOMEM EMFILE ENFILE EAGAIN EUCLEAN",
}


@pytest.mark.parametrize(
    ("name", "meaning"), [(name, meaning) for meaning, group in MEANINGS.items() for name in group.split()]
)
def test_an_errno_has_its_meaning(name: str, meaning: str) -> None:
    number = getattr(errno, name)
    with pytest.raises(StorageError) as raised, StorageErrors("a/file"):
        raise OSError(number, os.strerror(number))
    assert type(raised.value) is getattr(errors, meaning)
    assert os.strerror(number) in str(raised.value)


def test_the_table_holds_nothing_that_is_not_tested_here() -> None:
    tested = {getattr(errno, name) for group in MEANINGS.values() for name in group.split()}
    assert set(ERRORS) <= tested


@pytest.mark.parametrize("number", [*errno.errorcode, 0, None, 4095])
def test_every_errno_is_translated(number: int | None) -> None:
    """Whatever the table does not know is the storage's fault, and its name is in the log."""
    error = OSError() if number is None else OSError(number, "text of another library")
    translated = translate(error, StoragePath((b"a", b"b\n")))
    assert str(translated).startswith("a/b%0A: ")
    if number not in ERRORS:
        assert type(translated) is Unavailable
        assert errno.errorcode.get(number or 0, str(number or 0)) in str(translated)


def test_a_call_may_mean_something_else() -> None:
    with pytest.raises(NotFound), StorageErrors("x", {errno.ENOTDIR: NotFound}):
        raise NotADirectoryError(errno.ENOTDIR, "x")


def test_the_cause_is_kept_and_other_errors_pass() -> None:
    cause = OSError(errno.EIO, "disk")
    with pytest.raises(Unavailable) as raised, StorageErrors("x"):
        raise cause
    assert raised.value.__cause__ is cause
    with pytest.raises(ValueError, match="bug"), StorageErrors("x"):
        raise ValueError("bug")
