"""The WebDAV backend against servers that redirect, lie, break off, list strangely or attack."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from email.utils import formatdate

import pytest

from backends.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    IncompleteWrite,
    InvalidPath,
    NotFound,
    OutOfSpace,
    PermissionDenied,
    PreconditionFailed,
    StorageError,
    Unavailable,
    Unsupported,
)
from backends.interface import Kind, Space, Writer
from backends.webdav import Credential, RemoteRefused, WebDAVBackend, multistatus, reading
from gateway.outbound import SyncOutbound

from .conformance.actions import ROOT, get, names, path, put
from .webdav_servers import Request, Scripted, backend_at, nobody, outbound

Answer = Callable[[Request], None]
DATE = "Tue, 03 Feb 2026 04:05:06 GMT"
SECONDS = 1770091506


def response(href: str, status: str = "HTTP/1.1 200 OK", **properties: str) -> str:
    """Return one <response>; `_` in the names of properties is nothing, a value of "" an empty element."""
    inner = "".join(f"<D:{name}>{value}</D:{name}>" for name, value in properties.items())
    return (
        f"<D:response><D:href>{href}</D:href><D:propstat><D:prop>{inner}</D:prop>"
        f"<D:status>{status}</D:status></D:propstat></D:response>"
    )


def folder(href: str, **properties: str) -> str:
    return response(href, resourcetype="<D:collection/>", **properties)


def file(href: str, size: int | str = 10, **properties: str) -> str:
    return response(href, **{"getcontentlength": str(size), "getlastmodified": DATE, "getetag": '"v1"', **properties})


def listing(*responses: str) -> bytes:
    return f'<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">{"".join(responses)}</D:multistatus>'.encode()


def showing(*responses: str) -> Answer:
    """Answer every PROPFIND with these."""
    return lambda request: request.reply(207, listing(*responses))


@pytest.fixture(scope="module")
def transport() -> Iterator[SyncOutbound]:
    with closing(outbound(idle_timeout=2.0)) as made:
        yield made


@pytest.fixture
def serve(transport: SyncOutbound) -> Iterator[Callable[..., tuple[WebDAVBackend, Scripted]]]:
    """Start a scripted server and return a backend at `/dav` on it."""
    running: list[Scripted] = []

    def start(answer: Answer, credential: Credential = nobody) -> tuple[WebDAVBackend, Scripted]:
        server = Scripted(answer).__enter__()
        running.append(server)
        return backend_at(f"{server.url}/dav", transport, credential), server

    yield start
    transport.close()
    for server in running:
        server.__exit__()


Serve = Callable[..., tuple[WebDAVBackend, Scripted]]


# ------------------------------------------------------------------------------------------ statuses and credentials


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (200, Unavailable),
        (204, Unavailable),
        (301, Unavailable),
        (302, Unavailable),
        (307, Unavailable),
        (308, Unavailable),
        (400, Unavailable),
        (401, RemoteRefused),
        (403, RemoteRefused),
        (404, NotFound),
        (405, PermissionDenied),
        (410, NotFound),
        (412, PreconditionFailed),
        (413, OutOfSpace),
        (414, InvalidPath),
        (418, Unavailable),
        (423, PermissionDenied),
        (429, Unavailable),
        (500, Unavailable),
        (501, Unsupported),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
        (507, OutOfSpace),
        (599, Unavailable),
    ],
)
def test_every_status_is_a_storage_error(serve: Serve, status: int, error: type[StorageError]) -> None:
    """The sentence names server, method, path and status; 401 and 403 can be told apart."""
    backend, _ = serve(lambda request: request.reply(status, b"<html>"))
    for call in (backend.stat, backend.scan, backend.open_read, backend.remove):
        with pytest.raises(error) as caught:
            call(path("file") if call == backend.remove else ROOT)
        if isinstance(caught.value, RemoteRefused):
            assert caught.value.status == status
        assert re.match(rf"127\.0\.0\.1:\d+: PROPFIND /.*\({status}\)", str(caught.value))


def test_a_redirect_is_named_and_not_followed(serve: Serve) -> None:
    """Neither to another host nor for any method; only the same path with a slash is tried by itself."""
    with Scripted(lambda request: request.reply(207, listing(folder("/dav/")))) as target:
        backend, server = serve(lambda request: request.reply(301, Location=f"{target.url}/dav/"))
        with pytest.raises(Unavailable, match="redirects"):
            backend.stat(ROOT)
        with pytest.raises(Unavailable, match="redirects"):
            backend.make_directory(path("x"))
    assert target.seen == []
    assert {target for _, target in server.seen} <= {"/dav", "/dav/", "/dav/x", "/dav/x/"}


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7), ("0", 1), ("99999999999", 3600), ("soon", 30), ("", 30), ("-5", 30)]
)
def test_retry_after_is_kept_within_bounds(serve: Serve, value: str, seconds: int) -> None:
    """A server cannot put us off for a year."""
    backend, _ = serve(lambda request: request.reply(503, Retry_After=value))
    with pytest.raises(Unavailable) as caught:
        backend.stat(ROOT)
    assert caught.value.retry_after == seconds


def test_retry_after_may_be_a_date(serve: Serve) -> None:
    """As RFC 9110 has it."""
    backend, _ = serve(lambda request: request.reply(503, Retry_After=formatdate(time.time() + 100, usegmt=True)))
    with pytest.raises(Unavailable) as caught:
        backend.stat(ROOT)
    assert 90 <= caught.value.retry_after <= 100


class Tokens:
    """A credential that is new each time it is renewed."""

    def __init__(self) -> None:
        self.number = 1
        self.renewals: list[bool] = []

    def __call__(self, refused: Mapping[str, str] | None) -> Mapping[str, str]:
        self.renewals.append(refused is not None)
        self.number += refused is not None
        return {"Authorization": f"Bearer token-{self.number}"}


def accepting(token: str, otherwise: Answer) -> Answer:
    def answer(request: Request) -> None:
        if request.headers["Authorization"] != f"Bearer {token}":
            request.reply(401)
        else:
            otherwise(request)

    return answer


def test_an_expired_credential_is_renewed_once(serve: Serve) -> None:
    """The request is repeated with the new one, which is then used at once."""
    tokens = Tokens()
    backend, server = serve(accepting("token-2", showing(folder("/dav/"))), credential=tokens)
    assert backend.stat(ROOT).is_directory
    assert backend.stat(ROOT).is_directory
    assert tokens.renewals == [False, True, False]
    assert [method for method, _ in server.seen] == ["PROPFIND"] * 3


def test_a_refused_credential_is_not_tried_for_ever(serve: Serve) -> None:
    """One renewal, then the refusal is told, without the credential in it."""
    tokens = Tokens()
    backend, server = serve(accepting("never", showing()), credential=tokens)
    with pytest.raises(RemoteRefused) as caught:
        backend.stat(ROOT)
    assert (caught.value.status, len(server.seen), tokens.renewals) == (401, 2, [False, True])
    assert "token" not in str(caught.value)


def test_a_credential_that_cannot_be_had_is_the_error(serve: Serve) -> None:
    """Whoever supplies it says why."""

    def credential(refused: Mapping[str, str] | None) -> Mapping[str, str]:
        raise Unavailable("no token today", 7)

    backend, server = serve(showing(), credential=credential)
    with pytest.raises(Unavailable, match="no token today"):
        backend.stat(ROOT)
    assert server.seen == []


def test_an_upload_begins_with_a_fresh_credential(serve: Serve) -> None:
    """The look before it has renewed the credential, so a body that cannot be sent twice is not refused."""
    stored: list[bytes] = []

    def answer(request: Request) -> None:
        if request.command == "PUT":
            stored.append(request.body())
            request.reply_to_read_body(201)
        elif request.path == "/dav/new" and not stored:
            request.reply(404)
        else:
            request.reply(207, listing(file(request.path, 3) if request.path == "/dav/new" else folder("/dav/")))

    backend, server = serve(accepting("token-2", answer), credential=Tokens())
    put(backend, "new", b"abc")
    assert stored == [b"abc"]
    assert [method for method, _ in server.seen].count("PUT") == 1


def test_a_server_that_is_not_there_is_unavailable(transport: SyncOutbound) -> None:
    """With the reason of the transport."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    backend = backend_at(f"http://127.0.0.1:{port}/dav", transport)
    for call in (backend.stat, backend.scan, backend.open_read, backend.open_write, backend.make_directory):
        with pytest.raises(Unavailable, match="refused"):
            call(path("x"))


