"""What other programs change: gathered, bounded, and never in the way of those who read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from parts import until

from backends.errors import Unavailable
from backends.interface import Entry
from backends.local import LocalBackend
from backends.paths import StoragePath
from backends.pool import Pool
from gateway import noticing as module
from gateway.noticing import SETTLE, Noticed, Noticing


def path(text: str) -> StoragePath:
    return StoragePath.parse(text)


class Place:
    """A local tree, and what was noticed in it."""

    def __init__(self, directory: Path, watches: int) -> None:
        self.root = directory / "root"
        (self.root / "a" / "b").mkdir(parents=True)
        self.backend = LocalBackend(self.root, directory / "journals")
        self.pool = Pool("storage", threads=2)
        self.noticed: list[list[Noticed]] = []
        self.noticing = Noticing(self.backend, self.pool, self.record, watches=watches)

    def record(self, noticed: list[Noticed]) -> None:
        self.noticed.append(noticed)

    def show(self, text: str) -> None:
        self.noticing.listed(path(text), self.backend.stat(path(text)))

    @property
    def paths(self) -> list[list[str]]:
        return [[str(one.path) for one in noticed] for noticed in self.noticed]

    def close(self) -> None:
        self.noticing.close()
        self.backend.close()
        self.pool.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, 8)
    yield place
    place.close()


@pytest.fixture
def passed(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, 0)
    yield place
    place.close()


async def test_a_burst_of_events_is_written_down_once(watched: Place) -> None:
    watched.show("a")
    begun = time.monotonic()
    for number in range(200):
        (watched.root / "a" / f"{number}").write_bytes(b"x")
    await until(lambda: watched.noticed)
    assert time.monotonic() - begun >= SETTLE
    assert watched.paths == [["a"]]


async def test_a_failure_to_write_down_does_not_end_the_watch(watched: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.show("a")
    failures = []

    def fail(noticed: list[Noticed]) -> None:
        failures.append(noticed)
        if len(failures) == 1:
            raise ValueError("a mistake of ours")
        watched.record(noticed)

    monkeypatch.setattr(watched.noticing, "_record", fail)
    (watched.root / "a" / "one").write_bytes(b"x")
    await until(lambda: failures)
    (watched.root / "a" / "two").write_bytes(b"x")
    await until(lambda: watched.noticed)


def test_what_happens_just_before_the_end_is_written_down(tmp_path: Path) -> None:
    place = Place(tmp_path, 8)
    place.show("a")
    (place.root / "a" / "file").write_bytes(b"x")
    place.close()
    assert place.paths == [["a"]]
    place.noticing.close()
    assert len(place.noticed) == 1


async def test_others_events_that_come_with_our_own_are_not_lost(watched: Place) -> None:
    watched.show("a")
    watched.show("a/b")
    (watched.root / "a" / "b" / "theirs").write_bytes(b"x")
    await watched.noticing.own_change(path("a/ours"), tree=False)  # which takes all events from the kernel
    await until(lambda: watched.noticed)
    assert watched.paths == [["a/b"]]


def test_the_first_look_notices_nothing_and_the_second_what_has_changed(passed: Place) -> None:
    passed.show("a")
    (passed.root / "a" / "file").write_bytes(b"x")
    assert passed.noticed == []
    passed.show("a")
    passed.show("a")
    assert passed.paths == [["a"]]


async def test_a_change_of_our_own_is_none_of_others(passed: Place) -> None:
    """Where nothing is watched, the folder is looked at before our change is written down."""
    passed.show("a")
    (passed.root / "a" / "file").write_bytes(b"x")
    await passed.noticing.own_change(path("a/file"), tree=False)
    passed.show("a")
    assert passed.noticed == []


def test_memory_is_bounded_and_members_do_not_drive_out_what_was_listed(
    passed: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 4)
    passed.show("a")  # and the root
    like = passed.backend.stat(path("a"))
    members = [replace(like, name=b"%d" % number) for number in range(100)]
    passed.noticing.members(path("a"), members)
    assert len(passed.noticing._seen) == 4
    assert {(), (b"a",)} <= passed.noticing._seen.keys()
    passed.noticing.members(path("a"), [replace(member, etag="other") for member in members])
    assert passed.paths == [["a/0", "a/1"]]
    for number in range(10):
        passed.noticing.listed(path(f"{number}"), like)
    assert len(passed.noticing._seen) == 4


async def test_whoever_reads_does_not_wait_for_a_look(passed: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[StoragePath] = []

    def away(where: StoragePath) -> Entry:
        looks.append(where)
        raise Unavailable("the NAS is away")

    monkeypatch.setattr(passed.backend, "stat", away)
    for _ in range(100):
        passed.noticing.passed(path("a/b/file"))
    await until(lambda: not passed.noticing._looking)
    assert looks == [path("a/b"), path("a"), path("")], "one look at a time"
    assert passed.noticed == []
