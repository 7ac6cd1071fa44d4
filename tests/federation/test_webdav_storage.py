"""Storage that is another server's: what is shared of it is read and written from the other gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_link import FaultyLink
from pairs import ALICE, BOB, Pair
from rclone_client import RcloneClient
from sites import Site, eventually, log_lines

from tests.backends.webdav_servers import PASSWORD, USER, rclone_webdav

CONTENT = bytes(range(256)) * 20_000  # 5 MB


@pytest.fixture(scope="module")
def link(rclone: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FaultyLink, Path]]:
    """A link to `rclone serve webdav`, and the directory of the site whose data it serves."""
    directory = tmp_path_factory.mktemp("alice")
    with rclone_webdav(rclone, directory) as url, FaultyLink(int(url.rpartition(":")[2])) as made:
        yield made, directory


@pytest.fixture(scope="module")
def pair(link: tuple[FaultyLink, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two sites, of which alice's has no files of its own."""
    carried, directory = link
    (directory / "password").write_text(PASSWORD)
    url = f"http://localhost:{carried.port}/"
    remote = {"type": "webdav", "url": url, "user": USER, "password_file": str(directory / "password")}
    alice = Site(
        directory, backends={"remote": remote}, mounts=[{"name": "home", "backend": "remote", "rights": "write"}]
    )
    with alice, Site(tmp_path_factory.mktemp("bob")) as bob:
        pair = Pair(alice, bob)
        pair.add_users()
        yield pair
        for site in (alice, bob):
            log = site.log.read_text()
            assert "Traceback" not in log, log
            assert PASSWORD not in log, "a secret stands in a log"


def test_a_share_of_it_is_read_and_written_from_the_other_gateway(
    pair: Pair, as_bob: Callable[..., Any], rclone: str, tmp_path: Path
) -> None:
    """By plain requests and by rclone; seen where the files really are."""
    folder = pair.folder("run42", notes_txt=b"Beam test", big=CONTENT)
    received = pair.accept(pair.share("run42", "read,write"))
    url = pair.bobs_url(received)
    assert as_bob("GET", f"{url}notes.txt").body == b"Beam test"
    assert as_bob("GET", f"{url}big").body == CONTENT
    assert as_bob("PUT", f"{url}notes.txt", CONTENT).status == 204
    assert as_bob("MKCOL", f"{url}made").status == 201
    assert as_bob("MOVE", f"{url}notes.txt", Destination=f"{pair.bob.url}{url}made/notes").status == 201
    assert as_bob("DELETE", f"{url}big").status == 204
    assert (folder / "made" / "notes").read_bytes() == CONTENT
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "one").write_bytes(CONTENT)
    RcloneClient(rclone, f"{pair.bob.url}{url}", "bob", BOB)("copy", tmp_path / "local", "dav:made")
    assert (folder / "made" / "one").read_bytes() == CONTENT
    assert sorted(one.name for one in folder.rglob("*")) == ["made", "notes", "one"]


def test_the_log_says_at_the_start_what_is_wrong(link: tuple[FaultyLink, Path], tmp_path: Path) -> None:
    """By the keys that it is about; and the gateway starts."""
    (tmp_path / "guess").write_text("guess")
    url = f"http://localhost:{link[0].port}/"
    remote = {"type": "webdav", "url": url, "user": USER, "password_file": str(tmp_path / "guess")}
    with Site(tmp_path, backends={"remote": remote}, mounts=[]) as site:

        def said() -> list[str]:
            return [line for line in log_lines(site.log) if "storage is away" in line]

        eventually(lambda: len(said()), 1)  # the doors open before
        (line,) = said()
    assert "the server judges backends.remote.user and backends.remote.password_file" in line


def test_the_operator_is_told_which_storage_is_away_and_users_wait_for_nothing(
    pair: Pair, link: tuple[FaultyLink, Path], as_bob: Callable[..., Any]
) -> None:
    carried, _ = link
    for method, name, body in (("MKCOL", "away", None), ("PUT", "away/file", b"x")):
        assert (
            pair.alice.http(method, f"/dav/files/alice/home/{name}", body, user="alice", password=ALICE).status == 201
        )
    url = pair.bobs_url(pair.accept(pair.share("away")))
    assert pair.alice.json("backend", "list") == [{"name": "remote", "type": "webdav", "problem": None}]
    carried.down()
    (status,) = pair.alice.json("backend", "list")
    assert status["problem"].startswith("backends.remote: PROPFIND /: localhost:")
    assert as_bob("GET", f"{url}file").status == 503
    carried.up()
    eventually(lambda: as_bob("GET", f"{url}file").body, b"x")