def test_a_server_that_says_nothing_is_unavailable_after_the_idle_time() -> None:
    """Nothing waits longer than the transport's idle time-out."""
    with closing(outbound(idle_timeout=0.2)) as transport, Scripted(lambda request: time.sleep(1)) as server:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            backend_at(f"{server.url}/dav", transport).stat(ROOT)
        assert time.monotonic() - began < 0.9


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/dav",
        "ftp://h/dav",
        "https://h/dav?x",
        "https://h/dav#x",
        "https://user:pw@h/dav",
        "https://h/a/../b",
        "https://h/a/%2e%2e/b",
        "https://h/./a",
        "https://h/a b",
        "https://h\\@x/",
    ],
)
def test_a_url_that_cannot_be_a_root_is_refused(transport: SyncOutbound, url: str) -> None:
    """Dot segments, queries and passwords have no place in one."""
    with pytest.raises(InvalidPath) as caught:
        backend_at(url, transport)
    assert "pw" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------- listings


@pytest.mark.parametrize(
    "child",
    [
        "/dav/a%20b%C3%BC",
        "/dav/a b\u00fc",
        "/%64av/%61%20b%c3%bc",
        "//dav//a%20b%C3%BC",
        "http://127.0.0.1:1/dav/a%20b%C3%BC",
        "https://inner.example:8443/dav/a%20b%C3%BC",
        "  /dav/a%20b%C3%BC\n",
    ],
)
def test_names_are_read_from_hrefs_in_any_spelling(serve: Serve, child: str) -> None:
    """Absolute URLs of whatever host, absolute paths, any percent-encoding: compared and taken as decoded bytes."""
    backend, _ = serve(showing(folder("/dav/"), file(child)))
    assert names(backend) == ["a b\u00fc".encode()]


