"""Names of every kind in every method, and targets that try to get out."""

from __future__ import annotations

import socket
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.dav.errors import DavError
from gateway.dav.paths import Addresses, Root, Target

from .served import WRITE, Served, basic, bearer

NAMES = [
    b"plain",
    b"with space",
    b"100%25",
    b"%2e%2e",
    b"a+b&c;d=e",
    b"quote'\"<>",
    "schöne Grüße.txt".encode(),
    b"latin-\xe4\xff",
    b"\xff",
    b"\x01\x7f",
    b"line\nfeed",
    b"tab\there",
    b" ",
    b"...",
    b"~",
    b"a\\b",
    b"?#",
    b"(1)",
    b"x" * 255,
]


def quoted(name: bytes) -> str:
    return quote_from_bytes(name, safe="")


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_every_name_works_in_every_method(served: Served, name: bytes):
    path, other = f"/home/{quoted(name)}", "/home/elsewhere"
    assert served.alice("PUT", path, b"content").status == 201
    assert (served.data / name.decode("utf-8", "surrogateescape")).read_bytes() == b"content"
    assert served.alice("GET", path).body == b"content"
    assert served.alice("HEAD", path).headers["content-length"] == "7"
    assert served.alice("OPTIONS", path).status == 200
    href = f"<d:href>/dav/files/alice/home/{quote_from_bytes(name, safe='()')}</d:href>"
    for target, depth in ((path, "0"), ("/home", "1")):
        reply = served.alice("PROPFIND", target, Depth=depth)
        assert reply.status == 207
        assert href in reply.body.decode()
    patch = b'<propertyupdate xmlns="DAV:"><set><prop><lastmodified>86400</lastmodified></prop></set></propertyupdate>'
    assert b"200 OK" in served.alice("PROPPATCH", path, patch).body
    assert served.alice("COPY", path, Destination=served.url("/dav/files/alice" + other)).status == 201
    assert served.alice("DELETE", path).status == 204
    assert served.alice("MOVE", other, Destination=served.url("/dav/files/alice" + path)).status == 201
    assert served.alice("DELETE", path).status == 204
    assert served.alice("MKCOL", path).status == 201
    assert served.alice("PUT", f"{path}/{quoted(name)}", b"x").status == 201
    assert served.alice("DELETE", path + "/").status == 204
    assert served.alice("GET", path).status == 404


@pytest.mark.parametrize(
    "tail",
    [
        "..",
        "../",
        "%2e%2e",
        "%2E%2e/x",
        ".%2e/x",
        "a/../b",
        "a/./b",
        "%2e",
        "a%2Fb",
        "..%2f..%2fetc",
        "%00",
        "a%00b",
        "..%5c..%5cx",
        "%5Cx",
        "x%5c..",
        "a%",
        "a%zz",
        "a%2",
        "x" * 256,
        "/".join(["x" * 100] * 50),
        "a#fragment",
    ],
)
def test_a_path_that_cannot_be_one_is_400_in_every_method(served: Served, tail: str):
    for method in ("GET", "HEAD", "PUT", "PROPFIND", "MKCOL", "DELETE", "PROPPATCH", "OPTIONS", "MOVE", "COPY"):
        reply = served.alice(method, f"/home/{tail}", Destination="/dav/files/alice/home/new")
        assert reply.status == 400, (method, tail)
    reply = served.alice("MOVE", "/home/nothing", Destination=f"/dav/files/alice/home/{tail}")
    assert reply.status == 400, tail


def test_an_absolute_request_target_is_the_same_as_its_path(served: Served):
    (served.data / "absolute").write_bytes(b"yes")
    (authorization,) = basic("alice").values()
    head = f" HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nConnection: close\r\n\r\n"
    for target in ("http://any.example/dav/files/alice/home/absolute", "/dav/files/alice/home/absolute?query=/../"):
        assert served.raw(f"GET {target}{head}".encode()).endswith(b"\r\n\r\nyes")


@pytest.fixture(scope="module")
def inside(served: Served):
    """A writable Share in the middle of a tree; everything around it is none of the grantee's business."""
    (served.data / "around" / "shared" / "sub").mkdir(parents=True)
    (served.data / "around" / "marker").write_bytes(b"OUTSIDE")
    (served.data.parent / "marker").write_bytes(b"OUTSIDE")
    (served.data / "around" / "shared" / "leads-out").symlink_to("../../../marker")
    (served.data / "around" / "shared" / "leads-far").symlink_to("/etc/passwd")
    return served.share("around/shared", WRITE)


def outside(served: Served) -> dict[str, bytes]:
    """What is around the Share and around the root of the storage."""
    around = served.data / "around"
    found = {str(path): path.read_bytes() for path in around.glob("*") if path.is_file()}
    ours = ("state.db", "journals", "keys")
    return found | {str(path): b"" for path in served.data.parent.iterdir() if not path.name.startswith(ours)}


