"""Files arrive whole, with their times; what is there is known again, and what is somebody's own is left alone."""

from __future__ import annotations

import gc
import hashlib
import os
from itertools import count

import pytest

from backends.errors import InvalidPath, NotFound
from backends.interface import Entry
from backends.paths import StoragePath
from gateway.keeping import walk
from gateway.locks import Holder, Wish
from gateway.store import changes as generations
from gateway.store import kept
from gateway.tree import Place

from .bench import Bench, counts, failed, path, reads

MIB = 1 << 20
TIME = 1_700_000_000_123_456_789


def fill(bench: Bench) -> None:
    for folder in ("runs", "runs/1", "empty"):
        bench.theirs.make_directory(path(folder))
    bench.theirs.put("a.txt", b"alpha", TIME)
    bench.theirs.put("runs/1/b.bin", b"b" * (2 * MIB + 3), TIME + 1)
    bench.theirs.put("runs/none", b"")


async def test_a_folder_is_written_with_all_that_is_in_it_at_its_times(bench: Bench) -> None:
    fill(bench)
    run = await bench.keep()
    assert counts(run) == ("done", 3, 0, 0)
    assert run.bytes == 5 + 2 * MIB + 3
    assert bench.files() == {
        "a.txt": b"alpha",
        "empty": None,
        "runs": None,
        "runs/1": None,
        "runs/1/b.bin": b"b" * (2 * MIB + 3),
        "runs/none": b"",
    }
    assert os.stat(bench.data / "kept" / "a.txt").st_mtime_ns == TIME
    assert os.stat(bench.data / "kept" / "runs" / "1" / "b.bin").st_mtime_ns == TIME + 1


async def test_a_second_copy_reads_nothing_and_brings_what_is_new(bench: Bench) -> None:
    fill(bench)
    await bench.keep()
    bench.theirs.read.clear()
    assert counts(await bench.keep()) == ("done", 0, 3, 0)
    assert reads(bench.theirs) == []
    bench.theirs.put("a.txt", b"ALPHA")
    bench.theirs.put("new.txt", b"new")
    assert counts(await bench.keep()) == ("done", 2, 2, 0)
    assert reads(bench.theirs) == ["a.txt", "new.txt"]
    assert bench.files()["a.txt"] == b"ALPHA"


async def test_storage_that_keeps_no_times_knows_the_files_again_as_well(bench: Bench) -> None:
    fill(bench)
    target = bench.copy("/other/kept")
    assert counts(await bench.keep(target)) == ("done", 3, 0, 0)
    entry = bench.timeless.stat(path("kept/a.txt"))
    assert (entry.size, entry.modified != TIME) == (5, True)
    bench.theirs.read.clear()
    assert counts(await bench.keep(target)) == ("done", 0, 3, 0)
    assert reads(bench.theirs) == []


async def test_what_was_removed_at_the_sender_stays(bench: Bench) -> None:
    fill(bench)
    await bench.keep()
    bench.theirs.remove(path("a.txt"))
    assert counts(await bench.keep()) == ("done", 0, 2, 0)
    assert bench.files()["a.txt"] == b"alpha"


async def test_a_file_that_was_changed_here_is_kept_until_overwrite_is_said(bench: Bench) -> None:
    fill(bench)
    await bench.keep()
    (bench.data / "kept" / "a.txt").write_bytes(b"local")  # of the same length, so that only its content tells
    bench.theirs.put("a.txt", b"ALPHA")
    run = await bench.keep()
    assert counts(run) == ("incomplete", 0, 2, 1)
    assert "changed" in failed(run)["a.txt"]
    assert bench.files()["a.txt"] == b"local"
    assert counts(await bench.keep(overwrite=True)) == ("done", 1, 2, 0)
    assert bench.files()["a.txt"] == b"ALPHA"


