"""File systems that fill up, under the data and under the state of a whole gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sites import Reply, Site

from . import disks
from .clients import Client, on_local, running

SIZE = 8 * disks.MIB
MUCH = SIZE // 2 + disks.MIB  # bytes: one such file fits, two do not


def small_tmpfs(base: Path) -> AbstractContextManager[Path]:
    return disks.tmpfs(base / "small", SIZE)


def small_ext4(base: Path) -> AbstractContextManager[Path]:
    return disks.loop(base / "small", disks.image(base / "small.img", SIZE + 2 * disks.MIB))


KINDS: dict[str, Callable[[Path], AbstractContextManager[Path]]] = {"tmpfs": small_tmpfs, "ext4": small_ext4}


@pytest.fixture(params=KINDS)
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Client, Path]]:
    """A gateway whose data lies on a small file system, and that."""
    with KINDS[request.param](tmp_path) as disk:
        data = disk / "data"
        data.mkdir()
        with running(Site(tmp_path / "site", **on_local(data))) as client:
            yield client, data
        assert not [path for path in data.rglob("*") if path.name.startswith(".ocm-")], "debris"


def refused(reply: Reply) -> bool:
    return reply.status == 507 and b"OUT_OF_SPACE" in reply.body


def test_what_does_not_fit_is_507_and_the_old_content_stays(full: tuple[Client, Path]) -> None:
    alice, data = full
    assert alice("PUT", "old", b"old").status == 201
    assert alice("MKCOL", "folder").status == 201
    assert alice("PUT", "folder/file", b"f").status == 201
    assert alice("PUT", "much", b"m" * MUCH).status == 201
    before = on(data)
    too_much = b"x" * MUCH
    pieces = [too_much[: disks.MIB]] * (MUCH // disks.MIB)
    for name in ("old", "new"):
        assert refused(alice("PUT", name, too_much)), "known before the body"
        assert refused(alice("PUT", name, iter(pieces))), "found out on the way"
        assert refused(alice("COPY", "much", Destination=name)), "inside the storage"
    assert refused(alice("COPY", "much", Destination="folder")), "in the place of a folder"
    assert on(data) == before
    assert alice("DELETE", "much").status == 204
    assert alice("PUT", "old", iter(pieces)).status == 204
    assert (data / "old").stat().st_size == len(b"".join(pieces))


def test_on_a_disk_without_a_byte_left_one_still_reads_removes_and_goes_on(full: tuple[Client, Path]) -> None:
    alice, data = full
    for name in ("old", "other"):
        assert alice("PUT", name, name.encode()).status == 201
    disks.filled(data)
    for reply in (alice("PUT", "old", b"n" * 70_000), alice("PUT", "new", iter([b"n" * 70_000]))):
        assert refused(reply), reply
    assert alice("GET", "old").body == b"old"
    assert alice("PROPFIND", "", Depth="1").status == 207
    assert alice("MOVE", "other", Destination="old").status == 204
    assert alice("DELETE", "ballast").status == 204
    assert alice("GET", "old").body == b"other"
    assert alice("PUT", "old", b"newer").status == 204
    assert on(data) == {"old": 5}


def test_without_inodes_no_name_is_made_and_no_content_is_lost(tmp_path: Path) -> None:
    few = disks.mounted(tmp_path / "few", "-t", "tmpfs", "-o", "nr_inodes=6", "tmpfs")
    with few as data, running(Site(tmp_path / "site", **on_local(data))) as alice:
        assert alice("PUT", "old", b"old").status == 201
        made = 0
        while (last := alice("MKCOL", f"folder-{made}")).status == 201:
            made += 1
        assert made > 0
        copied = alice("COPY", "old", Destination="new")
        for reply in (last, alice("PUT", "new", b"n"), alice("PUT", "old", b"n"), copied):
            assert refused(reply), reply
        assert alice("GET", "old").body == b"old"
        assert alice("DELETE", "folder-0").status == 204
        assert alice("PUT", "old", b"newer").status == 204


def test_a_full_state_directory_is_said_and_costs_nothing(tmp_path: Path) -> None:
    """The data has room; what needs a row or a line in the journal is refused as unavailable, and the rest works."""
    small = disks.tmpfs(tmp_path / "state-disk", SIZE)
    with small as state, running(Site(tmp_path / "site", state_dir=str(state / "state"))) as alice:
        for name in ("old", "folder-a/x", "folder-b/y"):
            if "/" in name:
                assert alice("MKCOL", name.partition("/")[0]).status == 201
            assert alice("PUT", name, b"old").status == 201
        before = on(alice.site.data)
        ballast = disks.filled(state)
        assert alice("GET", "old").body == b"old"
        assert alice("PUT", "new", b"new").status == 201, "a new name needs no journal"
        assert alice("DELETE", "new").status == 204
        for reply in (alice("PUT", "old", b"new"), alice("COPY", "folder-a", Destination="folder-b")):
            assert reply.status == 503, reply
            assert int(reply.headers["Retry-After"]) > 0
        said = alice.site.cli("user", "add", "bob", "--password-file", "-", stdin="a-good-password")
        assert said.returncode != 0
        assert "Traceback" not in said.stderr
        assert on(alice.site.data) == before
        ballast.unlink()
        assert alice("PUT", "old", b"new").status == 204
        assert alice("COPY", "folder-a", Destination="folder-b").status == 204
        alice.site.add_user("bob", "a-good-password")
    names = [path.name for path in alice.site.data.rglob("*")]
    assert sorted(names) == ["folder-a", "folder-b", "old", "x", "x"]


def on(data: Path) -> dict[str, int]:
    """Return every file below `data`, whatever its name, with its size."""
    return {str(path.relative_to(data)): path.stat().st_size for path in data.rglob("*") if path.is_file()}