SEGMENTS = [
    "..", ".", "%2e%2e", "%2E.", "..%2f", "%2f", "%5c", "..%5c", "%00", "%ff", "%", "%zz", "", "sub", "around",
    "shared", "leads-out", "leads-far", "marker", "etc", "passwd", "a", "x" * 300, "%c0%ae%c0%ae", "%252e%252e",
    "..;", "*", "~", "proc", "self", ".ocm-gateway-0", "%0d%0aX:%20y", "CON", "a:b",
]  # fmt: skip
targets = st.lists(st.sampled_from(SEGMENTS), max_size=7).map("/".join)
METHODS = [
    "GET",
    "HEAD",
    "PUT",
    "PROPFIND",
    "MKCOL",
    "DELETE",
    "PROPPATCH",
    "OPTIONS",
    "MOVE",
    "COPY",
    "POST",
    "LOCK",
    "UNLOCK",
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=st.sampled_from(METHODS), target=targets, destination=targets, by_id=st.booleans())
def test_no_target_leads_out_of_the_share_nor_to_an_error_of_ours(served, inside, method, target, destination, by_id):
    before = outside(served)
    root = f"/dav/ocm/{inside.id}/" if by_id else "/dav/ocm/"
    body = b"" if method not in ("PUT", "PROPPATCH") else b"x"
    request = (
        f"{method} {root}{target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {inside.secret}\r\n"
        f"Destination: /dav/ocm/{destination}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = served.raw(request.encode() + body)
    status = int(answer.split(b" ", 2)[1])
    assert 200 <= status < 500, answer
    assert b"OUTSIDE" not in answer
    assert b"root:" not in answer
    assert outside(served) == before
    (served.data / "around" / "shared" / "sub").mkdir(exist_ok=True)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.text(max_size=20))
def test_any_reference_is_a_target_or_refused(text, base):
    addresses = Addresses("/base", "https://gw.example")
    for reference in (text, f"https://gw.example/base/dav/ocm/{text}", f"/base/dav/files/{text}", f"{base}://{text}"):
        try:
            found: object = addresses.parse_reference(reference)
        except DavError as refused:
            found = refused.status
        assert isinstance(found, Target) or found in (400, 403, 502)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("/base/dav/ocm/a/b", (b"a", b"b")),
        ("https://gw.example/base/dav/ocm/a", (b"a",)),
        ("HTTPS://GW.Example:443/base/dav/ocm//a?x#", 400),
        ("HTTPS://GW.Example:443/base/dav/ocm//a?x", (b"a",)),
        ("http://gw.example/base/dav/ocm/a", 502),
        ("https://gw.example:8443/base/dav/ocm/a", 502),
        ("https://gw.example@evil.example/base/dav/ocm/a", 502),
        ("https://user@gw.example/base/dav/ocm/a", 502),
        ("https://evil.example/base/dav/ocm/a", 502),
        ("ftp://gw.example/base/dav/ocm/a", 502),
        ("//gw.example/base/dav/ocm/a", 400),
        ("base/dav/ocm/a", 400),
        ("/dav/ocm/a", 403),
        ("/base/dav/elsewhere", 403),
        ("/base/davx/ocm/a", 403),
        ("https://[::1/base/dav/ocm/a", 400),
        ("https://gw.example:port/base/dav/ocm/a", 400),
        ("", 400),
    ],
)
def test_a_destination_is_on_this_server_and_in_a_root_of_it(reference, expected):
    addresses = Addresses("/base", "https://gw.example")
    if isinstance(expected, tuple):
        assert addresses.parse_reference(reference) == Target(Root.SHARES, expected)
    else:
        with pytest.raises(DavError) as refused:
            addresses.parse_reference(reference)
        assert refused.value.status == expected


def test_everything_carries_the_path_of_the_public_url(tmp_path):
    with Served(tmp_path, base="/deep/er-base") as served:
        (served.data / "folder").mkdir()
        (served.data / "folder" / "file").write_bytes(b"x")
        share = served.share("folder", WRITE)
        body = served.request("PROPFIND", "/dav/ocm/", headers=bearer(share.secret)).body.decode()
        assert "<d:href>/deep/er-base/dav/ocm/</d:href>" in body
        assert "<d:href>/deep/er-base/dav/ocm/file</d:href>" in body
        body = served.request("PROPFIND", f"/dav/ocm/{share.id}", headers=bearer(share.secret)).body.decode()
        assert f"<d:href>/deep/er-base/dav/ocm/{share.id}/</d:href>" in body
        assert f"<d:href>/deep/er-base/dav/ocm/{share.id}/file</d:href>" in body
        assert served.alice("PROPFIND", "/").status == 207
        for destination, status in (("/dav/ocm/moved", 403), (served.url("/dav/ocm/moved"), 201)):
            reply = served.request("MOVE", "/dav/ocm/file", headers=bearer(share.secret) | {"Destination": destination})
            assert reply.status == status
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(b"GET /dav/ocm/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 404")
