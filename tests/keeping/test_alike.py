"""Names that differ in capitals alone, on storage that takes them for one: the first stays, the others are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backends.errors import StorageError
from backends.interface import Entry, Reader, Scan, Writer
from backends.memory import MemoryBackend
from backends.paths import StoragePath
from gateway.keeping import copies
from gateway.keeping.alike import Names

from .bench import Bench, Timeless, counts, failed, path

KEPT = {"A.txt": b"capital", "B": None, "B/x": b"in a capital"}


class Folding(Timeless):
    """Storage that finds names in any capitals, and shows them as they were first written."""

    features = replace(Timeless.features, case_sensitive=False)

    def _there(self, where: StoragePath) -> StoragePath:
        """Return the path by which this is there, as far as it is."""
        found = StoragePath()
        for name in where.parts:
            found = found.child(self._names(found).get(name.lower(), name))
        return found

    def _names(self, where: StoragePath) -> dict[bytes, bytes]:
        try:
            return {entry.name.lower(): entry.name for entry in MemoryBackend.scan(self, where)}
        except StorageError:
            return {}

    def stat(self, where: StoragePath) -> Entry:
        return replace(super().stat(self._there(where)), name=where.name)

    def scan(self, where: StoragePath, batch: int = 1) -> Scan:
        return super().scan(self._there(where), batch)

    def open_read(self, where: StoragePath) -> Reader:
        return super().open_read(self._there(where))

    def open_write(self, where: StoragePath, **expectations: Any) -> Writer:
        return super().open_write(self._there(where), **expectations)

    def make_directory(self, where: StoragePath) -> Entry:
        return super().make_directory(self._there(where))

    def files(self, where: str) -> dict[str, bytes | None]:
        """Return what is in a folder at any depth: contents of files, None for folders."""
        found: dict[str, bytes | None] = {}
        for entry in self.scan(path(where)):
            name = entry.name.decode()
            if entry.is_directory:
                found |= {name: None} | {f"{name}/{below}": one for below, one in self.files(f"{where}/{name}").items()}
            else:
                with self.open_read(path(f"{where}/{name}")) as reader:
                    found[name] = reader.read_at(0, 100)
        return found


@pytest.fixture
def folding(bench: Bench) -> Folding:
    """What is mounted as `other`."""
    backend = Folding()
    bench.storages["other"] = replace(bench.storages["other"], backend=backend)
    return backend


def fill(bench: Bench) -> None:
    bench.theirs.put("A.txt", b"capital")
    bench.theirs.put("a.txt", b"small")
    for name, content in (("B", b"in a capital"), ("b", b"in a small one")):
        bench.theirs.make_directory(path(name))
        bench.theirs.put(f"{name}/x", content)


@pytest.mark.parametrize("overwrite", [False, True])
async def test_the_second_of_two_names_that_storage_takes_for_one_is_refused(
    bench: Bench, folding: Folding, overwrite: bool
) -> None:
    """Files and folders, at every copy, also when files that differ are to be replaced."""
    fill(bench)
    for expected in (("incomplete", 2, 0, 2), ("incomplete", 0, 2, 2)):
        run = await bench.keep(bench.copy("/other/kept"), overwrite=overwrite)
        assert counts(run) == expected
        assert set(failed(run)) == {"a.txt", "b"}
        assert all("takes the name for that of another" in reason for reason in failed(run).values())
        assert folding.files("kept") == KEPT
    bench.theirs.put("A.txt", b"CAPITAL")
    assert counts(await bench.keep(bench.copy("/other/kept"), overwrite=overwrite)) == ("incomplete", 1, 1, 2)
    assert folding.files("kept") == KEPT | {"A.txt": b"CAPITAL"}


async def test_the_first_is_the_one_that_was_there_before(
    bench: Bench, folding: Folding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order in which the sender lists them."""
    monkeypatch.setattr(copies, "AT_ONCE", 1)
    bench.theirs.put("a.txt", b"small")
    assert counts(await bench.keep(bench.copy("/other/kept"))) == ("done", 1, 0, 0)
    bench.theirs.remove(path("a.txt"))
    bench.theirs.put("A.txt", b"capital")
    bench.theirs.put("a.txt", b"small")
    run = await bench.keep(bench.copy("/other/kept"), overwrite=True)
    assert set(failed(run)) == {"A.txt"}
    assert folding.files("kept") == {"a.txt": b"small"}


async def test_storage_that_tells_them_apart_gets_all(bench: Bench) -> None:
    fill(bench)
    assert counts(await bench.keep()) == ("done", 4, 0, 0)
    assert counts(await bench.keep()) == ("done", 0, 4, 0)
    assert bench.files() == KEPT | {"a.txt": b"small", "b": None, "b/x": b"in a small one"}


def test_names_are_alike_in_capitals_and_however_accents_are_written() -> None:
    alike = ["ä".encode(), "Ä".encode(), "a\u0308".encode(), b"x", b"X", "straße".encode(), b"STRASSE", b"\xff"]
    others = [b"y", b"a", b"\xfe", b""]
    names = Names()
    names.add(alike[:-1] + others)
    assert names.alike(alike[:-1] + others) == frozenset(alike[:-1])
    names.add(alike[-1:] * 2)
    assert alike[-1] in names.alike(alike + others)