@pytest.mark.parametrize(
    "href",
    [
        "/dav/..",
        "/dav/../up",
        "/dav/.",
        "/dav/%2e%2e",
        "/dav/a%2Fb",
        "/dav/a%00b",
        "/dav/%2e%2e%2fup",
        "/dav/a%5C..%5Cb",
        "/dav/deeper/still",
        "/other/file",
        "/davx/file",
        "/",
        "",
        "file",
        "./file",
        "mailto:x",
        "/dav/" + "n" * 256,
        "/dav/",
        "/dav",
        "http://h/dav",
        "/http://h/dav/bad",
    ],
)
def test_what_is_no_child_of_the_directory_is_dropped(serve: Serve, href: str) -> None:
    """Itself, other levels, other roots, and names that would climb."""
    backend, _ = serve(showing(folder("/dav/"), file(href), file("/dav/good")))
    assert names(backend) == [b"good"]


@pytest.mark.parametrize(
    "responses",
    [
        (file("/dav/one"), folder("/dav/"), file("/dav/two")),
        (file("/dav/one"), file("/dav/two")),
        (folder("/remote.php/webdav/"), file("/remote.php/webdav/one"), file("/remote.php/webdav/two")),
        (folder("/dav/one-deeper/"), file("/dav/one")),
    ],
)
def test_the_directory_may_come_late_or_never_or_by_another_path(serve: Serve, responses: tuple[str, ...]) -> None:
    """Behind a proxy, or found by its credential, a directory is known to its server by its own path."""
    backend, _ = serve(showing(*responses))
    expected = [b"one", b"one-deeper"] if "one-deeper" in responses[0] else [b"one", b"two"]
    assert names(backend) == expected


def test_a_listing_of_a_file_elsewhere_is_no_listing(serve: Serve) -> None:
    """An answer about something else is not shown as an empty directory."""
    for answer in (showing(file("/elsewhere/x")), showing()):
        backend, _ = serve(answer)
        with pytest.raises(Unavailable):
            backend.scan(ROOT)


def test_properties_count_only_under_a_200(serve: Serve) -> None:
    """Also when the 404 comes first, and a response that is a 404 as a whole is not there."""
    mixed = (
        "<D:response><D:href>/dav/mixed</D:href>"
        "<D:propstat><D:prop><D:getetag>no</D:getetag><D:getcontentlength>99</D:getcontentlength></D:prop>"
        "<D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>"
        "<D:propstat><D:prop><D:resourcetype/><D:getcontentlength>5</D:getcontentlength></D:prop>"
        "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
    )
    gone = "<D:response><D:href>/dav/gone</D:href><D:status>HTTP/1.1 404 Not Found</D:status></D:response>"
    hidden = file("/dav/hidden").replace("200 OK", "403 Forbidden")
    backend, _ = serve(showing(folder("/dav/"), mixed, gone, hidden))
    with backend.scan(ROOT) as scan:
        assert [(entry.name, entry.size) for entry in scan] == [(b"mixed", 5)]


def test_names_in_other_places_and_namespaces_are_passed_over(serve: Serve) -> None:
    """A lock has an href of its own, and anybody may call a property getetag."""
    locked = file("/dav/file").replace(
        "</D:prop>",
        "<D:lockdiscovery><D:activelock><D:lockroot><D:href>/dav/other</D:href></D:lockroot></D:activelock>"
        '</D:lockdiscovery><x:getcontentlength xmlns:x="urn:x">77</x:getcontentlength></D:prop>',
    )
    backend, _ = serve(showing(folder("/dav/"), locked))
    with backend.scan(ROOT) as scan:
        assert [(entry.name, entry.size) for entry in scan] == [(b"file", 10)]


def test_any_prefix_stands_for_the_namespace(serve: Serve) -> None:
    """d:, D:, none: XML does not care."""
    body = listing(folder("/dav/"), file("/dav/file")).decode()
    for prefix, declaration in (("d:", "xmlns:d"), ("", "xmlns"), ("lp1:", "xmlns:lp1")):
        text = body.replace("xmlns:D", declaration).replace("D:", prefix)
        backend, _ = serve(lambda request, text=text: request.reply(207, text.encode()))
        assert names(backend) == [b"file"]


@pytest.mark.parametrize(
    ("properties", "size", "modified"),
    [
        ({}, 10, SECONDS),
        ({"getcontentlength": ""}, 0, SECONDS),
        ({"getcontentlength": "-1"}, 0, SECONDS),
        ({"getcontentlength": "1e9"}, 0, SECONDS),
        ({"getcontentlength": "9" * 30}, 0, SECONDS),
        ({"getcontentlength": "\u0661"}, 0, SECONDS),
        ({"getcontentlength": str(1 << 50)}, 1 << 50, SECONDS),
        ({"getlastmodified": ""}, 10, 0),
        ({"getlastmodified": "yesterday"}, 10, 0),
        ({"getlastmodified": "Tue, 03 Feb 2026 04:05:06 -0000"}, 10, SECONDS),
        ({"getlastmodified": "Tue, 03 Feb 2026 05:05:06 +0100"}, 10, SECONDS),
        ({"getlastmodified": "Tue, 99 Feb 2026 04:05:06 GMT"}, 10, 0),
    ],
)
def test_odd_values_are_read_or_left_out(serve: Serve, properties: dict[str, str], size: int, modified: int) -> None:
    """No size or date makes an entry disappear."""
    backend, _ = serve(showing(folder("/dav/"), file("/dav/file", **properties)))
    with backend.scan(ROOT) as scan:
        (entry,) = scan
    assert (entry.kind, entry.size, entry.modified) == (Kind.FILE, size, modified * 1_000_000_000)


def test_the_etag_changes_with_whatever_the_server_tells(serve: Serve) -> None:
    """Weak, long, strange or missing: 40 plain characters, and the same whether the server calls it weak or not."""
    given = [
        {"getetag": '"v1"'},
        {"getetag": 'W/"v1"'},
        {"getetag": '"v2"'},
        {"getetag": '"' + "x" * 500 + '"'},
        {"getetag": ""},
        {"getetag": "", "getcontentlength": "11"},
        {"getetag": "", "getlastmodified": "Tue, 03 Feb 2026 04:05:07 GMT"},
        {"getetag": "&quot;\u00fc&lt;&quot;"},
    ]
    etags = []
    for properties in given:
        backend, _ = serve(showing(file("/dav", **properties)))
        etags.append(backend.stat(ROOT).etag)
    assert all(re.fullmatch(r"[0-9A-Za-z.-]{1,40}", etag) for etag in etags)
    assert etags[0] == etags[1]
    assert len(set(etags)) == len(given) - 1


def test_a_server_that_knows_no_depth_is_understood(serve: Serve) -> None:
    """It lists everything each time."""
    everything = showing(
        folder("/dav/"), folder("/dav/sub/"), file("/dav/sub/file", 7), file("/dav/top", 3), folder("/dav/sub/deep/")
    )
    backend, _ = serve(everything)
    assert names(backend) == [b"sub", b"top"]
    assert backend.stat(path("sub/file")).size == 7
    assert backend.stat(path("sub")).is_directory


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b'<D:multistatus xmlns:D="DAV:"><D:response><D:href>/dav/&b;</D:href></D:response></D:multistatus>'
)
EXTERNAL = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    b'<D:multistatus xmlns:D="DAV:"><D:response><D:href>&a;</D:href></D:response></D:multistatus>'
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing",
        b"<html><body>Log in</body></html>",
        b"<D:multistatus>",
        b'<D:multistatus xmlns:D="urn:other"></D:multistatus>',
        listing(folder("/dav/"), file("/dav/file"))[:-20],
        listing(folder("/dav/"), file("/dav/file")) + b"<more/>",
        listing(folder("/dav/")).replace(b"<D:href>", b"<D:href>\xff"),
        BOMB,
        EXTERNAL,
        listing(folder("/dav/")).replace(b"</D:multistatus>", b"<x>" * 1000 + b"</x>" * 1000 + b"</D:multistatus>"),
        listing(file("/dav/" + "x" * 100_000)),
        b"\x1f\x8b\x08\x00" + bytes(50),
    ],
)
def test_what_is_no_proper_listing_is_unavailable(serve: Serve, body: bytes) -> None:
    """Malformed, cut off, a bomb, nested or long beyond reason: an error at the end, never half a list."""
    backend, _ = serve(lambda request: request.reply(207, body))
    with pytest.raises(Unavailable):
        names(backend)


def test_a_listing_that_failed_does_not_end(serve: Serve) -> None:
    """Asked again it fails again, so that nobody takes a part for the whole."""
    backend, _ = serve(lambda request: request.reply(207, listing(folder("/dav/"), file("/dav/file"))[:-5]))
    with backend.scan(ROOT) as scan:
        for _ in range(2):
            with pytest.raises(Unavailable):
                scan.next()


