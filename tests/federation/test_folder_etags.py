"""ETags of folders across gateways, restarts and SIGKILL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pairs import ALICE, BOB, Pair
from sites import Site, eventually

Request = Callable[..., Any]

BODY = b'<propfind xmlns="DAV:"><prop><getetag/></prop></propfind>'


def etags(site: Site, target: str, user: str, password: str, depth: str = "0") -> dict[str, str]:
    """Return the ETags that PROPFIND shows, by href."""
    reply = site.http("PROPFIND", target, BODY, {"Depth": depth}, user=user, password=password)
    assert reply.status == 207, reply
    found = re.findall(r"<d:href>(.*?)</d:href>.*?<d:getetag>(.*?)</d:getetag>", reply.body.decode())
    return dict(found)


def test_what_is_changed_in_a_received_share_shows_at_every_step(pair: Pair, as_bob: Request) -> None:
    folder = pair.folder("etags", a_txt=b"alpha")
    (folder / "sub" / "deep").mkdir(parents=True)
    received = pair.accept(pair.share("etags", "read,write"))

    def seen() -> list[str]:
        steps = [
            ("/dav/files/bob/", "/dav/files/bob/received/"),
            ("/dav/files/bob/received/", pair.bobs_url(received)),
            (pair.bobs_url(received), pair.bobs_url(received, "sub/")),
            (pair.bobs_url(received, "sub/"), pair.bobs_url(received, "sub/deep/")),
        ]
        return [etags(pair.bob, folder, "bob", BOB, "1")[member] for folder, member in steps]

    before = seen()
    assert seen() == before
    assert as_bob("PUT", pair.bobs_url(received, "sub/deep/new.txt"), b"x").status == 201
    after = seen()
    assert all(new != old for new, old in zip(after, before, strict=True))
    root = "/dav/files/bob/received/etags/"
    shown = etags(pair.bob, root, "bob", BOB)[root]
    assert pair.alice.http("PUT", "/dav/files/alice/home/etags/sub/a", b"x", user="alice", password=ALICE).status == 201
    assert etags(pair.bob, root, "bob", BOB)[root] != shown, "the owner's change shows in the remote ETag"


FOLDERS = ("", "a/", "a/b/", "aside/")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        site.add_user("alice", ALICE)
        for folder in FOLDERS:
            (site.data / folder).mkdir(exist_ok=True)
            (site.data / folder / "file").write_bytes(b"x")
        yield site


def of_alice(site: Site) -> dict[str, str]:
    shown: dict[str, str] = {}
    for folder in FOLDERS:
        shown |= etags(site, f"/dav/files/alice/home/{folder}", "alice", ALICE)
    return shown


def put(site: Site, path: str) -> int:
    return site.http("PUT", f"/dav/files/alice/home/{path}", b"x", user="alice", password=ALICE).status


def test_etags_outlive_a_restart_while_nothing_changes(site: Site) -> None:
    assert put(site, "a/b/file") == 204
    before = of_alice(site)
    site.stop()
    site.start()
    assert of_alice(site) == before
    assert put(site, "a/b/file") == 204
    after = of_alice(site)
    assert {folder for folder in before if before[folder] == after[folder]} == {"/dav/files/alice/home/aside/"}


def test_no_change_is_missed_when_the_gateway_is_killed(site: Site) -> None:
    """A client has seen the tree; then the gateway dies while others write deep below, and comes back."""
    seen: dict[str, set[str]] = {}
    for _ in range(5):
        for folder, etag in of_alice(site).items():
            assert etag not in seen.setdefault(folder, set()), f"{folder}: an ETag came back"
            seen[folder].add(etag)
        with ThreadPoolExecutor(2) as pool:
            writing = [pool.submit(put, site, f"a/b/{number}") for number in range(8)]
            eventually(lambda: (site.data / "a" / "b" / "0").exists(), True)
            site.kill()
            for one in writing:
                one.exception()  # some have an answer, some a lost connection
        site.start()
        for path in (site.data / "a" / "b").iterdir():
            path.unlink()


@pytest.mark.parametrize("left", [f"alive/{'1' * 32}.alive", "processes/" + "2" * 32])
def test_what_an_earlier_version_has_left_when_it_was_killed_is_in_doubt_once(site: Site, left: str) -> None:
    state = site.directory / "state"
    shown = of_alice(site)
    site.stop()
    assert list((state / "processes").iterdir()) == []
    (state / left).parent.mkdir(exist_ok=True)
    (state / left).touch()
    for renewed in (True, False):
        before = shown
        site.start()
        shown = of_alice(site)
        assert {href for href in shown if shown[href] != before[href]} == (set(shown) if renewed else set())
        site.stop()
    assert (list((state / "processes").iterdir()), (state / "alive").exists()) == ([], False)


def test_changes_behind_the_back_show_in_the_running_service(site: Site) -> None:
    before = of_alice(site)
    (site.data / "a" / "b" / "file").write_bytes(b"in place")
    home = "/dav/files/alice/home/"
    eventually(lambda: etags(site, home, "alice", ALICE)[home] != before[home], True, 5)
    after = of_alice(site)
    assert {folder for folder in before if before[folder] == after[folder]} == {"/dav/files/alice/home/aside/"}


def test_watching_can_be_switched_off(tmp_path: Path) -> None:
    storage = {"type": "local", "root": str(tmp_path / "data"), "watch": 0}
    (tmp_path / "data").mkdir()
    with Site(tmp_path, backends={"storage": storage}) as site:
        assert site.process is not None
        descriptors = Path(f"/proc/{site.process.pid}/fd")
        assert not [link for link in descriptors.iterdir() if "inotify" in str(link.readlink())]
