"""From a Share to a name in a folder and to a URL (wire.md, Share Creation Notification; draft-07, Resource Access)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.paths import check_name
from gateway.ocm.errors import Malformed
from gateway.ocm.shares import compose_uri, file_name
from gateway.ocm.urls import check_url, origin, server_of

ORIGIN = "https://sender.example"


@given(st.text(max_size=300) | st.text("./\\ \x00\u202ea.ocm-gateway-\U0001f600", max_size=300))
def test_a_name_becomes_one_component_of_a_path(name: str) -> None:
    """An inbound `name` becomes one path component: no `/`, NUL, controls, bidi marks (wire.md)."""
    component = file_name(name)
    assert check_name(component.encode())
    assert len(component.encode()) <= 200
    assert component == component.strip()
    assert not component.startswith(".ocm-gateway-")
    assert not any(char < " " or char in "/\\\x7f\u2028\u202e\u2066\u200f" for char in component)
    assert file_name(component) == component


@pytest.mark.parametrize(
    ("name", "component"),
    [
        ("report.pdf", "report.pdf"),
        ("/Photos", "Photos"),
        ("Zoë's données (2) ", "Zoë's données (2)"),
        ("../../etc/passwd", "....etcpasswd"),
        ("..\\..\\x", "....x"),
        ("a\x00b\x1bc\nd\x7f", "abcd"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("a\u200bb\ufeffc\ud800d", "abcd"),
        (".", "unnamed"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("///", "unnamed"),
        (" \u2029 ", "unnamed"),
        (".hidden", ".hidden"),
        (".ocm-gateway-1234", "ocm-gateway-1234"),
        (".OCM-Gateway-1234", "OCM-Gateway-1234"),
        ("..ocm-gateway-x", "..ocm-gateway-x"),
        ("x" * 300 + ".pdf", "x" * 196 + ".pdf"),
        ("ü" * 150 + ".pdf", "ü" * 98 + ".pdf"),
        ("x" * 300 + ".y" * 50, "x" * 198 + ".y"),
        ("x." + "y" * 300, "x." + "y" * 198),
    ],
)
def test_names_of_peers(name: str, component: str) -> None:
    assert file_name(name) == component


@pytest.mark.parametrize(
    ("webdav_path", "uri", "url"),
    [
        ("/dav/ocm/", "id", "https://sender.example/dav/ocm/id"),
        ("/dav/ocm", "id", "https://sender.example/dav/ocm/id"),
        ("/dav/ocm/", "/id", "https://sender.example/dav/ocm/id"),
        ("seafdav", "id", "https://sender.example/seafdav/id"),
        ("/dav/ocm/", "", "https://sender.example/dav/ocm/"),
        ("/dav/ocm/", None, "https://sender.example/dav/ocm/"),
        (None, "id", "https://sender.example/id"),
        (None, None, "https://sender.example/"),
        ("/dav/ocm/", "/dav/ocm/id", "https://sender.example/dav/ocm/id"),
        ("https://sender.example/dav/ocm/", "id", "https://sender.example/dav/ocm/id"),
        ("/dav/ocm/", "a b#c?d", "https://sender.example/dav/ocm/a%20b%23c%3Fd"),
        ("/dav/ocm/", "already%20encoded", "https://sender.example/dav/ocm/already%20encoded"),
        ("/dav/ocm/", "//evil.example/x", "https://sender.example/dav/ocm/evil.example/x"),
        ("//evil.example/", "x", "https://sender.example/evil.example/x"),
        ("/dav/ocm/", "https://sender.example/other/id", "https://sender.example/other/id"),
        ("/dav/ocm/", "https://files.example/a b", "https://files.example/a%20b"),
    ],
)
def test_a_uri_is_composed_with_one_slash_and_an_absolute_one_stays(
    webdav_path: str | None, uri: str | None, url: str
) -> None:
    """MUST (draft-07, Resource Access, step 4): https://<sender-host><sender-ocm-path>/<id>, or the complete URI."""
    assert compose_uri(ORIGIN, webdav_path, uri) == url


@given(st.text(max_size=40).filter(lambda uri: "://" not in uri), st.text("/davocm.@:#?", max_size=12))
def test_a_relative_uri_never_leaves_the_sender_s_origin(uri: str, webdav_path: str) -> None:
    """A secret goes only to the sender's host (wire.md, Code Flow)."""
    assume_encodable = uri.encode("utf-8", "ignore").decode()
    assert compose_uri(ORIGIN, webdav_path, assume_encodable).startswith(f"{ORIGIN}/")


def test_an_absolute_uri_that_names_ourselves_is_rebuilt_at_the_sender() -> None:
    """ocm-go builds the absolute URI from our discovery document (peers.md, section 10, trap 24)."""
    uri = "https://gw.example/dav/ocm/some-id/"
    assert compose_uri(ORIGIN, "/webdav/ocm/", uri, own_server="gw.example") == f"{ORIGIN}/webdav/ocm/some-id"
    assert compose_uri(ORIGIN, "/webdav/ocm/", uri, own_server="gw.example:8443") == uri


def test_an_absolute_uri_that_is_no_web_address_is_refused() -> None:
    with pytest.raises(Malformed):
        compose_uri(ORIGIN, "/dav/", "ftp://sender.example/x", own_server="gw.example")


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("https://Cloud.Example/ocm", "cloud.example"),
        ("https://cloud.example:443/ocm?x", "cloud.example"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ],
)
def test_the_server_and_origin_of_a_url_have_one_form(url: str, server: str) -> None:
    assert server_of(url) == server
    assert origin(url) == f"{url.partition(':')[0]}://{server}"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/ocm",
        "//cloud.example/ocm",
        "ftp://cloud.example/",
        "javascript:alert(1)",
        "https://",
        "https:///ocm",
        "https://user@cloud.example/",
        "https://cloud.example/#x",
        "https://cloud.example/a b",
        "https://cloud.example/\\evil.example",
        "https://cloud.example\\@evil.example/",
        "https://cloud.example:0/",
        "https://[::1/",
        "https://cloud.example/\n",
        "https://cloud.example/ü",
    ],
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(Malformed) as caught:
        check_url(url)
    assert caught.value.code == "INVALID_URL"
