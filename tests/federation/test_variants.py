"""The same story where sites differ: below a path of the host, over TLS with a private CA."""

from __future__ import annotations

import datetime
import ipaddress
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
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


def test_a_certificate_that_nobody_vouches_for_is_named_as_the_reason(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with Site(tmp_path / "alice") as alice, Site(tmp_path / "bob", certificate=certificate) as bob:
        alice.add_user("alice", "alice-password")
        (alice.data / "x").mkdir()
        share = alice.json("share", "create", "/home/x", "--as", "alice", "--with", f"bob@{bob.server}")
        assert share["state"] == "pending"
        assert "certificate is not accepted" in share["problem"]


def self_signed(directory: Path) -> tuple[Path, Path]:
    """Return the files of a certificate for localhost and of its key."""
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    paths = directory / "localhost.pem", directory / "localhost.key"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths
