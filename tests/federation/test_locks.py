"""Locks and dead properties over processes: they outlive a gateway, and are this gateway's own in received Shares."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from pairs import ALICE, Pair
from sites import Reply, Site

Request = Callable[..., Any]

LOCKINFO = (
    b'<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype>'
    b"<owner>alice</owner></lockinfo>"
)
PAINT = b'<propertyupdate xmlns="DAV:"><set><prop><colour xmlns="my:">red</colour></prop></set></propertyupdate>'


def as_alice(site: Site, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.http(method, f"/dav/files/alice/home/{path}", body, sent, user="alice", password=ALICE)


def rows(site: Site, table: str) -> int:
    with closing(sqlite3.connect(f"file:{site.directory}/state/state.sqlite?mode=ro", uri=True)) as database:
        (count,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)


def test_a_lock_and_a_property_are_there_after_a_kill(tmp_path: Path) -> None:
    with Site(tmp_path / "site") as site:
        site.add_user("alice", ALICE)
        assert as_alice(site, "PUT", "file", b"one").status == 201
        reply = as_alice(site, "LOCK", "file", LOCKINFO, Timeout="Second-600")
        held = f"({reply.headers['Lock-Token']})"
        assert as_alice(site, "LOCK", "new", LOCKINFO).status == 201
        assert as_alice(site, "PROPPATCH", "file", PAINT, If=held).status == 207
        site.kill()
        site.start()
        assert as_alice(site, "PUT", "file", b"two").status == 423
        assert as_alice(site, "PUT", "new", b"two").status == 423
        assert b">red<" in as_alice(site, "PROPFIND", "file", Depth="0").body
        assert as_alice(site, "PUT", "file", b"two", If=held).status == 204
        assert as_alice(site, "UNLOCK", "file", Lock_Token=reply.headers["Lock-Token"]).status == 204
        assert as_alice(site, "PUT", "file", b"three").status == 204


def test_in_received_shares_both_are_kept_here_and_end_with_the_share(pair: Pair, as_bob: Request) -> None:
    pair.folder("kept", a_txt=b"alpha", b_txt=b"beta")
    received = pair.accept(pair.share("kept", "read,write"))
    url = pair.bobs_url(received, "a.txt")
    assert as_bob("PROPPATCH", url, PAINT).status == 207
    reply = as_bob("LOCK", url, LOCKINFO)
    assert reply.status == 200
    assert as_bob("PUT", url, b"x").status == 423
    assert as_bob("PUT", url, b"mine", If=f"({reply.headers['Lock-Token']})").status == 204
    assert b">red<" in as_bob("PROPFIND", pair.bobs_url(received), Depth="1").body
    assert as_alice(pair.alice, "PUT", "kept/a.txt", b"hers").status == 204  # her gateway knows nothing of it
    assert b">red<" not in as_alice(pair.alice, "PROPFIND", "kept/a.txt").body
    new = as_bob("LOCK", pair.bobs_url(received, "new"), LOCKINFO)
    assert (new.status, (pair.alice.data / "kept" / "new").read_bytes()) == (201, b"")
    assert (rows(pair.bob, "locks"), rows(pair.bob, "properties")) == (2, 1)
    pair.bob.json("received", "leave", received["id"], "--as", "bob")
    assert (rows(pair.bob, "locks"), rows(pair.bob, "properties")) == (0, 0)


def test_properties_go_into_and_out_of_received_shares(pair: Pair, as_bob: Request) -> None:
    pair.folder("across", a_txt=b"alpha")
    received = pair.accept(pair.share("across", "read,write"))
    home = "/dav/files/bob/home"
    assert as_bob("PROPPATCH", pair.bobs_url(received, "a.txt"), PAINT).status == 207
    for method, source, target in (
        ("COPY", pair.bobs_url(received, "a.txt"), f"{home}/copied.txt"),
        ("MOVE", f"{home}/copied.txt", pair.bobs_url(received, "back.txt")),
        ("MOVE", pair.bobs_url(received, "back.txt"), pair.bobs_url(received, "again.txt")),
        ("MOVE", pair.bobs_url(received, "again.txt"), f"{home}/last.txt"),
    ):
        assert as_bob(method, source, Destination=target).status == 201, (method, source)
        assert b">red<" in as_bob("PROPFIND", target).body, target
    assert rows(pair.bob, "properties") == 2
    assert as_bob("DELETE", f"{home}/last.txt").status == 204
    assert rows(pair.bob, "properties") == 1


def test_a_folder_takes_its_properties_along_into_a_received_share(pair: Pair, as_bob: Request) -> None:
    """Each thing by its own name, whatever that is; what has the name there before loses its own."""
    folder = pair.folder("trees")
    received = pair.accept(pair.share("trees", "read,write"))
    home, before = "/dav/files/bob/home", rows(pair.bob, "properties")
    tree = ("tree/", "tree/inner/", "tree/inner/caf%C3%A9%20%231.txt")
    for path in tree:
        assert (
            as_bob(*(("MKCOL", f"{home}/{path}") if path.endswith("/") else ("PUT", f"{home}/{path}", b"x"))).status
            == 201
        )
        painted = PAINT.replace(b"red", path.encode())
        assert b"HTTP/1.1 200" in as_bob("PROPPATCH", f"{home}/{path}", painted).body
    assert as_bob("MKCOL", pair.bobs_url(received, "moved/")).status == 201
    assert as_bob("PUT", pair.bobs_url(received, "moved/older.txt"), b"x").status == 201
    for path in ("moved/", "moved/older.txt"):
        assert as_bob("PROPPATCH", pair.bobs_url(received, path), PAINT).status == 207
    for method, target, status in (("COPY", "copied/", 201), ("MOVE", "moved/", 204)):
        reply = as_bob(method, f"{home}/tree/", Destination=pair.bobs_url(received, target))
        assert reply.status == status, reply.body
        for path in tree:
            there = pair.bobs_url(received, target + path.removeprefix("tree/"))
            assert f">{path}<".encode() in as_bob("PROPFIND", there, Depth="0").body, there
        listed = as_bob("PROPFIND", pair.bobs_url(received, f"{target}inner/"), Depth="1").body
        assert all(f">{path}<".encode() in listed for path in tree[1:])
    assert rows(pair.bob, "properties") == before + 2 * len(tree)
    assert (folder / "moved/inner/caf\u00e9 #1.txt").read_bytes() == b"x"
    assert b"tree/" not in as_alice(pair.alice, "PROPFIND", "trees/moved/inner/", Depth="1").body


def test_what_the_sender_has_locked_is_refused_here(pair: Pair, as_bob: Request) -> None:
    folder = pair.folder("theirs", a_txt=b"alpha")
    received = pair.accept(pair.share("theirs", "read,write"))
    reply = as_alice(pair.alice, "LOCK", "theirs/a.txt", LOCKINFO)
    assert as_bob("PUT", pair.bobs_url(received, "a.txt"), b"x").status == 403
    assert as_bob("DELETE", pair.bobs_url(received, "a.txt")).status == 403
    assert (folder / "a.txt").read_bytes() == b"alpha"
    as_alice(pair.alice, "UNLOCK", "theirs/a.txt", Lock_Token=reply.headers["Lock-Token"])
    assert as_bob("PUT", pair.bobs_url(received, "a.txt"), b"x").status == 204


def test_a_revoked_share_leaves_no_lock_behind(pair: Pair) -> None:
    pair.folder("left", a_txt=b"alpha")
    share = pair.share("left", "read,write")
    received = pair.accept(share)
    for end in (("update", "--permissions", "read"), ("revoke",)):
        token = pair.bobs_token(received)
        headers = {"Authorization": f"Bearer {token}"}
        assert pair.alice.http("LOCK", "/dav/ocm/a.txt", LOCKINFO, headers).status == 200
        assert as_alice(pair.alice, "PUT", "left/a.txt", b"x").status == 423
        pair.alice.json("share", end[0], share["id"], *end[1:], "--as", "alice")
        assert as_alice(pair.alice, "PUT", "left/a.txt", b"x").status == 204, end
        if end[0] == "update":
            pair.alice.json("share", "update", share["id"], "--permissions", "read,write", "--as", "alice")


def test_a_disabled_user_leaves_no_lock_behind_nor_does_who_used_a_share_of_it(pair: Pair) -> None:
    pair.folder("disabled", hers=b"alpha", theirs=b"beta", others=b"gamma")
    received = pair.accept(pair.share("disabled", "read,write"))
    pair.alice.add_user("dora", ALICE)

    def as_dora(method: str, path: str, body: bytes) -> int:
        target = f"/dav/files/dora/home/disabled/{path}"
        return pair.alice.http(method, target, body, user="dora", password=ALICE).status

    assert as_alice(pair.alice, "LOCK", "disabled/hers", LOCKINFO).status == 200
    headers = {"Authorization": f"Bearer {pair.bobs_token(received)}"}
    assert pair.alice.http("LOCK", "/dav/ocm/theirs", LOCKINFO, headers).status == 200
    assert as_dora("LOCK", "others", LOCKINFO) == 200
    assert [as_dora("PUT", name, b"x") for name in ("hers", "theirs")] == [423, 423]
    assert pair.alice.cli("user", "disable", "alice").returncode == 0
    try:
        assert [as_dora("PUT", name, b"x") for name in ("hers", "theirs")] == [204, 204]
        assert as_dora("PUT", "others", b"x") == 423, "the locks of others stay"
    finally:
        assert pair.alice.cli("user", "enable", "alice").returncode == 0


def test_cadaver_locks_and_unlocks(tmp_path: Path) -> None:
    with Site(tmp_path / "site") as site:
        site.add_user("alice", ALICE)
        (site.data / "file.txt").write_text("old")
        (tmp_path / "file.txt").write_text("by its holder")
        (tmp_path / ".netrc").write_text(f"machine localhost\nlogin alice\npassword {ALICE}\n")

        def cadaver(*commands: str) -> str:
            done = subprocess.run(
                ["cadaver", f"{site.url}/dav/files/alice/home/"],
                input="\n".join([*commands, "quit"]) + "\n",
                capture_output=True,
                text=True,
                timeout=60,
                cwd=tmp_path,
                env={**os.environ, "HOME": str(tmp_path)},
            )
            return done.stdout + done.stderr

        said = cadaver("lock file.txt", "discover file.txt", "put file.txt", "propset file.txt colour blue",
                       "propget file.txt", "unlock file.txt", "lock file.txt")  # fmt: skip
        assert "failed" not in said, said
        assert "urn:uuid:" in said
        assert "colour = blue" in said
        assert (site.data / "file.txt").read_text() == "by its holder"
        (tmp_path / "file.txt").write_text("by somebody else")
        said = cadaver("put file.txt", "steal file.txt", "put file.txt")  # what it has locked before, it has forgotten
        assert "423" in said, said
        assert (site.data / "file.txt").read_text() == "by somebody else"