async def test_a_file_of_another_length_is_not_read_to_be_left_alone(bench: Bench) -> None:
    bench.theirs.put("a.txt", b"alpha")
    (bench.data / "kept").mkdir()
    (bench.data / "kept" / "a.txt").write_bytes(b"mine alone")
    assert counts(await bench.keep()) == ("incomplete", 0, 0, 1)
    assert reads(bench.theirs) == []


async def test_a_copy_whose_row_was_lost_is_known_by_its_content(bench: Bench) -> None:
    """A crash between the file and its row leaves this, and so does a copy that somebody has made by hand."""
    fill(bench)
    await bench.keep()
    before = (bench.data / "kept" / "a.txt").stat()
    bench.store.run_sync(lambda tx: kept.forget_versions(tx, "share"))
    assert counts(await bench.keep()) == ("done", 0, 3, 0)
    assert (bench.data / "kept" / "a.txt").stat().st_ino == before.st_ino
    bench.theirs.read.clear()
    assert counts(await bench.keep()) == ("done", 0, 3, 0)
    assert reads(bench.theirs) == [], "and has a row again"


async def test_a_shared_file_gets_the_name_or_goes_into_the_folder(bench: Bench) -> None:
    fill(bench)
    run = await bench.keep(bench.copy("/home/one.txt", "a.txt"))
    assert counts(run) == ("done", 1, 0, 0)
    assert (bench.data / "one.txt").read_bytes() == b"alpha"
    (bench.data / "kept").mkdir()
    for outcome in (("done", 1, 0, 0), ("done", 0, 1, 0)):
        assert counts(await bench.keep(bench.copy("/home/kept", "a.txt"))) == outcome
    assert bench.files() == {"a.txt": b"alpha"}


async def test_a_part_of_a_share_can_be_kept_alone(bench: Bench) -> None:
    fill(bench)
    run = await bench.keep(bench.copy(source="runs/1"))
    assert counts(run) == ("done", 1, 0, 0)
    assert list(bench.files()) == ["b.bin"]


async def test_names_that_the_storage_cannot_hold_are_told_and_the_rest_is_copied(bench: Bench) -> None:
    fill(bench)
    bench.theirs.put(".ocm-gateway-x", b"ours by its name")
    bench.theirs.put(".ocm-unfinished-x", b"also")
    bench.theirs.put("refused", b"as a NAS refuses a colon")
    bench.mine.refusing = lambda where: InvalidPath("no such name here") if where.endswith("refused") else None
    run = await bench.keep()
    assert counts(run) == ("incomplete", 3, 0, 3)
    assert set(failed(run)) == {".ocm-unfinished-x", ".ocm-gateway-x", "refused"}
    assert failed(run)["refused"] == "no such name here"
    assert "a.txt" in bench.files()


async def test_a_path_that_is_too_long_here_is_told_and_the_rest_is_copied(bench: Bench) -> None:
    name = "n" * 254
    deep = "/".join([name] * 16)
    for depth in range(1, 17):
        bench.theirs.make_directory(path("/".join([name] * depth)))
    bench.theirs.put(f"{deep}/12345", b"of 4,085 bytes")
    bench.theirs.put(f"{deep}/1", b"of 4,081")
    run = await bench.keep(bench.copy("/home/0123456789"))
    assert counts(run) == ("incomplete", 1, 0, 1)
    assert "4096" in failed(run)[f"{deep}/12345"]


async def test_a_folder_of_too_many_names_is_left_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "LISTED_MOST", 4)
    fill(bench)
    bench.theirs.make_directory(path("many"))
    for number in range(6):
        bench.theirs.put(f"many/{number}", b"")
    run = await bench.keep()
    assert counts(run) == ("incomplete", 3, 0, 1)
    assert failed(run) == {"many": "there are more than 4 names in this folder"}


async def test_names_that_are_not_utf8_arrive_as_they_are(bench: Bench) -> None:
    bench.theirs.put(b"caf\xe9", b"latin")
    assert counts(await bench.keep()) == ("done", 1, 0, 0)
    assert os.listdir(os.fsencode(bench.data / "kept")) == [b"caf\xe9"]


