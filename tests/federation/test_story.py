"""The main job: a folder of alice's is shared, accepted, read, written and taken back, over the real protocol."""

from __future__ import annotations

import http.client
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pairs import BOB, Pair
from rclone_client import RcloneClient
from sites import eventually

Request = Callable[..., Any]


def test_a_share_is_signed_taken_accepted_and_both_sides_say_so(pair: Pair) -> None:
    pair.folder("story", a_txt=b"alpha")
    share = pair.share("story", "read,write")
    assert {
        "id",
        "provider_id",
        "share_with",
        "name",
        "permissions",
        "protocols",
        "state",
        "expiration",
    } <= share.keys()
    assert (share["permissions"], share["protocols"], share["expiration"]) == (["read", "write"], ["webdav"], None)
    received = pair.received(share)
    assert {"id", "provider_id", "name", "sender", "state", "permissions", "mount"} <= received.keys()
    assert received["state"] == "pending"
    assert received["mount"] is None
    assert received["evidence"] == "rfc9421"
    assert received["sender"] == f"alice@{pair.alice.server}"
    accepted = pair.accept(share)
    assert accepted["mount"] == "/received/story"
    actions = [event["action"] for event in pair.sent(share)["events"]]
    assert actions == ["share.create", "share delivered", "SHARE_ACCEPTED"]


def test_an_accepted_share_is_listed_read_and_written_in_the_receivers_tree(pair: Pair, as_bob: Request) -> None:
    folder = pair.folder("work", a_txt=b"alpha")
    received = pair.accept(pair.share("work", "read,write"))
    top = as_bob("PROPFIND", "/dav/files/bob/received/", Depth="1")
    assert top.status == 207
    assert b"/dav/files/bob/received/work/" in top.body
    listing = as_bob("PROPFIND", pair.bobs_url(received), Depth="1")
    assert b"/dav/files/bob/received/work/a.txt" in listing.body
    assert as_bob("GET", pair.bobs_url(received, "a.txt")).body == b"alpha"
    assert as_bob("GET", pair.bobs_url(received, "a.txt"), Range="bytes=1-2").body == b"lp"
    assert as_bob("PUT", pair.bobs_url(received, "b.txt"), b"beta").status == 201
    assert (folder / "b.txt").read_bytes() == b"beta"
    assert as_bob("PUT", pair.bobs_url(received, "b.txt"), b"better").status == 204
    assert (folder / "b.txt").read_bytes() == b"better"
    assert as_bob("MKCOL", pair.bobs_url(received, "sub")).status == 201
    destination = pair.bob.url + pair.bobs_url(received, "sub/b.txt")
    assert as_bob("MOVE", pair.bobs_url(received, "b.txt"), Destination=destination).status == 201
    assert (folder / "sub" / "b.txt").read_bytes() == b"better"
    assert as_bob("DELETE", pair.bobs_url(received, "sub")).status == 204
    assert not (folder / "sub").exists()


def test_a_read_only_share_refuses_every_writing_verb_with_403(pair: Pair, as_bob: Request) -> None:
    folder = pair.folder("readonly", a_txt=b"alpha")
    received = pair.accept(pair.share("readonly", "read"))
    url = pair.bobs_url(received, "a.txt")
    refused = {
        "PUT": as_bob("PUT", url, b"x"),
        "DELETE": as_bob("DELETE", url),
        "MKCOL": as_bob("MKCOL", pair.bobs_url(received, "d")),
        "MOVE": as_bob("MOVE", url, Destination=pair.bob.url + pair.bobs_url(received, "c.txt")),
        "COPY": as_bob("COPY", url, Destination=pair.bob.url + pair.bobs_url(received, "c.txt")),
        "PROPPATCH": as_bob("PROPPATCH", url, b'<propertyupdate xmlns="DAV:"/>'),
    }
    assert {verb: reply.status for verb, reply in refused.items()} == dict.fromkeys(refused, 403)
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    assert as_bob("GET", url).body == b"alpha"


def test_the_rights_are_the_senders_to_keep_even_if_the_receivers_server_ignores_them(pair: Pair) -> None:
    """The token that alice's server issues for a read-only Share opens no writing there."""
    pair.folder("kept", a_txt=b"alpha")
    share = pair.share("kept", "read")
    received = pair.accept(share)
    token = pair.bobs_token(received)
    target = f"/dav/ocm/{share['id']}/a.txt"
    bearer = {"Authorization": f"Bearer {token}"}
    assert pair.alice.http("GET", target, headers=bearer).body == b"alpha"
    assert pair.alice.http("PUT", target, b"x", bearer).status == 403


