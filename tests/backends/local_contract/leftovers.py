"""Temporaries are nobody's to see; those of the dead are swept, those of the living are not."""

from __future__ import annotations

import fcntl
import os
import time

import pytest

from backends import temporaries
from backends.errors import NotFound, PermissionDenied, Unavailable
from backends.linux import Abilities
from backends.local import LocalBackend

from ..conformance.actions import get, make, names, path, put
from .place import Place

DAY = 24 * 3600
ORPHAN = ".ocm-gateway-" + "0123456789abcdef" * 2


class LeftoverTests:
    @pytest.mark.parametrize("name", [".ocm-gateway-", ".ocm-gateway-x", ORPHAN])
    def test_the_names_of_temporaries_are_reserved(self, place: Place, backend: LocalBackend, name: str) -> None:
        (place.root / name).mkdir()
        (place.root / name / "file").write_bytes(b"x")
        put(backend, "file", b"x")
        make(backend, "empty")
        assert names(backend) == [b"empty", b"file"]
        for where in (name, f"{name}/file"):
            for ask in (backend.stat, backend.scan, backend.open_read, backend.try_open_read, backend.remove):
                with pytest.raises(NotFound):
                    ask(path(where))
            with pytest.raises(NotFound):
                backend.rename(path(where), path("new"), overwrite=True)
        for create in (
            backend.open_write,
            backend.make_directory,
            lambda where: backend.rename(path("file"), where, overwrite=True),
            lambda where: backend.copy(path("file"), where, overwrite=True),
        ):
            with pytest.raises(PermissionDenied):
                create(path(name))
            with pytest.raises(NotFound):
                create(path(f"{name}/new"))
        (place.root / name / "file").unlink()
        (place.root / name).rmdir()

    def test_a_name_that_only_resembles_is_free(self, backend: LocalBackend) -> None:
        put(backend, ".ocm-gateway", b"x")
        assert names(backend) == [b".ocm-gateway"]

    def test_the_temporary_of_a_living_writer_survives_every_sweep(self, place: Place, backend: LocalBackend) -> None:
        """That of another process that starts, and that of a scan which finds it older than a day."""
        put(backend, "file", b"old")
        with backend.open_write(path("file")) as writer:
            writer.write(b"new")
            for name in place.everything():
                os.utime(place.root / name, (1, 1))
            other = place.open()
            assert (names(other), other.sweep()) == ([b"file"], 0)
            writer.commit()
            other.close()
        assert get(backend, "file") == b"new"

    @pytest.mark.parametrize(("age", "survives"), [(DAY + 60, False), (DAY - 60, True)])
    def test_a_scan_sweeps_what_is_stale(self, place: Place, backend: LocalBackend, age: float, survives: bool) -> None:
        make(backend, "folder")
        orphan = place.root / "folder" / ORPHAN
        orphan.write_bytes(b"x")
        os.utime(orphan, (time.time() - age, time.time() - age))
        assert names(backend, "folder") == []
        assert orphan.exists() == survives
        orphan.unlink(missing_ok=True)

    def test_a_scan_leaves_alone_what_is_locked_or_not_of_our_form(self, place: Place, backend: LocalBackend) -> None:
        kept = [ORPHAN, ".ocm-gateway-notes", ".ocm-gateway-" + "A" * 32]
        for name in kept:
            (place.root / name).write_bytes(b"x")
            os.utime(place.root / name, (1, 1))
        os.mkfifo(place.root / (".ocm-gateway-" + "1" * 32))
        (place.root / (".ocm-gateway-" + "2" * 32)).symlink_to(ORPHAN)
        with open(place.root / ORPHAN, "rb") as living:
            fcntl.flock(living, fcntl.LOCK_EX)
            before = place.everything()
            assert names(backend) == []
            assert (place.everything(), len(before)) == (before, 5)
        for name in before:
            (place.root / name).unlink()

    def test_the_directories_of_a_dead_process_are_swept(self, place: Place) -> None:
        """Whatever else its journal holds: directories that are gone, files, links out, a torn record."""
        (place.root / "folder").mkdir()
        (place.root / "out").symlink_to(place.outside)
        (place.root / "file").touch()
        for directory in (place.root, place.root / "folder", place.outside):
            (directory / ORPHAN).write_bytes(b"x")
        records = b"\0/\0\0folder\0\0gone\0\0file\0\0out\0\0..\0\0torn/..\0\0fol"
        journal = place.journals / f"local.{'0' * 32}.journal"
        journal.write_bytes(records)
        place.open().close()
        assert place.everything() == ["file", "folder", "out"]
        assert (place.outside / ORPHAN).exists()
        assert list(place.journals.iterdir()) == []

    def test_only_the_journals_of_the_dead_and_of_this_backend_are_read(self, place: Place) -> None:
        others = ["local2.{}.journal", "local.{}.journal.old", "other.{}.journal"]
        for name in others:
            (place.journals / name.format("0" * 32)).write_bytes(b"\0/\0")
        living = place.journals / f"local.{'1' * 32}.journal"
        living.write_bytes(b"\0/\0")
        (place.root / ORPHAN).write_bytes(b"x")
        with open(living, "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            place.open().close()
        assert place.everything() == [ORPHAN]
        assert len(list(place.journals.iterdir())) == 4

    def test_a_sweep_waits_for_a_root_that_is_away(self, place: Place) -> None:
        journal = place.journals / f"local.{'0' * 32}.journal"
        journal.write_bytes(b"\0/\0")
        (place.root / ORPHAN).write_bytes(b"x")
        place.root.rename(place.base / "away")
        now = [0.0]
        backend = place.open(clock=lambda: now[0])
        assert journal.exists()
        with pytest.raises(Unavailable):
            backend.open_write(path("file"))
        (place.base / "away").rename(place.root)
        now[0] = 1.0
        put(backend, "file")
        backend.close()
        assert place.everything() == ["file"]
        assert not journal.exists()

    def test_a_directory_is_noted_before_it_holds_a_temporary(
        self, place: Place, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And once for as long as the process lives, however often a file in it is replaced."""
        make(backend, "folder")
        put(backend, "folder/file", b"old")
        seen = []
        rename = os.rename

        def look(*arguments: object, **named: object) -> None:
            seen.extend(file.read_bytes() for file in place.journals.iterdir())
            rename(*arguments, **named)

        monkeypatch.setattr(os, "rename", look)
        put(backend, "folder/file", b"new")
        put(backend, "folder/file", b"newer")
        assert seen == [b"\0folder\0", b"\0folder\0"]

    def test_without_its_journal_nothing_is_replaced(self, place: Place, backend: LocalBackend) -> None:
        put(backend, "file", b"old")
        for journal in place.journals.iterdir():
            journal.unlink()
        backend.close()
        place.journals.rmdir()
        place.journals.write_bytes(b"in the way")
        again = place.open()
        with pytest.raises(Unavailable, match="journal"):
            put(again, "file", b"new")
        assert get(again, "file") == b"old"
        assert place.everything() == ["file"]
        again.close()
        place.journals.unlink()
        place.journals.mkdir()

    def test_a_root_below_a_new_journal_directory_works(self, place: Place) -> None:
        """The directory of the journals is made when there is something to write."""
        place.journals.rmdir()
        backend = LocalBackend(place.root, place.base / "state" / "journals", abilities=Abilities(False, False, False))
        put(backend, "file", b"x")
        assert (place.base / "state" / "journals").stat().st_mode & 0o777 == 0o700
        backend.close()
        place.journals.mkdir()

    def test_a_sweep_between_link_and_rename_leaves_the_writer_alone(
        self, place: Place, backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(backend, "file", b"old")
        rename, swept = os.rename, []

        def sweep_first(*arguments: object, **named: object) -> None:
            directory = os.open(place.root, os.O_RDONLY)
            swept.append(temporaries.sweep(directory))
            os.close(directory)
            rename(*arguments, **named)

        monkeypatch.setattr(os, "rename", sweep_first)
        put(backend, "file", b"new")
        assert swept == [0]
        assert get(backend, "file") == b"new"

    def test_a_sweep_between_creation_and_lock_costs_only_another_try(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The one moment at which the temporary of a living writer looks dead."""
        directory = os.open(place.root, os.O_RDONLY)
        lock, swept = temporaries.lock, []

        def sweep_first(file: object) -> bool:
            if not swept:
                swept.append(temporaries.sweep(directory))
            return lock(file)

        monkeypatch.setattr(temporaries, "lock", sweep_first)
        file, name = temporaries.create_locked(directory, temporaries.new_name, 0o666)
        assert (swept, place.everything()) == ([1], [name.decode()])
        file.close()
        os.close(directory)

    def test_a_sweeper_that_holds_the_lock_costs_only_another_try(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        directory = os.open(place.root, os.O_RDONLY)
        lock, answers = temporaries.lock, [False, True]
        monkeypatch.setattr(temporaries, "lock", lambda file: answers.pop(0) and lock(file))
        file, name = temporaries.create_locked(directory, temporaries.new_name, 0o666)
        assert place.everything() == [name.decode()]
        file.close()
        os.close(directory)