@pytest.mark.parametrize("there", ["file", "folder"])
async def test_a_file_and_a_folder_of_one_name_do_not_replace_each_other(bench: Bench, there: str) -> None:
    fill(bench)
    (bench.data / "kept").mkdir()
    if there == "file":
        (bench.data / "kept" / "runs").write_bytes(b"mine")
    else:
        (bench.data / "kept" / "a.txt").mkdir()
    run = await bench.keep(overwrite=True)
    assert run.state == "incomplete"
    assert failed(run) == (
        {"runs": "there is a file of this name"} if there == "file" else {"a.txt": "there is a folder of this name"}
    )


async def test_a_locked_file_is_left_alone_and_told(bench: Bench) -> None:
    fill(bench)
    await bench.keep()
    bench.theirs.put("a.txt", b"ALPHA")
    place = await bench.copies._tree.resolve(await bench.copies._access.of_user("bob"), path("/home/kept/a.txt"))
    bench.locks.take(place, Wish(exclusive=True, deep=False), Holder("user:bob"))
    run = await bench.keep(overwrite=True)
    assert counts(run) == ("incomplete", 0, 2, 1)
    assert "locked" in failed(run)["a.txt"]
    assert bench.files()["a.txt"] == b"alpha"


async def test_a_lock_that_comes_while_the_file_is_on_its_way_counts_too(bench: Bench) -> None:
    bench.theirs.put("a.txt", b"a" * (5 * MIB))
    (bench.data / "kept").mkdir()
    (bench.data / "kept" / "a.txt").write_bytes(b"before")
    place = await bench.copies._tree.resolve(await bench.copies._access.of_user("bob"), path("/home/kept/a.txt"))

    def lock(_: str) -> None:
        if len(bench.theirs.read) == 5:  # so late that some of it was written
            bench.locks.take(place, Wish(exclusive=True, deep=False), Holder("user:bob"))

    bench.theirs.reading = lock
    assert "locked" in failed(await bench.keep(overwrite=True))["a.txt"]
    assert bench.files() == {"a.txt": b"before"}


@pytest.mark.parametrize("there", [None, b"before"])
async def test_what_somebody_writes_meanwhile_is_not_replaced(bench: Bench, there: bytes | None) -> None:
    bench.theirs.put("a.txt", b"alpha")
    mine = bench.data / "kept" / "a.txt"
    mine.parent.mkdir()
    if there is not None:
        mine.write_bytes(there)

    def write(_: str) -> None:
        mine.write_bytes(b"just now")

    bench.theirs.reading = write
    run = await bench.keep(overwrite=there is not None)
    assert counts(run) == ("incomplete", 0, 0, 1)
    assert mine.read_bytes() == b"just now"


async def test_the_digest_that_the_sender_sends_is_compared(bench: Bench) -> None:
    bench.theirs.put("right", b"right")
    bench.theirs.put("wrong", b"wrong")
    bench.theirs.say_digest("right", b"right")
    bench.theirs.say_digest("wrong", b"other")
    run = await bench.keep()
    assert counts(run) == ("incomplete", 1, 0, 1)
    assert "sha256" in failed(run)["wrong"]
    assert bench.files() == {"right": b"right"}


async def test_without_a_digest_a_file_that_changes_while_it_is_read_is_not_kept(bench: Bench) -> None:
    """A server that replaces files in place may send a mixture of two, of the right length."""
    bench.theirs.put("a.txt", b"alpha")
    bench.theirs.reading = lambda _: bench.theirs.put("a.txt", b"ALPHA")
    run = await bench.keep()
    assert counts(run) == ("incomplete", 0, 0, 1)
    assert "changed" in failed(run)["a.txt"]
    assert bench.files() == {}
    bench.theirs.reading = lambda _: None
    assert counts(await bench.keep()) == ("done", 1, 0, 0)