def test_a_shared_file_is_itself_the_root(pair: Pair, as_bob: Request) -> None:
    (pair.alice.data / "single.csv").write_bytes(b"1,2,3")
    share = pair.share("single.csv", "read,write")
    assert share["resource_type"] == "file"
    received = pair.accept(share)
    assert received["mount"] == "/received/single.csv"
    url = pair.bobs_url(received).rstrip("/")
    got = as_bob("GET", url)
    assert (got.body, got.headers["Content-Type"]) == (b"1,2,3", "text/csv")
    assert as_bob("PUT", url, b"4,5,6").status == 204
    assert (pair.alice.data / "single.csv").read_bytes() == b"4,5,6"


def test_names_that_are_not_utf8_pass_through_both_gateways(pair: Pair, as_bob: Request) -> None:
    folder = pair.folder("bytes")
    with open(os.fsencode(folder) + b"/caf\xe9 \x01%41.txt", "wb") as file:
        file.write(b"latin")
    received = pair.accept(pair.share("bytes", "read,write"))
    href = pair.bobs_url(received, "caf%E9%20%01%2541.txt")
    assert href.encode() in as_bob("PROPFIND", pair.bobs_url(received), Depth="1").body
    assert as_bob("GET", href).body == b"latin"
    assert as_bob("PUT", pair.bobs_url(received, "%FF%FE"), b"raw").status == 201
    assert b"\xff\xfe" in os.listdir(os.fsencode(folder))


def test_two_shares_of_one_name_both_appear(pair: Pair) -> None:
    pair.folder("twins")
    first = pair.accept(pair.share("twins"))
    second = pair.accept(pair.share("twins"))
    assert (first["mount"], second["mount"]) == ("/received/twins", "/received/twins (2)")


def test_revoking_refuses_new_requests_within_a_second_at_both_sites(pair: Pair, as_bob: Request) -> None:
    pair.folder("revoked", a_txt=b"alpha")
    share = pair.share("revoked")
    received = pair.accept(share)
    assert as_bob("GET", pair.bobs_url(received, "a.txt")).status == 200
    token = pair.bobs_token(received)
    pair.alice.json("share", "revoke", share["id"], "--as", "alice")
    time.sleep(1)
    bearer = {"Authorization": f"Bearer {token}"}
    assert pair.alice.http("GET", f"/dav/ocm/{share['id']}/a.txt", headers=bearer).status == 401
    assert as_bob("GET", pair.bobs_url(received, "a.txt")).status in (403, 404)
    pair.bob_sees(share, "revoked")
    assert pair.sent(share)["state"] == "revoked"


def test_revoking_cuts_a_running_download_within_five_seconds(pair: Pair) -> None:
    folder = pair.folder("running")
    size = 64 * 1024 * 1024
    with (folder / "big").open("wb") as file:
        file.truncate(size)
    share = pair.share("running")
    received = pair.accept(share)
    token = pair.bobs_token(received)
    connection = pair.alice.connect()
    connection.request("GET", f"/dav/ocm/{share['id']}/big", headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    assert answer.status == 200
    answer.read(1024)
    pair.alice.json("share", "revoke", share["id"], "--as", "alice")
    revoked = time.monotonic()
    received = 1024 + _read_slowly(answer, until=revoked + 5)
    assert received < size, "the download ran to its end"
    assert time.monotonic() - revoked < 5
    connection.close()


def test_declining_and_leaving_reach_the_sender(pair: Pair, as_bob: Request) -> None:
    pair.folder("declined")
    declined = pair.share("declined")
    pair.bob.json("received", "decline", pair.received(declined)["id"], "--as", "bob")
    pair.alice_sees(declined, "declined")
    left = pair.share("declined")
    received = pair.accept(left)
    pair.bob.json("received", "leave", received["id"], "--as", "bob")
    pair.alice_sees(left, "declined")
    assert as_bob("PROPFIND", pair.bobs_url(received), Depth="0").status == 404


def test_changed_permissions_reach_the_receiver_and_bite_at_once(pair: Pair, as_bob: Request) -> None:
    pair.folder("changed", a_txt=b"alpha")
    share = pair.share("changed", "read,write")
    received = pair.accept(share)
    assert as_bob("PUT", pair.bobs_url(received, "a.txt"), b"beta").status == 204
    pair.alice.json("share", "update", share["id"], "--permissions", "read", "--as", "alice")
    eventually(lambda: pair.received(share)["permissions"], ["read"])
    assert as_bob("PUT", pair.bobs_url(received, "a.txt"), b"gamma").status == 403


def test_an_expired_share_is_refused_at_access(pair: Pair, as_bob: Request) -> None:
    pair.folder("expiring", a_txt=b"alpha")
    share = pair.share("expiring")
    received = pair.accept(share)
    token = pair.bobs_token(received)
    soon = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 5))
    pair.alice.json("share", "update", share["id"], "--expires", soon, "--as", "alice")
    bearer = {"Authorization": f"Bearer {token}"}
    target = f"/dav/ocm/{share['id']}/a.txt"
    eventually(lambda: pair.alice.http("GET", target, headers=bearer).status, 401)
    assert as_bob("GET", pair.bobs_url(received, "a.txt")).status in (403, 404)
    assert pair.sent(share)["state"] == "expired"


