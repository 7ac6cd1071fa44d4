"""The same story where sites differ: below a path of the host, over TLS with a private CA, without any storage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from certificates import self_signed
from pairs import BOB, Pair
from sites import Site


def tell(pair: Pair) -> None:
    """Share, accept, list, read, write, revoke; every URL comes from discovery or from the listing."""
    pair.add_users()
    folder = pair.folder("variant", a_txt=b"alpha")
    share = pair.share("variant", "read,write")
    received = pair.accept(share)
    url = pair.bobs_url(received)
    listing = pair.bob.http("PROPFIND", url, headers={"Depth": "1"}, user="bob", password=BOB)
    assert f"<d:href>{url}a.txt</d:href>".encode() in listing.body
    assert pair.bob.http("GET", url + "a.txt", user="bob", password=BOB).body == b"alpha"
    assert pair.bob.http("PUT", url + "b.txt", b"beta", user="bob", password=BOB).status == 201
    destination = {"Destination": pair.bob.url.removesuffix(pair.bob.base_path) + url + "c.txt"}
    assert pair.bob.http("MOVE", url + "b.txt", headers=destination, user="bob", password=BOB).status == 201
    assert (folder / "c.txt").read_bytes() == b"beta"
    pair.alice.json("share", "revoke", share["id"], "--as", "alice")
    pair.bob_sees(share, "revoked")


def test_a_site_below_a_path_of_its_host(tmp_path: Path) -> None:
    alice, bob = Site(tmp_path / "alice", base_path="/shared/ocm-gateway"), Site(tmp_path / "bob", base_path="/gw")
    with alice, bob:
        document = json.loads(alice.http("GET", "/.well-known/ocm").body)
        assert document["endPoint"] == f"{alice.url}/ocm"
        assert document["resourceTypes"][0]["protocols"]["webdav"] == "/shared/ocm-gateway/dav/ocm/"
        tell(Pair(alice, bob))


def test_sites_that_speak_tls_with_a_ca_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with (
        Site(tmp_path / "alice", certificate=certificate) as alice,
        Site(tmp_path / "bob", certificate=certificate) as bob,
    ):
        tell(Pair(alice, bob))


def test_sites_that_know_each_others_private_ca(tmp_path: Path) -> None:
    """The API goes by the asynchronous transport, what is in a Share by the synchronous one."""
    certificate = self_signed(tmp_path)
    known = {"allow_networks": ["127.0.0.0/8", "::1/128"], "peers": {"localhost": {"ca_file": str(certificate[0])}}}
    with (
        Site(tmp_path / "alice", certificate=certificate, federation=known) as alice,
        Site(tmp_path / "bob", certificate=certificate, federation=known) as bob,
    ):
        tell(Pair(alice, bob))


def test_a_certificate_that_nobody_vouches_for_is_named_as_the_reason(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with Site(tmp_path / "alice") as alice, Site(tmp_path / "bob", certificate=certificate) as bob:
        alice.add_user("alice", "alice-password")
        (alice.data / "x").mkdir()
        share = alice.json("share", "create", "/home/x", "--as", "alice", "--with", f"bob@{bob.server}")
        assert share["state"] == "pending"
        assert "certificate is not accepted" in share["problem"]
        assert "federation.peers.localhost.ca_file (tls)" in share["problem"]


def test_a_site_without_storage_has_users_who_receive(tmp_path: Path) -> None:
    with Site(tmp_path / "bob", backends={}, mounts=[]) as bob:
        bob.add_user("bob", BOB)
        assert bob.json("backend", "list") == []
        top = bob.http("PROPFIND", "/dav/files/bob/", headers={"Depth": "1"}, user="bob", password=BOB)
        assert (top.status, b"/dav/files/bob/received/" in top.body) == (207, True)
        assert "failed" not in bob.log.read_text()
