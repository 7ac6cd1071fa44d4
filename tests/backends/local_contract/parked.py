"""What uploads leave to be resumed: hidden files that sweeps spare while somebody keeps them, and never longer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.errors import DirectoryNotEmpty, InUse, NotFound, NothingParked, StorageError
from backends.interface import Parked
from backends.local import LocalBackend

from ..conformance.actions import get, make, names, path, put
from .place import Place

DAY = 24 * 3600
WRITER = Path(__file__).with_name("killed_parking.py")


class ParkedTests:
    """Somebody keeps what is in `kept`, as the gateway's rows do."""

    @pytest.fixture
    def kept(self) -> set[str]:
        return set()

    @pytest.fixture
    def keeping(self, place: Place, kept: set[str]) -> Iterator[LocalBackend]:
        backend = place.open(is_kept=kept.__contains__)
        yield backend
        backend.close()
        assert list(place.journals.iterdir()) == []

    def park(self, backend: LocalBackend, kept: set[str], where: str, content: bytes = b"half") -> Parked:
        with backend.open_write(path(where)) as writer:
            writer.write(content)
            return writer.park(lambda parked: kept.add(parked.token))

    def test_what_is_kept_survives_every_sweep_and_goes_when_nobody_keeps_it(
        self, place: Place, keeping: LocalBackend, kept: set[str]
    ) -> None:
        make(keeping, "folder")
        parked = self.park(keeping, kept, "folder/file")
        (hidden,) = (place.root / "folder").iterdir()
        os.utime(hidden, (1, 1))
        (place.journals / f"local.{'0' * 32}.journal").write_bytes(b"\0folder\0")
        assert (keeping.sweep(), names(keeping, "folder")) == (0, [])
        assert hidden.name == f".ocm-gateway-{parked.token}"
        assert hidden.exists()
        kept.clear()
        assert names(keeping, "folder") == []
        assert not hidden.exists()

    def test_it_goes_on_in_another_process(self, place: Place, keeping: LocalBackend, kept: set[str]) -> None:
        parked = self.park(keeping, kept, "file")
        keeping.close()
        other = place.open(is_kept=kept.__contains__)
        with other.open_write(path("file"), size=8, resume=parked) as writer:
            with pytest.raises(InUse):
                place.open(is_kept=kept.__contains__).open_write(path("file"), resume=parked)
            writer.write(b"+end")
            writer.commit()
        assert get(other, "file") == b"half+end"
        assert place.everything() == ["file"]
        other.close()

    def test_it_is_shorter_than_what_was_noted_after_a_lost_disk(
        self, place: Place, keeping: LocalBackend, kept: set[str]
    ) -> None:
        parked = self.park(keeping, kept, "file")
        os.truncate(place.root / f".ocm-gateway-{parked.token}", 3)
        with pytest.raises(NothingParked):
            keeping.open_write(path("file"), resume=parked)
        keeping.discard(path("file"), parked.token)

    @pytest.mark.parametrize("swap", ["file", "link", "hard link", "fifo", "directory"])
    def test_another_thing_under_its_name_is_never_written(
        self, place: Place, keeping: LocalBackend, kept: set[str], swap: str
    ) -> None:
        """Whoever may write to the directory by other ways could otherwise have the service write elsewhere."""
        parked = self.park(keeping, kept, "file")
        hidden = place.root / f".ocm-gateway-{parked.token}"
        victim = place.root / "victim"
        victim.write_bytes(b"untouched")
        if swap == "hard link":
            os.link(hidden, place.root / "second")
        else:
            hidden.rename(place.root / "away")  # else the file system may give its inode to the next one
            {
                "file": lambda: hidden.write_bytes(b"half"),
                "link": lambda: hidden.symlink_to("victim"),
                "fifo": lambda: os.mkfifo(hidden),
                "directory": hidden.mkdir,
            }[swap]()
        with pytest.raises(NothingParked):
            keeping.open_write(path("file"), resume=parked)
        keeping.discard(path("file"), parked.token)
        assert victim.read_bytes() == b"untouched"
        assert hidden.is_symlink() == (swap == "link")

    def test_it_is_no_more_open_than_the_file_that_it_will_replace(
        self, place: Place, keeping: LocalBackend, kept: set[str]
    ) -> None:
        put(keeping, "file", b"old")
        (place.root / "file").chmod(0o600)
        parked = self.park(keeping, kept, "file")
        assert (place.root / f".ocm-gateway-{parked.token}").stat().st_mode & 0o777 == 0o600
        keeping.discard(path("file"), parked.token)

    def test_a_directory_with_nothing_else_in_it_is_removed_as_empty(
        self, place: Place, keeping: LocalBackend, kept: set[str]
    ) -> None:
        make(keeping, "folder")
        parked = self.park(keeping, kept, "folder/file")
        with keeping.open_write(path("folder/file"), resume=parked), pytest.raises(DirectoryNotEmpty):
            keeping.remove(path("folder"))
        put(keeping, "folder/seen")
        with pytest.raises(DirectoryNotEmpty):
            keeping.remove(path("folder"))
        keeping.remove(path("folder/seen"))
        keeping.remove(path("folder"))
        assert place.everything() == []
        with pytest.raises(NotFound):
            keeping.open_write(path("folder/file"), resume=parked)
        keeping.discard(path("folder/file"), parked.token)

    def test_what_another_machine_may_write_is_not_removed_with_its_directory(
        self, place: Place, keeping: LocalBackend
    ) -> None:
        make(keeping, "folder")
        theirs = place.root / "folder" / (".ocm-gateway-" + "3" * 32)
        theirs.write_bytes(b"x")
        with pytest.raises(DirectoryNotEmpty):
            keeping.remove(path("folder"))
        os.utime(theirs, (1, 1))
        keeping.remove(path("folder"))
        assert place.everything() == []

    def test_in_a_directory_that_was_moved_it_is_neither_parked_nor_lost_sight_of(
        self, place: Place, keeping: LocalBackend, kept: set[str]
    ) -> None:
        """An upload that ends after the move has no place any more; what was parked before goes along."""
        make(keeping, "old")
        parked = self.park(keeping, kept, "old/file")
        writer = keeping.open_write(path("old/other"))
        writer.write(b"x")
        os.rename(place.root / "old", place.root / "new")
        with pytest.raises(StorageError):
            writer.park(lambda parked: kept.add(parked.token))
        assert place.everything() == ["new", f"new/.ocm-gateway-{parked.token}"]
        with keeping.open_write(path("new/file"), resume=parked) as resumed:
            resumed.commit()
        assert get(keeping, "new/file") == b"half"
        shutil.rmtree(place.root / "new")

    @pytest.mark.parametrize("noted", [True, False])
    def test_a_kill_while_it_is_parked_leaves_it_whole_or_no_debris(self, place: Place, noted: bool) -> None:
        arguments = [str(place.root), str(place.journals), str(int(place.abilities.openat2))]
        writer = subprocess.run([sys.executable, str(WRITER), *arguments], capture_output=True, text=True, timeout=30)
        assert writer.returncode == -signal.SIGKILL
        token = writer.stdout
        again = place.open(is_kept=lambda one: noted and one == token)
        assert place.everything() == ([f".ocm-gateway-{token}"] if noted else [])
        again.discard(path("file"), token)
        again.close()
        assert place.everything() == []
        assert list(place.journals.iterdir()) == []

    def test_a_disk_that_fills_up_costs_only_what_was_written_since(
        self, place: Place, keeping: LocalBackend, kept: set[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parked = self.park(keeping, kept, "file")
        writer = keeping.open_write(path("file"), size=8, resume=parked)
        write, room = os.pwrite, [2]

        def full(descriptor: int, data: memoryview, offset: int) -> int:
            if not room:
                raise OSError(28, "No space left on device")
            return write(descriptor, data[: room.pop()], offset)

        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", full)
            with pytest.raises(StorageError):
                writer.write(b"+end")
        assert (place.root / f".ocm-gateway-{parked.token}").read_bytes() == b"half"
        with keeping.open_write(path("file"), size=8, resume=parked) as resumed:
            resumed.write(b"+end")
            resumed.commit()
        assert get(keeping, "file") == b"half+end"
        assert time.time() - (place.root / "file").stat().st_mtime < DAY
