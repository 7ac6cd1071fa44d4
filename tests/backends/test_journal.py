"""The journal by itself: what one process notes, the next one finds, unless both live."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backends.errors import Unavailable
from backends.journal import Journal
from backends.paths import StoragePath

A, B, ODD = StoragePath((b"a",)), StoragePath((b"b", b"c")), StoragePath((b"\xff\n ", b"..."))


def found(directory: Path, backend: str = "nas") -> list[list[StoragePath]]:
    """Read the journals of the dead as a new process would."""
    return [sorted(paths) for paths in Journal(directory, backend).left_by_the_dead()]


def abandon(journal: Journal) -> None:
    """End as SIGKILL ends a process: the lock goes, the file stays."""
    assert journal._file is not None
    journal._file.close()


def test_what_was_noted_is_found_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "nas")
    for path in (A, ODD, StoragePath(), A, B):
        journal.enter(path)
    assert found(tmp_path) == []  # its process lives
    abandon(journal)
    assert found(tmp_path) == [sorted([A, ODD, StoragePath(), B])]
    assert found(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_fails_leaves_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "nas")
    journal.enter(A)
    abandon(journal)
    for _ in Journal(tmp_path, "nas").left_by_the_dead():
        break
    assert found(tmp_path) == [[A]]


def test_each_process_has_its_own(tmp_path: Path) -> None:
    one, other, foreign = Journal(tmp_path, "nas"), Journal(tmp_path, "nas"), Journal(tmp_path, "nas.x")
    one.enter(A)
    other.enter(B)
    foreign.enter(ODD)
    abandon(one)
    abandon(foreign)
    assert found(tmp_path) == [[A]]
    assert found(tmp_path, "nas.x") == [[ODD]]
    abandon(other)
    assert found(tmp_path) == [[B]]


def test_a_full_journal_begins_anew_with_what_is_still_held(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "nas", limit=3)
    journal.enter(A)
    for number in range(10):
        path = StoragePath((str(number).encode(),))
        journal.enter(path)
        journal.leave(path)
    assert len(list(tmp_path.iterdir())) == 1
    abandon(journal)
    (paths,) = found(tmp_path)
    assert A in paths
    assert len(paths) <= 3


def test_a_directory_held_twice_is_held_until_both_leave(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "nas", limit=1)
    journal.enter(A)
    journal.enter(A)
    journal.leave(A)
    journal.enter(B)  # begins anew
    abandon(journal)
    assert found(tmp_path) == [[A, B]]


def test_closing_deletes_it_unless_a_temporary_may_be_left(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "nas")
    journal.close()
    journal.enter(A)
    journal.close()
    assert len(list(tmp_path.iterdir())) == 1
    journal.leave(A)
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_a_name_with_a_slash_stays_in_the_directory(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journals", "../nas")
    journal.enter(A)
    assert [found.name for found in tmp_path.iterdir()] == ["journals"]
    abandon(journal)
    assert found(tmp_path / "journals", "../nas") == [[A]]


def test_a_journal_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="the journal in"):
        Journal(tmp_path / "file", "nas").enter(A)


def test_a_record_is_durable_when_enter_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one with the name of its file; one that is known already costs nothing."""
    fsync, synced = os.fsync, []

    def record(descriptor: int) -> None:
        synced.append(os.path.samestat(os.fstat(descriptor), tmp_path.stat()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    journal = Journal(tmp_path, "nas")
    for path in (A, B, A, B):
        journal.enter(path)
    assert synced == [False, True, False]  # file, directory, file


def test_a_torn_record_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk tears one; the directory is not noted, and the next record is whole."""
    journal = Journal(tmp_path, "nas")
    journal.enter(A)
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:2]))
        with pytest.raises(Unavailable):
            journal.enter(B)
    journal.enter(ODD)
    journal.enter(B)
    abandon(journal)
    (paths,) = found(tmp_path)
    assert {A, B, ODD} <= set(paths)
    assert len(paths) == 4  # and a part of B that leads nowhere