async def test_a_file_that_ends_early_is_not_kept(bench: Bench) -> None:
    bench.theirs.put("a.txt", b"a" * (3 * MIB))
    bench.theirs.ends[path("a.txt")] = 2 * MIB
    assert "ends after" in failed(await bench.keep())["a.txt"]
    assert bench.files() == {}


async def test_every_folder_above_shows_that_something_has_come(bench: Bench) -> None:
    bench.theirs.make_directory(path("runs"))
    bench.theirs.put("runs/a", b"a")

    def generation() -> int:
        return bench.store.read_sync(lambda tx: generations.of(tx, "storage", path("kept/runs"))).own

    await bench.keep()
    first = generation()
    assert first > 0
    await bench.keep()
    assert generation() == first, "nothing has come"
    bench.theirs.put("runs/a", b"A")
    await bench.keep()
    assert generation() > first


async def test_properties_that_an_earlier_file_has_left_are_not_the_new_ones(bench: Bench) -> None:
    bench.theirs.put("a.txt", b"alpha")
    (bench.data / "kept").mkdir()
    place = await bench.copies._tree.resolve(await bench.copies._access.of_user("alice"), path("/home/kept/a.txt"))
    bench.belongings.change_properties(place, [("{x}colour", "<c/>")])
    await bench.keep()
    assert not bench.belongings.has_properties(place)


async def test_nothing_is_left_of_what_has_failed(bench: Bench) -> None:
    bench.theirs.put("a.txt", b"a" * (3 * MIB))
    calls = iter(range(10))

    def reading(_: str) -> None:
        if next(calls) == 2:
            raise NotFound("gone")

    bench.theirs.reading = reading
    assert (await bench.keep()).failed == 1
    assert [one for one in bench.data.rglob("*") if one.is_file()] == []


async def test_the_strongest_guarantee_is_asked_of_the_writer(bench: Bench) -> None:
    """The digest is of what was written, and not of what was meant to be."""
    content = os.urandom(3 * MIB + 1)
    bench.theirs.put("a.bin", content)
    bench.theirs.say_digest("a.bin", content)
    await bench.keep()
    assert hashlib.sha256((bench.data / "kept" / "a.bin").read_bytes()).digest() == hashlib.sha256(content).digest()


async def test_a_file_that_is_replaced_as_soon_as_it_is_there_is_not_taken_for_ours(bench: Bench) -> None:
    """Between its name and its time: what comes from the sender later may not be written over it."""
    fill(bench)
    set_modified, here = bench.mine.set_modified, bench.data / "kept" / "a.txt"

    def late(where: StoragePath, modified: int) -> Entry:
        if where.name == b"a.txt":
            (bench.data / "local").write_bytes(b"local")
            (bench.data / "local").rename(here)
        return set_modified(where, modified)

    bench.mine.set_modified = late  # type: ignore[method-assign]  # of this one object alone
    assert counts(await bench.keep())[0] == "done"
    bench.mine.set_modified = set_modified  # type: ignore[method-assign]  # as it was
    bench.theirs.put("a.txt", b"ALPHA")
    assert "changed" in failed(await bench.keep())["a.txt"]
    assert here.read_bytes() == b"local"


async def test_folders_wait_packed(bench: Bench) -> None:
    """A sender may show a million in each folder, one below the other."""
    for number in range(150):
        bench.theirs.make_directory(path(f"{number:03}"))
        bench.theirs.put(f"{number:03}/file", b"x")

    def places() -> int:
        return sum(isinstance(one, Place) for one in gc.get_objects())

    held, before, reads = list[int](), places(), count()
    # Looking through all objects takes half a second where many tests were before: so not at each of the 150.
    bench.theirs.reading = lambda _: held.append(places()) if next(reads) in (0, 50, 100) else None
    assert counts(await bench.keep()) == ("done", 150, 0, 0)
    assert len(held) == 3
    assert max(held) - before < 100
