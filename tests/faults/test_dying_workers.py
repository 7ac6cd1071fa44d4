"""SIGKILL to one worker in the middle of COPY or MOVE over a folder, while another lives and goes on."""

from __future__ import annotations

import base64
import http.client
import json
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from planted import Shown, disk, plant
from sites import Site, eventually
from spread import connections, workers

from .test_replacing import FOLDER, OTHER

PASSWORD = "alice-password"
HOME = "/dav/files/alice/home"
AUTHORIZATION = {"Authorization": "Basic " + base64.b64encode(f"alice:{PASSWORD}".encode()).decode()}
SETTLED = 60.0  # seconds that a replacement may take to start, after several deaths in a row, and to settle
PAINT = b'<propertyupdate xmlns="DAV:"><set><prop><c:colour xmlns:c="my:">%s</c:colour></prop></set></propertyupdate>'

Point = tuple[str, int, bool]  # method of the storage, calls of it that pass, and whether the next is made

MOVE_POINTS: list[Point] = [
    ("rename", 0, False),  # nothing is done
    ("rename", 0, True),  # the old content is set aside
    ("rename", 1, True),  # the new has its name
    ("remove", 1, True),  # some of the old is gone
]
COPY_POINTS: list[Point] = [("make_directory", 0, True), ("copy", 0, True), *MOVE_POINTS]


class Mortal(Site):
    """A site of two workers, each of which can be told to die."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, workers=2, log={"format": "json"})
        self._order = directory / "order"

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.faults.dying_worker", str(self._order), "--config", str(self.config)]

    def let_die(self, point: Point) -> None:
        written = self._order.with_suffix(".new")
        written.write_text(json.dumps(point))
        written.rename(self._order)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Mortal]:
    with Mortal(tmp_path / "site") as site:
        eventually(lambda: len(workers(site)), 2)
        eventually(lambda: "ocm-gateway is ready" in site.log.read_text(), True)
        site.add_user("alice", PASSWORD)
        yield site


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None, **headers: str
) -> int:
    connection.request(method, f"{HOME}/{path}", body, AUTHORIZATION | headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def kept_by_path(site: Site, base: str) -> tuple[dict[str, str], list[str]]:
    """Return what colour each path below `base` has, and where the Shares are, as the state has them."""
    with closing(sqlite3.connect(site.directory / "state" / "state.sqlite", timeout=30)) as state:
        colours = {
            path.decode(): value.partition(">")[2].partition("<")[0]
            for path, value in state.execute("SELECT path, value FROM properties")
            if path.startswith(base.encode())
        }
        shares = [path.decode() for (path,) in state.execute("SELECT path FROM sent_shares")]
        return colours, sorted(path for path in shares if path.startswith(base))


def rows(site: Site) -> int:
    with closing(sqlite3.connect(site.directory / "state" / "state.sqlite", timeout=30)) as state:
        return sum(state.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("replacements", "moves"))


def below(root: Path, base: str) -> Shown:
    return {path: content for path, content in disk(root).items() if path.startswith(f"{base}/")}


def renamed(what: Mapping[str, bytes | None], name: str) -> Shown:
    return {f"{name}{path}": content for path, content in what.items()}


@pytest.mark.parametrize("moves_on", [False, True], ids=["in its place", "moved on"])
@pytest.mark.parametrize(("method", "points"), [("COPY", COPY_POINTS), ("MOVE", MOVE_POINTS)], ids=["COPY", "MOVE"])
def test_the_other_worker_goes_on_and_what_was_interrupted_becomes_whole(site, method, points, moves_on):
    """The folder that all lies in is moved by the other worker, before anybody settles or while somebody does."""
    for number, point in enumerate(points):
        base, after = f"round{number}", f"round{number}-moved" if moves_on else f"round{number}"
        (site.data / base).mkdir()
        plant(site.data, f"{base}/new", FOLDER)
        plant(site.data, f"{base}/old", OTHER)
        site.json("share", "create", f"/home/{base}/new/deep", "--as", "alice", "--with", "bob@localhost:1")
        with connections(site) as each:
            oldest, other = (each[pid] for pid in sorted(each))
            for name in ("new", "old"):
                assert ask(other, "PROPPATCH", f"{base}/{name}", PAINT % name.encode()) == 207
            site.let_die(point)
            with pytest.raises((http.client.HTTPException, OSError)):
                ask(oldest, method, f"{base}/new", Destination=f"{HOME}/{base}/old")
            assert ask(other, "PUT", f"{base}/meanwhile", b"meanwhile") == 201
            if moves_on:
                assert ask(other, "MOVE", base, Destination=f"{HOME}/{after}") == 201
            assert ask(other, "GET", f"{after}/meanwhile") == 200
            eventually(lambda: rows(site), 0, SETTLED)
            check(site, after, method, point)
        assert not below(site.data, base) or not moves_on
        eventually(lambda: len(workers(site)), 2)
    assert "dav.failed" not in site.log.read_text()


def check(site: Site, base: str, method: str, point: Point) -> None:
    """See that all is as it was or as it was to be, in the storage and in the state."""
    has_come = point in MOVE_POINTS[2:]
    stays = {f"{base}/meanwhile": b"meanwhile"}
    source = renamed(FOLDER, f"{base}/new") if method == "COPY" or not has_come else {}
    target = renamed(FOLDER if has_come else OTHER, f"{base}/old")
    assert below(site.data, base) == stays | source | target, point
    colours, shares = kept_by_path(site, base)
    if method == "MOVE":
        assert colours == ({f"{base}/old": "new"} if has_come else {f"{base}/new": "new", f"{base}/old": "old"})
        assert shares == [f"{base}/{'old' if has_come else 'new'}/deep"]
        return
    assert colours.pop(f"{base}/new") == "new"
    # Who died before the properties came along has left none, and never those of what was replaced.
    brought = {f"{base}/old": "new"} if point[0] == "remove" else {}
    assert colours == (brought if has_come else {f"{base}/old": "old"}), point
    assert shares == [f"{base}/new/deep"]
