"""What this gateway says of itself: at every path that some product asks, with 200 and no redirect."""

from __future__ import annotations

import pytest

from gateway.ocm.discovery import parse_discovery
from gateway.ocm.keys import JWKSet

from .served import BASE, ORIGIN, URL, Served

PATHS = ("/.well-known/ocm", "/.well-known/ocm/", "/ocm-provider", "/ocm-provider/")


@pytest.mark.parametrize("base", ["", BASE])
@pytest.mark.parametrize("path", PATHS)
def test_the_document_is_at_all_four_paths_of_the_host_and_of_the_base(served: Served, base: str, path: str) -> None:
    """A proxy passes on the one or the other (wire.md, Discovery)."""
    reply = served.request("GET", base + path)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.json == served.request("GET", PATHS[0]).json
    assert served.request("HEAD", base + path).status == 200


def test_what_it_says_is_what_there_is(served: Served) -> None:
    discovery = parse_discovery(served.request("GET", PATHS[0]).body, f"{ORIGIN}{PATHS[0]}")
    assert discovery.enabled
    assert (discovery.api_version, discovery.end_point) == ("1.5.0", f"{URL}/ocm")
    assert discovery.webdav_path("folder") == f"{BASE}/dav/ocm/"
    assert (discovery.token_end_point, discovery.jwks_uri) == (f"{URL}/ocm/token", f"{URL}/ocm/jwks")
    assert discovery.capabilities == {"exchange-token", "http-sig", "invites", "notifications", "protocol-object"}
    assert discovery.criteria == frozenset()
    assert discovery.invite_accept_dialog == f"{URL}/accept-invite"
    for url, method in ((discovery.jwks_uri, "GET"), (discovery.token_end_point, "POST")):
        assert url is not None
        assert served.request(method, url.removeprefix(ORIGIN)).status != 404


@pytest.mark.parametrize(
    ("agent", "version"),
    [
        ("Nextcloud Server Crawler", "1.1"),
        ("Nextcloud-Server-Crawler/34.0.0", "1.5.0"),
        ("nextcloud server crawler", "1.5.0"),
        ("Nextcloud Server Crawler ", "1.1"),
        ("curl/8", "1.5.0"),
        ("", "1.5.0"),
    ],
)
def test_nextcloud_up_to_31_sees_the_version_that_it_takes(served: Served, agent: str, version: str) -> None:
    """It refuses a newer one, and caches that for a day (peers.md, section 10, trap 3)."""
    reply = served.request("GET", "/ocm-provider/", headers={"User-Agent": agent})
    assert reply.json["apiVersion"] == version
    assert reply.json["version"] == "1.5.0"


@pytest.mark.parametrize("path", [f"{BASE}/ocm/jwks", "/.well-known/jwks.json", f"{BASE}/.well-known/jwks.json"])
def test_the_keys_are_public_and_usable(served: Served, path: str) -> None:
    reply = served.request("GET", path)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("application/jwk-set+json")
    keys = JWKSet.parse(reply.body)
    assert not keys.unusable
    assert {key.alg for key in keys} == {"Ed25519", "ES256"}
    assert all(key.kid.startswith(f"{ORIGIN}/ocm#") for key in keys)
    assert b'"d"' not in reply.body


@pytest.mark.parametrize("target", ["/.well-known/ocm?x=1", "/.well-known/ocm?", f"https://evil.example{PATHS[0]}"])
def test_a_query_or_a_foreign_host_makes_no_difference(served: Served, target: str) -> None:
    reply = served.request("GET", target, headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    assert reply.status == 200
    assert reply.json["endPoint"] == f"{URL}/ocm"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_document_is_only_read(served: Served, path: str, method: str) -> None:
    assert served.request(method, path, b"{}").status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/ocs-provider/",
        "/status.php",
        "/ocm-provider/index.php",
        "/ocm/shares",
        "/ocm",
        f"{BASE}/ocm",
        f"{BASE}/ocm/",
        f"{BASE}/ocm/shares/",
        f"{BASE}/ocm/shares/1",
        "/.well-known/",
        "/.well-known/ocm/x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_not_served_is_not_there(served: Served, path: str, method: str) -> None:
    """`/status.php` and `/ocs-provider/` would make Nextcloud and ownCloud remove mounts (peers.md, section 3b)."""
    assert served.request(method, path, b"{}" if method == "POST" else None).status == 404
