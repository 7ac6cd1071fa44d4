"""Is the root still the one that was recorded? An unmounted NAS must not look like an empty one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from backends import root as module
from backends.errors import Unavailable
from backends.local import LocalBackend
from backends.root import OpenRoot, RootIdentity

from ..conformance.actions import ROOT, get, names, path, put
from .place import Place

OPERATIONS: dict[str, Callable[[LocalBackend], object]] = {
    "stat": lambda backend: backend.stat(ROOT),
    "scan": lambda backend: backend.scan(ROOT),
    "open_read": lambda backend: backend.open_read(path("file")),
    "open_write": lambda backend: backend.open_write(path("file")),
    "make_directory": lambda backend: backend.make_directory(path("new")),
    "remove": lambda backend: backend.remove(path("file")),
    "rename": lambda backend: backend.rename(path("file"), path("new"), overwrite=True),
    "copy": lambda backend: backend.copy(path("file"), path("new"), overwrite=True),
    "set_modified": lambda backend: backend.set_modified(path("file"), 0),
    "space": lambda backend: backend.space(),
    "sweep": lambda backend: backend.sweep(),
}


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class RootTests:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def checked(self, place: Place, clock: Clock) -> Iterator[LocalBackend]:
        """A backend with a file in it, whose clock stands still until it is told."""
        backend = place.open(name="nas", clock=clock)
        put(backend, "file", b"content")
        yield backend
        backend.close()

    @pytest.mark.parametrize("operation", OPERATIONS)
    @pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "missing"])
    def test_another_root_is_unavailable_until_the_recorded_one_is_back(
        self, place: Place, checked: LocalBackend, clock: Clock, operation: str, replaced: bool
    ) -> None:
        away = place.base / "away"
        place.root.rename(away)
        if replaced:
            place.root.mkdir()
        clock.now += 1
        with pytest.raises(Unavailable, match=r"^nas: the root .* is it mounted\?"):
            OPERATIONS[operation](checked)
        assert checked.try_open_read(path("file")) is None
        if replaced:
            place.root.rmdir()
        away.rename(place.root)
        with pytest.raises(Unavailable):  # not looked at again within the second
            OPERATIONS[operation](checked)
        clock.now += 1
        assert get(checked, "file") == b"content"

    def test_the_root_is_looked_at_once_a_second(self, place: Place, checked: LocalBackend, clock: Clock) -> None:
        """Within it the descriptor of the recorded root is used: never the impostor."""
        place.root.rename(place.base / "away")
        place.root.mkdir()
        clock.now += 0.99
        put(checked, "late", b"late")
        assert names(checked) == [b"file", b"late"]
        assert (place.base / "away" / "late").read_bytes() == b"late"
        assert list(place.root.iterdir()) == []

    def test_an_upload_does_not_land_in_another_root(self, place: Place, checked: LocalBackend, clock: Clock) -> None:
        with checked.open_write(path("upload")) as writer:
            writer.write(b"content")
            place.root.rename(place.base / "away")
            place.root.mkdir()
            clock.now += 1
            with pytest.raises(Unavailable):
                writer.commit()
        assert list(place.root.iterdir()) == []
        assert [found.name for found in (place.base / "away").iterdir()] == ["file"]

    def test_the_identity_is_that_of_the_start_before(self, place: Place, checked: LocalBackend) -> None:
        recorded = RootIdentity.parse(str(checked.identity))
        assert recorded == checked.identity
        again = place.open(root_identity=recorded)
        assert get(again, "file") == b"content"
        again.close()

    def test_a_start_with_another_root_refuses(self, place: Place, checked: LocalBackend) -> None:
        other = RootIdentity(checked.identity.filesystem, checked.identity.inode + 1)
        backend = place.open(root_identity=other)
        with pytest.raises(Unavailable, match="not the one recorded"):
            backend.stat(ROOT)
        assert backend.identity == other
        backend.close()

    def test_a_real_change_of_the_root_is_accepted_when_told(
        self, place: Place, checked: LocalBackend, clock: Clock
    ) -> None:
        before = checked.identity
        place.root.rename(place.base / "away")
        place.root.mkdir()
        clock.now += 1
        accepted = checked.accept_root()  # at once, without waiting for the next look
        assert accepted == checked.identity != before
        assert names(checked) == []

    def test_nothing_cannot_be_accepted(self, place: Place, checked: LocalBackend, clock: Clock) -> None:
        """Else whatever appears next, such as an empty mount point, would be taken for the root."""
        place.root.rename(place.base / "away")
        with pytest.raises(Unavailable):
            checked.accept_root()
        place.root.mkdir()
        clock.now += 1
        with pytest.raises(Unavailable, match="not the one recorded"):
            checked.stat(ROOT)

    def test_a_closed_backend_accepts_no_root(self, checked: LocalBackend) -> None:
        checked.close()
        with pytest.raises(Unavailable, match="closed"):
            checked.accept_root()

    def test_a_root_that_was_never_seen_has_no_identity(self, place: Place, clock: Clock) -> None:
        backend = LocalBackend(place.base / "later", place.journals, abilities=place.abilities, clock=clock)
        with pytest.raises(Unavailable):
            _ = backend.identity
        (place.base / "later").mkdir()
        clock.now += 1
        assert backend.identity.inode == (place.base / "later").stat().st_ino
        backend.close()

    @pytest.mark.parametrize("text", ["", "1", "1.2.3", "x.y", "1:2"])
    def test_what_is_no_identity_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError):
            RootIdentity.parse(text)

    def test_a_file_is_no_root(self, place: Place) -> None:
        backend = LocalBackend(place.outside / "secret", place.journals, abilities=place.abilities)
        with pytest.raises(Unavailable):
            backend.stat(ROOT)
        backend.close()

    def test_closing_waits_for_no_root_that_hangs(
        self, checked: LocalBackend, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor is the root served that turns up afterwards."""
        begun, released = threading.Event(), threading.Event()

        def hang(number: int) -> OpenRoot:
            begun.set()
            assert released.wait(20)
            return OpenRoot(number)

        monkeypatch.setattr(module, "OpenRoot", hang)
        clock.now += 10
        with ThreadPoolExecutor(1) as thread:
            looking = thread.submit(checked.stat, ROOT)
            assert begun.wait(20)
            checked.close()
            assert not looking.done()
            released.set()
            looking.result(20)
        with pytest.raises(Unavailable, match="closed"):
            checked.stat(ROOT)

    def test_a_closed_backend_is_unavailable(self, place: Place) -> None:
        backend = place.open()
        backend.close()
        backend.close()
        with pytest.raises(Unavailable, match="closed"):
            backend.stat(ROOT)

    def test_the_root_itself_may_be_a_link(self, place: Place) -> None:
        """The operator names it; what is below is confined."""
        (place.base / "link").symlink_to(place.root)
        backend = LocalBackend(place.base / "link", place.journals, abilities=place.abilities)
        put(backend, "file", b"content")
        assert (place.root / "file").read_bytes() == b"content"
        backend.close()