def test_an_endless_listing_ends(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is in bytes, whatever stands in them."""
    monkeypatch.setattr(multistatus, "SIZE_MAX", 300_000)

    def answer(request: Request) -> None:
        request.body()
        request.send_response(207)
        request.end_headers()
        request.wfile.write(listing(folder("/dav/")).removesuffix(b"</D:multistatus>"))
        try:
            while True:
                request.wfile.write(b"<D:unknown/>" * 1000)
        except OSError:
            request.cut()

    backend, _ = serve(answer)
    with pytest.raises(Unavailable, match="larger than 300000 bytes"):
        names(backend)


def test_a_listing_is_delivered_while_it_arrives(serve: Serve) -> None:
    """The first batch does not wait for the last, and closing early is possible."""

    def answer(request: Request) -> None:
        request.body()
        request.send_response(207)
        request.end_headers()
        request.wfile.write(listing(folder("/dav/")).removesuffix(b"</D:multistatus>"))
        request.wfile.write("".join(file(f"/dav/{number}") for number in range(2000)).encode())
        time.sleep(3)
        request.cut()

    backend, _ = serve(answer)
    began = time.monotonic()
    with backend.scan(ROOT, batch=5) as scan:
        assert len(scan.next()) == 5
    assert time.monotonic() - began < 2


# -------------------------------------------------------------------------------------------------------- reading

CONTENT = bytes(range(256)) * 40  # 10,240 bytes


class FileServer:
    """One file at `/dav/file`, served rightly unless a test overrides a part."""

    def __init__(self, **headers: str) -> None:
        self.content = CONTENT
        self.headers = {"ETag": '"v1"', "Last-Modified": DATE, **headers}
        self.listed = file("/dav/file", len(CONTENT))
        self.gets: list[str | None] = []

    def __call__(self, request: Request) -> None:
        if request.command == "PROPFIND":
            request.reply(207, listing(self.listed))
        else:
            wanted = request.headers["Range"]
            self.gets.append(wanted)
            self.get(request, int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else None)

    def get(self, request: Request, start: int | None) -> None:
        if start is None:
            request.reply(200, self.content, **self.headers)
        else:
            span = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
            request.reply(206, self.content[start:], Content_Range=span, **self.headers)


def test_sequential_reads_are_one_request(serve: Serve) -> None:
    """A jump is another one, with a Range; a small gap is read over."""
    server = FileServer()
    backend, _ = serve(server)
    with backend.open_read(path("file")) as reader:
        assert b"".join(reader.read_at(offset, 1000) for offset in range(0, 5000, 1000)) == CONTENT[:5000]
        assert reader.read_at(6000, 10) == CONTENT[6000:6010]
        assert server.gets == [None]
        assert reader.read_at(100, 10) == CONTENT[100:110]
        assert server.gets == [None, "bytes=100-10239"]


def test_a_server_without_ranges_is_read_from_the_beginning(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 to a Range: what comes before is skipped, within bounds, never taken for the middle."""

    class Rangeless(FileServer):
        def get(self, request: Request, start: int | None) -> None:
            super().get(request, None)

    backend, _ = serve(Rangeless())
    with backend.open_read(path("file")) as reader:
        assert reader.read_at(5000, 100) == CONTENT[5000:5100]
        assert reader.read_at(10, 100) == CONTENT[10:110]
        monkeypatch.setattr(reading, "SKIP_MAX", 1000)
        monkeypatch.setattr(reading, "GAP_MAX", 0)
        with pytest.raises(Unsupported):
            reader.read_at(5000, 100)


@pytest.mark.parametrize(
    "span", ["bytes 0-99/10240", "bytes 4999-10239/10240", "bytes 5000-10239/10241", "bytes */10240", "5000-", ""]
)
def test_another_range_than_the_one_asked_for_is_refused(serve: Serve, span: str) -> None:
    """Bytes of another place would be silent corruption."""

    class Wrong(FileServer):
        def get(self, request: Request, start: int | None) -> None:
            request.reply(206, CONTENT[5000:], Content_Range=span, **self.headers)

    backend, _ = serve(Wrong())
    with backend.open_read(path("file")) as reader, pytest.raises(Unavailable):
        reader.read_at(5000, 100)


def test_a_part_of_what_was_asked_whole_is_refused(serve: Serve) -> None:
    """206 without a Range in the request."""

    class Partial(FileServer):
        def get(self, request: Request, start: int | None) -> None:
            super().get(request, 0)

    backend, _ = serve(Partial())
    with backend.open_read(path("file")) as reader, pytest.raises(Unavailable):
        reader.read_at(0, 100)


@pytest.mark.parametrize(
    "change", [{"ETag": '"v2"'}, {"Last-Modified": "Tue, 03 Feb 2026 04:05:07 GMT"}, {"content": CONTENT + b"x"}]
)
def test_a_file_that_changes_between_two_ranges_is_unavailable(serve: Serve, change: dict[str, str | bytes]) -> None:
    """Two versions are never mixed."""
    server = FileServer()
    backend, _ = serve(server)
    with backend.open_read(path("file")) as reader:
        assert reader.read_at(1, 10) == CONTENT[1:11]
        for name, value in change.items():
            if isinstance(value, bytes):
                server.content = value
            else:
                server.headers[name] = value
        with pytest.raises(Unavailable, match="changed while it was read"):
            reader.read_at(0, 1)


def test_a_part_without_the_headers_of_the_whole_is_read(serve: Serve) -> None:
    """Some servers leave ETag and Last-Modified out of a 206."""
    server = FileServer()
    backend, _ = serve(server)
    with backend.open_read(path("file")) as reader:
        assert reader.read_at(0, 10) == CONTENT[:10]
        server.headers = {}
        assert reader.read_at(5, 10) == CONTENT[5:15]


@pytest.mark.parametrize("listed", [{"getcontentlength": "10239"}, {"getlastmodified": DATE.replace("06", "05")}])
def test_a_file_that_changed_since_it_was_listed_is_unavailable(serve: Serve, listed: dict[str, str]) -> None:
    """The entry must describe what is read; here the listing and the content differ, and the listing has moved on."""
    server = FileServer()
    server.listed = file("/dav/file", **{"getcontentlength": str(len(CONTENT)), **listed})
    backend, _ = serve(server)
    with backend.open_read(path("file")) as reader:
        server.listed = file("/dav/file", len(CONTENT))
        with pytest.raises(Unavailable, match="changed while it was read"):
            reader.read_at(0, 10)


def test_etags_that_are_written_differently_by_get_do_no_harm(serve: Serve) -> None:
    """A server may mark them as weak or compressed; the listing, looked at again, says that nothing has changed."""
    server = FileServer(ETag='W/"v1-gzip"')
    backend, _ = serve(server)
    assert get(backend, "file") == CONTENT


@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
@pytest.mark.parametrize("sent", [0, 1, 5000, len(CONTENT) - 1])
def test_a_content_that_is_cut_off_is_never_a_short_file(serve: Serve, framing: str, sent: int) -> None:
    """By whatever framing the server speaks."""

    class Cut(FileServer):
        def get(self, request: Request, start: int | None) -> None:
            request.body()
            request.send_response(200)
            if framing == "length":
                request.send_header("Content-Length", str(len(CONTENT)))
            if framing == "chunks":
                request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            piece = CONTENT[:sent]
            request.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunks" and piece else piece)
            request.cut()

    backend, _ = serve(Cut())
    with backend.open_read(path("file")) as reader, pytest.raises(Unavailable):
        reader.read_at(0, len(CONTENT))


def test_a_content_that_is_longer_than_listed_is_unavailable(serve: Serve) -> None:
    """Without a length in the answer it shows at the end."""

    class Longer(FileServer):
        def get(self, request: Request, start: int | None) -> None:
            request.body()
            request.send_response(200)
            request.end_headers()
            request.wfile.write(CONTENT + b"more")
            request.cut()

    backend, _ = serve(Longer())
    with backend.open_read(path("file")) as reader:
        assert reader.read_at(0, 100) == CONTENT[:100]
        with pytest.raises(Unavailable, match="longer"):
            reader.read_at(100, len(CONTENT))


def test_a_connection_that_ends_in_the_middle_is_opened_again(serve: Serve) -> None:
    """A reader that paused too long for the server goes on where it was, if the file is still the same."""

    class Impatient(FileServer):
        def get(self, request: Request, start: int | None) -> None:
            if start is None:
                request.body()
                request.send_response(200)
                for name, value in {"Content-Length": str(len(CONTENT)), **self.headers}.items():
                    request.send_header(name, value)
                request.end_headers()
                request.wfile.write(CONTENT[:3000])
                request.cut()
            else:
                super().get(request, start)

    server = Impatient()
    backend, _ = serve(server)
    with backend.open_read(path("file")) as reader:
        assert b"".join(reader.read_at(offset, 1000) for offset in range(0, 11_000, 1000)) == CONTENT
    assert server.gets == [None, "bytes=3000-10239"]


def test_a_size_that_is_not_listed_is_asked_for(serve: Serve) -> None:
    """Else the file would read as empty."""
    server = FileServer()
    server.listed = response("/dav/file", getlastmodified=DATE, getetag='"v1"')
    backend, requests = serve(server)
    assert get(backend, "file") == CONTENT
    assert ("HEAD", "/dav/file") in requests.seen


def test_a_size_that_nobody_tells_is_unavailable(serve: Serve) -> None:
    """Not an empty file."""

    def answer(request: Request) -> None:
        if request.command == "PROPFIND":
            request.reply(207, listing(response("/dav/file", getetag='"v1"')))
        else:
            request.send_response(200)
            request.end_headers()
            request.cut()

    backend, _ = serve(answer)
    with pytest.raises(Unavailable, match="size"):
        backend.open_read(path("file"))


@pytest.mark.parametrize(("status", "error"), [(403, PermissionDenied), (404, NotFound), (500, Unavailable)])
def test_a_refused_get_is_told(serve: Serve, status: int, error: type[StorageError]) -> None:
    """It can be listed and still not be read."""

    class Refusing(FileServer):
        def get(self, request: Request, start: int | None) -> None:
            request.reply(status)

    backend, _ = serve(Refusing())
    with backend.open_read(path("file")) as reader, pytest.raises(error):
        reader.read_at(0, 1)


# -------------------------------------------------------------------------------------------------------- writing


class Store:
    """A server that keeps one file at `/dav/file` and notes the headers of each PUT."""

    def __init__(self, content: bytes | None = None, etag: str = '"v1"') -> None:
        self.content = content
        self.etag = etag
        self.puts: list[Mapping[str, str]] = []

    def __call__(self, request: Request) -> None:
        if request.command == "PUT":
            self.puts.append(dict(request.headers))
            self.put(request)
        elif request.path == "/dav":
            request.reply(207, listing(folder("/dav/")))
        elif self.content is None:
            request.reply(404)
        else:
            request.reply(207, listing(file("/dav/file", len(self.content), getetag=self.etag)))

    def put(self, request: Request) -> None:
        self.content = request.body()
        request.reply_to_read_body(201)


@pytest.mark.parametrize(("etag", "header"), [('"v1"', '"v1"'), ('W/"v1"', None), ("", None), ("unquoted", None)])
def test_a_strong_etag_is_handed_on_as_the_server_wrote_it(serve: Serve, etag: str, header: str | None) -> None:
    """A weak one never matches, so it is compared on this side alone."""
    store = Store(b"old", etag)
    backend, _ = serve(store)
    put(backend, "file", b"new", if_match=backend.stat(path("file")).etag)
    assert store.puts[0].get("If-Match") == header
    assert store.content == b"new"


def test_a_new_file_is_asked_for_as_new(serve: Serve) -> None:
    """If-None-Match lets the server decide between two creators."""
    store = Store()
    backend, _ = serve(store)
    put(backend, "file", b"new", if_none_match=True)
    assert store.puts[0]["If-None-Match"] == "*"


def test_one_piece_is_sent_with_its_length(serve: Serve) -> None:
    """Servers that cannot take chunks are spared them where that is possible; an empty file is no chunk either."""
    store = Store()
    backend, _ = serve(store)
    put(backend, "file", b"12345")
    put(backend, "file", b"")
    assert [headers.get("Content-Length") for headers in store.puts] == ["5", "0"]


def test_nothing_is_sent_for_an_empty_file_before_the_commit(serve: Serve) -> None:
    """A PUT of length 0 is complete with its headers."""
    store = Store(b"old")
    backend, _ = serve(store)
    with backend.open_write(path("file"), size=0):
        pass
    assert store.puts == []


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, Unavailable),
        (401, RemoteRefused),
        (403, RemoteRefused),
        (404, NotFound),
        (409, NotFound),
        (411, Unsupported),
        (412, PreconditionFailed),
        (413, OutOfSpace),
        (423, PermissionDenied),
        (500, Unavailable),
        (501, Unsupported),
        (507, OutOfSpace),
    ],
)
def test_a_refused_put_is_told(serve: Serve, status: int, error: type[StorageError]) -> None:
    """At the commit, when the server has seen all of it."""

    class Refusing(Store):
        def put(self, request: Request) -> None:
            request.body()
            request.reply_to_read_body(status)

    backend, _ = serve(Refusing(b"old"))
    with pytest.raises(error):
        put(backend, "file", b"new")


