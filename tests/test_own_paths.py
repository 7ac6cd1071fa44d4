"""One table says what is ours: the doors serve nothing outside of it, and nothing of it goes to another server."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.api.door import ApiDoor
from gateway.config import Config
from gateway.dav.door import DavDoor
from gateway.own_paths import ACCEPT_INVITE, API, DAV, DISCOVERY, JWKS, TREES, OwnPaths
from gateway.web.inviting import AcceptInvitePage

OURS = [
    *TREES,
    *(f"{tree}/" for tree in TREES),
    *(f"{tree}/below?query" for tree in TREES),
    *("/ocm/shares", "/ocm/not-built", "/ocm-provider/index.php", "/.well-known/ocm/x"),
    *("//ocm/shares", "/ocm//shares", "/dav//files/alice", "/%6fcm/shares", "/dav/%66iles/x", "/%2Ewell-known/ocm"),
    *("/x/../ocm/shares", "/./ocm", "/ocm/../x", "/dav/./ocm/x", "/x/%2e%2e/dav/ocm", "http://any.host/ocm", "/ocm#x"),
]
THEIRS = [
    *(
        "/",
        "",
        "*",
        "//",
        "/index.html",
        "/dav",
        "/dav/",
        "/dav/x/ocm",
        "/davocm",
        "/ocmx",
        "/OCM",
        "/ocm.php",
        "/x/ocm",
    ),
    *(
        "/.well-known",
        "/.well-known/ocm2",
        "/.well-known/jwks",
        "/status.php",
        "/ocs-provider/",
        "/ocm%2Fshares",
        "/?/ocm",
    ),
    *("http://any.host/", "http://any.host", "/../", "/#/ocm"),
]


@pytest.mark.parametrize("target", OURS)
def test_what_is_ours(target: str) -> None:
    assert OwnPaths("", has_upstream=True).include(target)


@pytest.mark.parametrize("target", THEIRS)
def test_what_is_not(target: str) -> None:
    assert not OwnPaths("", has_upstream=True).include(target)


@pytest.mark.parametrize(
    ("target", "ours"),
    [
        *[("/gw", True), ("/gw/", True), ("/gw/anything", True), ("/gw/ocm/shares", True), ("//gw//x", True)],
        *[("/.well-known/ocm", True), ("/ocm-provider/", True), ("/.well-known/jwks.json", True)],
        *[("/", False), ("/ocm/shares", False), ("/dav/files/x", False), ("/gwx", False), ("/x/gw", False)],
    ],
)
def test_below_a_path_of_public_url_all_is_ours_and_elsewhere_discovery(target: str, ours: bool) -> None:
    assert OwnPaths("/gw", has_upstream=True).include(target) == ours


@pytest.mark.parametrize(
    ("base_path", "has_upstream", "pages"),
    [("", False, ("/",)), ("", True, ()), ("/gw", False, ("/", "/gw/")), ("/gw", True, ("/gw/",))],
)
def test_the_page_at_the_root_is_the_other_servers(base_path: str, has_upstream: bool, pages: tuple[str, ...]) -> None:
    assert OwnPaths(base_path, has_upstream=has_upstream).pages == pages


# --- and the doors --------------------------------------------------------------------------------------------------


def routed(base_path: str) -> web.UrlDispatcher:
    """Return the router with every door but the page at `/`, of which OwnPaths itself says where it is."""
    nobody: Any = None
    router = web.Application().router
    ApiDoor(*(nobody,) * 12, document={}, origin="", base_path=base_path).add_routes(router)
    dav = DavDoor(*(nobody,) * 8, base_path=base_path, origin="http://nas", like=nobody)
    dav.add_routes(router)
    config = SimpleNamespace(base_path=base_path, public_url="http://nas", provider="", server="")
    AcceptInvitePage(cast("Config", config), *(nobody,) * 5).add_routes(router)
    return router


@pytest.mark.parametrize("base_path", ["", "/gw"])
def test_no_door_serves_a_path_outside_of_the_table(base_path: str) -> None:
    own_paths = OwnPaths(base_path, has_upstream=True)
    served = [resource.canonical for resource in routed(base_path).resources()]
    plain = [path for path in served if "{" not in path]
    assert len(plain) > 5
    assert [path for path in plain if not own_paths.include(path)] == []
    # These match by pattern; the last one is no door but what meets unknown expectations.
    patterns = [f"{base_path}/dav/{{below}}", f"{base_path}/ocm/{{name}}", "/{anywhere}"]
    assert sorted(set(served) - set(plain)) == sorted(patterns)
    assert own_paths.pages == tuple(path for path in own_paths.pages if own_paths.include(path))


@pytest.mark.parametrize("base_path", ["", "/gw"])
async def test_every_row_of_the_table_is_served(base_path: str) -> None:
    router = routed(base_path)
    served = [
        *DISCOVERY,
        JWKS,
        *(base_path + path for path in (f"{API}/jwks", ACCEPT_INVITE, *(f"{tree}/x" for tree in DAV))),
    ]
    for path in served:
        found = await router.resolve(make_mocked_request("GET", path))
        assert found.http_exception is None, path


def test_a_scheme_in_the_middle_of_a_target_is_a_name_and_soon_found_to_be_none() -> None:
    own_paths = OwnPaths("", has_upstream=True)
    assert not own_paths.include("/files/http://nas/ocm/shares")
    assert own_paths.include("http://nas/ocm/shares")
    begun = time.monotonic()
    assert not own_paths.include("/" + "a" * 32_000)
    assert time.monotonic() - begun < 1
