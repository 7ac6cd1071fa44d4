"""Our discovery document, read as each product reads it (peers.md, section 1): from a gateway that runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from sites import Site

CRAWLER = {"User-Agent": "Nextcloud Server Crawler"}
Document = dict[str, Any]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site"), base_path="/gw") as site:
        yield site


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    federation = {"plain_discovery": True, "allow_http": ["localhost"]}
    with Site(tmp_path_factory.mktemp("plain"), federation=federation) as site:
        yield site


def fetch(site: Site, path: str, headers: dict[str, str] | None = None) -> Document:
    reply = site.http("GET", path, headers=headers)
    assert reply.status == 200
    return dict(json.loads(reply.body))


def authority(url: str) -> str:
    return urlsplit(url).netloc


def nextcloud_31(site: Site) -> None:
    """It takes three versions alone, and `webdav` of the entry `file` as a string."""
    document = fetch(site, "/ocm-provider/", CRAWLER)
    assert ".".join(document["apiVersion"].split(".")[:2]) in ("1.0-proposal1", "1.0", "1.1")
    file = next(entry for entry in document["resourceTypes"] if entry["name"] == "file")
    assert isinstance(file["protocols"]["webdav"], str)
    assert document["endPoint"]


def nextcloud_35(site: Site) -> None:
    """It reads no more than eight levels, and URLs only with their capabilities."""
    document = fetch(site, "/.well-known/ocm", {"User-Agent": "Nextcloud-Server-Crawler/35.0.0"})
    assert depth(document) <= 8
    assert {"exchange-token", "http-sig"} <= set(document["capabilities"])
    assert document["tokenEndPoint"]
    assert document["jwksUri"]


def owncloud_10(site: Site) -> None:
    """It wants `enabled` to be true itself and uses `endPoint` as it stands."""
    document = fetch(site, "/ocm-provider/")
    assert document["enabled"] is True
    entries = document.get("shareTypes") or document["resourceTypes"]
    assert isinstance(next(entry for entry in entries if entry["name"] == "file")["protocols"]["webdav"], str)
    assert document["endPoint"].startswith("http")
    assert not document["endPoint"].endswith("/")


def reva(site: Site) -> None:
    """It looks for an entry of the Share's own type, with the protocol that it uses."""
    document = fetch(site, "/.well-known/ocm")
    protocols = {entry["name"]: entry["protocols"] for entry in document["resourceTypes"]}
    assert isinstance(protocols["file"]["webdav"], str)
    assert protocols["folder"] == protocols["file"]
    assert authority(document["tokenEndPoint"]) == site.server, "looked for at the origin of webdav.uri"


def seafile(site: Site) -> None:
    """It reads the first entry, whatever that is."""
    document = fetch(site, "/ocm-provider/")
    assert document["resourceTypes"][0]["name"] == "file"
    assert isinstance(document["resourceTypes"][0]["protocols"]["webdav"], str)


def ocm_go(site: Site) -> None:
    """Everything is at the authority that it asked, and what belongs together is there together."""
    document = fetch(site, "/.well-known/ocm")
    for name in ("endPoint", "tokenEndPoint", "jwksUri"):
        assert authority(document[name]) == site.server
    assert ("tokenEndPoint" in document) == ("exchange-token" in document["capabilities"])
    for entry in document["resourceTypes"]:
        assert entry["protocols"].get("webdav-receive", {"uri": "relative"})["uri"] in ("absolute", "relative")


def ocm_go_sends_relative(site: Site) -> None:
    """Asked for absolute URIs, it would build them from our own document (section 10, trap 24)."""
    receive = [entry["protocols"]["webdav-receive"] for entry in fetch(site, "/.well-known/ocm")["resourceTypes"]]
    assert receive == [{"uri": "relative"}] * 2


def nobody_is_shut_out(site: Site) -> None:
    """Each criterion shuts out most of today's products, and `group` is listed only where it works."""
    document = fetch(site, "/.well-known/ocm")
    assert not document.get("criteria")
    assert all(entry["shareTypes"] == ["user"] for entry in document["resourceTypes"])


def opencloud_wayf(site: Site) -> None:
    """Its list of providers decodes the protocols as strings and fails as a whole on anything else."""
    for entry in fetch(site, "/.well-known/ocm")["resourceTypes"]:
        assert all(isinstance(value, str) for value in entry["protocols"].values())


def depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


READERS: tuple[Callable[[Site], None], ...] = (nextcloud_31, nextcloud_35, owncloud_10, reva, seafile, ocm_go)


@pytest.mark.parametrize("reads", [*READERS, ocm_go_sends_relative, nobody_is_shut_out], ids=lambda read: read.__name__)
def test_each_product_can_read_it(site: Site, reads: Callable[[Site], None]) -> None:
    reads(site)


@pytest.mark.parametrize("reads", [*READERS, opencloud_wayf], ids=lambda read: read.__name__)
def test_each_product_can_read_the_plain_one(plain: Site, reads: Callable[[Site], None]) -> None:
    """`federation.plain_discovery` (section 10, trap 6)."""
    reads(plain)