def write_until(writer: Writer, size: int) -> None:
    while writer.written < size:
        writer.write(bytes(1 << 18))
    writer.commit()


def test_an_early_refusal_ends_the_upload(serve: Serve) -> None:
    """507 in the middle is OutOfSpace at the next write, not after the last gigabyte."""

    class Full(Store):
        def put(self, request: Request) -> None:
            request.rfile.read(1)
            request.reply_to_read_body(507)
            request.cut()

    backend, _ = serve(Full())
    with backend.open_write(path("file"), size=1 << 30) as writer:
        with pytest.raises(OutOfSpace):
            write_until(writer, 1 << 30)
        assert writer.written < 1 << 29


@pytest.mark.parametrize("size", [1 << 22, None])
def test_a_server_that_closes_in_the_middle_is_unavailable(serve: Serve, size: int | None) -> None:
    """Neither success nor a hang."""

    class Closing(Store):
        def put(self, request: Request) -> None:
            request.rfile.read(1)
            request.cut()

    backend, _ = serve(Closing())
    with backend.open_write(path("file"), size=size) as writer, pytest.raises(Unavailable):
        write_until(writer, 1 << 22)


def test_a_success_that_stored_something_else_is_an_error(serve: Serve) -> None:
    """Some servers have said 201 and kept nothing."""

    class Forgetful(Store):
        def put(self, request: Request) -> None:
            request.body()
            self.content = b""
            request.reply_to_read_body(201)

    backend, _ = serve(Forgetful())
    with pytest.raises(IncompleteWrite, match="0 of 3 bytes"):
        put(backend, "file", b"new")


