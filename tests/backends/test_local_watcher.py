"""Watching directories of a local tree: which changes are told of, and what bounds it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import linux
from backends.beneath import confinement
from backends.linux import Abilities
from backends.local import LocalBackend
from backends.local_watcher import LocalWatcher
from backends.paths import StoragePath
from backends.root import FileSystem


def path(text: str) -> StoragePath:
    return StoragePath.parse(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "c").mkdir()
    return root


@pytest.fixture
def backend(root: Path, tmp_path: Path) -> Iterator[LocalBackend]:
    backend = LocalBackend(root, tmp_path / "journals")
    yield backend
    backend.close()


@pytest.fixture
def watcher(backend: LocalBackend) -> Iterator[LocalWatcher]:
    watcher = backend.watch(4)
    assert watcher is not None
    yield watcher
    watcher.close()


def test_what_happens_in_a_watched_directory_is_told_once_and_nothing_else(root: Path, watcher: LocalWatcher) -> None:
    watcher.add(path("a"))
    assert watcher.collect() == []
    for number in range(3):
        (root / "a" / f"{number}").write_bytes(b"x")
    (root / "a" / "b" / "deeper").write_bytes(b"x")
    (root / "c" / "elsewhere").write_bytes(b"x")
    assert watcher.collect() == [(path("a"), False)]
    assert watcher.collect() == []


def test_reading_is_no_change_and_neither_are_our_temporaries(root: Path, watcher: LocalWatcher) -> None:
    (root / "a" / "file").write_bytes(b"x")
    watcher.add(path("a"))
    (root / "a" / "file").read_bytes()
    os.listdir(root / "a")
    (root / "a" / f".ocm-gateway-{'0' * 32}").write_bytes(b"x")
    with open(root / "a", opener=lambda name, _: os.open(name, os.O_TMPFILE | os.O_WRONLY), mode="wb") as unnamed:
        unnamed.write(b"x")
    assert watcher.collect() == []


def test_a_directory_that_came_with_its_content_is_told_as_a_whole(root: Path, watcher: LocalWatcher) -> None:
    watcher.add(path("a"))
    (root / "c").rename(root / "a" / "c")
    assert watcher.collect() == [(path("a"), False), (path("a/c"), True)]


def test_a_directory_that_is_gone_or_moved_is_watched_no_longer(root: Path, watcher: LocalWatcher) -> None:
    for text in ("a", "a/b", "c"):
        watcher.add(path(text))
    (root / "a").rename(root / "moved")
    (root / "c").rmdir()
    watcher.collect()
    assert not watcher._watches or set(watcher._watches) == {path("a/b")}  # `a` was not seen to go: nobody watches /
    (root / "moved" / "x").write_bytes(b"x")
    assert watcher.collect() == []


def test_what_lies_below_a_directory_that_is_seen_to_go_is_watched_no_longer(root: Path, watcher: LocalWatcher) -> None:
    for text in ("", "a", "a/b"):
        watcher.add(path(text))
    (root / "a").rename(root / "moved")
    watcher.collect()
    (root / "moved" / "b" / "x").write_bytes(b"x")
    assert watcher.collect() == []
    assert set(watcher._watches) == {path("")}


def test_the_directory_added_last_stays_the_longest(root: Path, watcher: LocalWatcher) -> None:
    for number in range(6):
        (root / f"{number}").mkdir()
    for number in (0, 1, 2, 3, 0, 4, 5):
        watcher.add(path(f"{number}"))
    for number in range(6):
        (root / f"{number}" / "x").mkdir()
    assert {str(changed) for changed, _ in watcher.collect()} == {"0", "3", "4", "5"}


def test_no_link_leads_a_watch_out_of_the_root(root: Path, tmp_path: Path, watcher: LocalWatcher) -> None:
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    (root / "link").symlink_to(outside)
    for text in ("link", "link/inner", "nothing"):
        watcher.add(path(text))
    assert not watcher._watches


def test_without_openat2_directories_are_watched_too(root: Path, tmp_path: Path) -> None:
    backend = LocalBackend(root, tmp_path / "journals", abilities=Abilities(openat2=False))
    watcher = backend.watch(4)
    assert watcher is not None
    watcher.add(path("a"))
    (root / "a" / "x").mkdir()
    assert watcher.collect() == [(path("a"), False)]
    watcher.close()
    backend.close()
    assert confinement(Abilities(openat2=False)) is not None


def test_a_network_file_system_is_not_watched(watcher: LocalWatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileSystem, "is_local", property(lambda _self: False))
    watcher.add(path("a"))
    assert not watcher._watches


def test_the_kernels_limit_is_met_quietly(watcher: LocalWatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC (fs.inotify.max_user_watches): the new one takes the place of an old one, or there is none at all."""
    add = linux.inotify_add_watch
    room = 2

    def limited(inotify: int, directory: int, mask: int) -> int:
        if len(watcher._watches) >= room:
            raise OSError(28, "No space left on device")
        return add(inotify, directory, mask)

    monkeypatch.setattr(linux, "inotify_add_watch", limited)
    for text in ("", "a", "a/b", "c"):
        watcher.add(path(text))
    assert list(watcher._watches) == [path("a/b"), path("c")]
    room = 0
    watcher.add(path("a"))
    assert not watcher._watches


def test_without_any_instance_left_nothing_is_watched(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(linux, "inotify_init", refused)
    assert backend.watch(4) is None


def test_an_overflow_means_that_everything_watched_may_have_changed(root: Path, watcher: LocalWatcher) -> None:
    queued = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for text in ("a", "c"):
        watcher.add(path(text))
    names = [f"{root}/a/{number % 2}" for number in range(2)]
    for name in names:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
    for number in range(queued):  # the same event twice in a row would be one
        os.utime(names[number % 2])
    assert set(watcher.collect()) == {(path("a"), False), (path("c"), False)}


def test_waiting_ends_with_an_event_a_wake_and_a_close(root: Path, watcher: LocalWatcher) -> None:
    watcher.add(path("a"))
    begun = time.monotonic()
    watcher.wait(0.05)
    assert time.monotonic() - begun < 5
    for end in (lambda: (root / "a" / "x").mkdir(), watcher.wake, watcher.close):
        waiting = threading.Thread(target=watcher.wait, args=(None,), daemon=True)
        waiting.start()
        end()
        waiting.join(10)
        assert not waiting.is_alive()
        if end != watcher.close:
            watcher.collect()
    watcher.add(path("c"))
    assert watcher.collect() == []
    watcher.wait(None)