def test_a_disabled_owner_shares_nothing(pair: Pair) -> None:
    pair.folder("disabled", a_txt=b"alpha")
    share = pair.share("disabled")
    received = pair.accept(share)
    bearer = {"Authorization": f"Bearer {pair.bobs_token(received)}"}
    target = f"/dav/ocm/{share['id']}/a.txt"
    assert pair.alice.http("GET", target, headers=bearer).status == 200
    assert pair.alice.cli("user", "disable", "alice").returncode == 0
    try:
        assert pair.alice.http("GET", target, headers=bearer).status == 401
    finally:
        assert pair.alice.cli("user", "enable", "alice").returncode == 0
    assert pair.alice.http("GET", target, headers=bearer).status == 200


def test_a_folder_in_the_place_of_a_shared_one_is_never_served(pair: Pair, as_bob: Request) -> None:
    folder = pair.folder("original", a_txt=b"alpha")
    share = pair.share("original")
    received = pair.accept(share)
    folder.rename(pair.alice.data / "elsewhere")
    pair.folder("original", secret_txt=b"not for bob")
    reply = as_bob("GET", pair.bobs_url(received, "secret.txt"))
    assert reply.status == 503
    assert "Retry-After" in reply.headers
    assert pair.sent(share)["state"] == "missing"


def test_a_share_follows_its_folder_when_it_is_moved_through_the_gateway(pair: Pair, as_bob: Request) -> None:
    pair.folder("before", a_txt=b"alpha")
    share = pair.share("before")
    received = pair.accept(share)
    destination = {"Destination": f"{pair.alice.url}/dav/files/alice/home/after"}
    moved = pair.alice.http(
        "MOVE", "/dav/files/alice/home/before", headers=destination, user="alice", password="alice-password"
    )
    assert moved.status == 201
    assert as_bob("GET", pair.bobs_url(received, "a.txt")).body == b"alpha"


class TestClients:
    """What people use: curl, rclone and cadaver, on the receiver's own server."""

    def test_curl(self, pair: Pair) -> None:
        folder = pair.folder("curl", a_txt=b"alpha")
        received = pair.accept(pair.share("curl", "read,write"))
        url = pair.bob.url + pair.bobs_url(received)
        curl = ("curl", "--silent", "--show-error", "--fail", "--user", f"bob:{BOB}")
        assert _run(*curl, f"{url}a.txt") == "alpha"
        _run(*curl, "--upload-file", "-", f"{url}b.txt", stdin="beta")
        assert (folder / "b.txt").read_text() == "beta"

    def test_rclone(self, pair: Pair, tmp_path: Path, rclone: str) -> None:
        folder = pair.folder("rclone", a_txt=b"alpha")
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "x").write_bytes(os.urandom(300_000))
        received = pair.accept(pair.share("rclone", "read,write"))
        bobs = RcloneClient(rclone, pair.bob.url + pair.bobs_url(received), "bob", BOB)
        bobs("copy", "dav:", tmp_path / "copy")
        assert (tmp_path / "copy/deep/er/x").read_bytes() == (folder / "deep/er/x").read_bytes()
        (tmp_path / "copy/new").write_bytes(b"new")
        bobs("sync", tmp_path / "copy", "dav:")
        assert (folder / "new").read_bytes() == b"new"
        bobs("deletefile", "dav:new")
        assert not (folder / "new").exists()

    def test_cadaver(self, pair: Pair, tmp_path: Path) -> None:
        folder = pair.folder("cadaver", a_txt=b"alpha")
        received = pair.accept(pair.share("cadaver", "read,write"))
        netrc = tmp_path / ".netrc"
        netrc.write_text(f"machine localhost\nlogin bob\npassword {BOB}\n")
        netrc.chmod(0o600)
        (tmp_path / "up.txt").write_text("uploaded")
        script = f"ls\nget a.txt {tmp_path}/down.txt\nput {tmp_path}/up.txt\nmkcol made\ndelete a.txt\nquit\n"
        url = pair.bob.url + pair.bobs_url(received)
        environment = os.environ | {"HOME": str(tmp_path)}
        _run("cadaver", url, stdin=script, env=environment)
        assert (tmp_path / "down.txt").read_bytes() == b"alpha"
        assert (folder / "up.txt").read_text() == "uploaded"
        assert (folder / "made").is_dir()
        assert not (folder / "a.txt").exists()


def _read_slowly(answer: http.client.HTTPResponse, until: float) -> int:
    """Read, slowly enough that 64 MiB would take 40 s, until the answer is cut off or the time is over."""
    count = 0
    with suppress(http.client.IncompleteRead, ConnectionError):
        while time.monotonic() < until and (piece := answer.read(16 * 1024)):
            count += len(piece)
            time.sleep(0.01)
    return count


def _run(*command: str, stdin: str | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
    return done.stdout