# ----------------------------------------------------------------------------------------------------- the tree


@pytest.mark.parametrize(
    "children",
    [
        (folder("/dav/sub/"), file("/dav/sub/a%2Fb")),
        (folder("/dav/sub/"), file("/dav/sub/%2e%2e")),
        (file("/dav/sub/only-child"),),
        (folder("/elsewhere/sub/"), file("/elsewhere/sub/file")),
    ],
)
def test_a_directory_that_is_not_surely_empty_is_not_removed(serve: Serve, children: tuple[str, ...]) -> None:
    """DELETE would take along names that cannot be shown, and what a server lists in its own way."""

    def answer(request: Request) -> None:
        request.reply(207, listing(*(children if request.headers["Depth"] == "1" else (folder("/dav/sub/"),))))

    backend, server = serve(answer)
    with pytest.raises(DirectoryNotEmpty):
        backend.remove(path("sub"))
    assert "DELETE" not in {method for method, _ in server.seen}


def test_renaming_never_replaces_a_tree(serve: Serve) -> None:
    """MOVE with Overwrite would delete what is in the way, with all that is in it."""

    def answer(request: Request) -> None:
        inner = (file(f"{request.path.rstrip('/')}/inside"),) if request.headers["Depth"] == "1" else ()
        request.reply(207, listing(folder(request.path), *inner))

    backend, server = serve(answer)
    with pytest.raises(DirectoryNotEmpty):
        backend.rename(path("one"), path("two"), overwrite=True)
    assert {method for method, _ in server.seen} == {"PROPFIND"}


@pytest.mark.parametrize(("there", "overwrite"), [(False, "F"), (True, "T")])
def test_a_move_says_whether_it_may_replace(serve: Serve, there: bool, overwrite: str) -> None:
    """Where nothing was seen, the server refuses what has come since; the Destination is absolute and escaped."""

    def answer(request: Request) -> None:
        if request.command == "MOVE":
            request.reply(201)
        elif request.path == "/dav/old" or there:
            request.reply(207, listing(file(request.path)))
        else:
            request.reply(404)

    backend, server = serve(answer)
    backend.rename(path("old"), path(b"new \xff%/\xc3\xbc#?"), overwrite=True)
    move = server.requests[-1].headers
    assert move["Destination"] == f"{server.url}/dav/new%20%FF%25/%C3%BC%23%3F"
    assert move["Overwrite"] == overwrite


def test_a_name_taken_meanwhile_is_not_replaced_by_a_move(serve: Serve) -> None:
    """The server's 412 says so."""

    def answer(request: Request) -> None:
        if request.command in ("MOVE", "COPY"):
            request.reply(412)
        elif request.path == "/dav/old":
            request.reply(207, listing(file(request.path)))
        else:
            request.reply(404)

    backend, _ = serve(answer)
    with pytest.raises(AlreadyExists):
        backend.rename(path("old"), path("new"), overwrite=True)
    with pytest.raises(AlreadyExists):
        backend.copy(path("old"), path("new"), overwrite=True)


@pytest.mark.parametrize("method", ["DELETE", "MOVE"])
def test_a_partial_success_is_no_success(serve: Serve, method: str) -> None:
    """207 to DELETE or MOVE means that some of it failed (RFC 4918 sections 9.6.1 and 9.9.4)."""

    def answer(request: Request) -> None:
        if request.path == "/dav/new":
            request.reply(404)
        else:
            request.reply(207, listing(file("/dav/old") if request.path == "/dav/old" else folder("/dav/")))

    backend, _ = serve(answer)
    with pytest.raises(Unavailable):
        backend.remove(path("old")) if method == "DELETE" else backend.rename(path("old"), path("new"), overwrite=True)


def test_a_path_is_escaped_byte_by_byte(serve: Serve) -> None:
    """Only unreserved characters go as they are; what the root's URL held stays as it was given."""
    backend, server = serve(lambda request: request.reply(404))
    with pytest.raises(NotFound):
        backend.stat(path(b"A-z_0.9~/\xff\x01 +&=;:@!$'()*,%2e%2e/\xe2\x82\xac"))
    assert server.seen[0][1] == ("/dav/A-z_0.9~/%FF%01%20%2B%26%3D%3B%3A%40%21%24%27%28%29%2A%2C%252e%252e/%E2%82%AC")


def test_a_root_with_escapes_is_used_as_given(transport: SyncOutbound) -> None:
    """The peer's own URL is not rewritten, and its hrefs are compared decoded."""
    answer = showing(folder("/d\u00e4v/id=1@x/"), file("/d%C3%A4v/id%3D1%40x/file"))
    with Scripted(answer) as server:
        backend = backend_at(f"{server.url}/d%c3%a4v/id=1@x", transport, nobody)
        assert names(backend) == [b"file"]
        assert server.seen == [("PROPFIND", "/d%c3%a4v/id=1@x/")]
        transport.close()


# -------------------------------------------------------------------------------------------------------- space


def test_space_is_told_where_the_server_tells_it(serve: Serve) -> None:
    """Then it becomes a feature."""
    quota = {"quota-available-bytes": "600", "quota-used-bytes": "400"}
    backend, _ = serve(showing(folder("/dav/", **quota)))
    assert not backend.features.quota
    assert backend.space() == Space(600, 1000)
    assert backend.features.quota


@pytest.mark.parametrize("quota", [{}, {"quota-available-bytes": "-3", "quota-used-bytes": "400"}])
def test_space_is_unsupported_where_it_is_not_known(serve: Serve, quota: dict[str, str]) -> None:
    """Negative numbers are Nextcloud's way to say so."""
    backend, _ = serve(showing(folder("/dav/", **quota)))
    with pytest.raises(Unsupported):
        backend.space()
    assert not backend.features.quota
