"""Whatever a client sends, the door answers at once, with success or a refusal, and stays inside of its root.

Beside the root lie a folder and a file that nobody may read or change; links in the root lead there.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .served import WRITE, Served, basic, bearer
from .test_resuming import stored

CANARY = b"the canary that lives outside"
PATIENCE = 10.0  # seconds; a longer answer is a hang
LINE_MAX = 32768  # bytes; what `listening.py` lets through
PROFILE = settings(
    deadline=None,
    max_examples=500,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

METHODS = [
    "OPTIONS", "GET", "HEAD", "PUT", "PROPFIND", "PROPPATCH", "MKCOL", "DELETE", "COPY", "MOVE", "LOCK", "UNLOCK",
    "POST", "PATCH", "REPORT", "TRACE", "SEARCH", "BREW",
]  # fmt: skip
# Everything that RFC 9110 and RFC 4918 let a server say to such requests; no 500, and no 503, as all is well here.
CONSIDERED = {
    *(
        200,
        201,
        202,
        204,
        206,
        207,
        304,
        400,
        401,
        403,
        404,
        405,
        408,
        409,
        411,
        412,
        413,
        414,
        415,
        416,
        417,
        422,
        423,
    ),
    *(424, 431, 501, 502, 507),
}


# ------------------------------------------------------------------------------------------------------ the world


@dataclass
class World:
    """A door, what belongs into its root, and what lies beside it."""

    served: Served
    outside: Path
    credentials: dict[str, dict[str, str]]

    def restore(self) -> None:
        """Put back what the last example may have removed or moved."""
        data = self.served.data
        for path in list(data.iterdir()):
            if path.name not in ("file", "folder", "link-in", "link-out", "tree-out", "shared"):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for name in ("folder", "shared"):
            if not (data / name).is_dir():
                (data / name).unlink(missing_ok=True)
                (data / name).mkdir()
        for name in ("file", "folder/file", "shared/file"):
            if (data / name).is_dir():
                shutil.rmtree(data / name)
            (data / name).write_bytes(b"content")
        for name, target in (("link-in", "folder"), ("link-out", self.outside / "canary"), ("tree-out", self.outside)):
            if not (data / name).is_symlink():
                shutil.rmtree(data / name) if (data / name).is_dir() else (data / name).unlink(missing_ok=True)
                (data / name).symlink_to(target)

    def is_untouched(self) -> bool:
        files = {path.name: path.read_bytes() for path in self.outside.iterdir()}
        return files == {"canary": CANARY} and not (self.outside / "canary").is_symlink()

    def send(self, head: bytes, body: bytes, *, half_close: bool) -> tuple[int, bytes]:
        """Send one request, then perhaps that nothing more will come; return the status and the whole answer."""
        with socket.create_connection(("127.0.0.1", self.served.port), timeout=PATIENCE) as connection:
            answer = b""
            with contextlib.suppress(ConnectionError):  # it may have answered, and not want the rest
                connection.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(1 << 20):
                    answer += piece
        answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        return (int(answer.split(b" ", 2)[1]) if answer else 0), answer

    def check(self, head: bytes, body: bytes = b"", *, half_close: bool = False) -> int:
        """Send a request and look at everything that must hold whatever it was; returns the status.

        That is 0 where there is no answer: aiohttp gives none to a client that has half closed, and an answer that
        comes before the end of a long body may be lost with the connection.
        """
        status, answer = self.send(head, body, half_close=half_close)
        assert status in CONSIDERED or (status == 0 and (half_close or len(body) > 60_000)), answer[:2000]
        assert CANARY not in answer
        assert self.is_untouched()
        if status >= 400 and not head.startswith(b"HEAD") and not _is_of_aiohttp(answer):
            assert re.search(rb"<s:exception>[A-Z_]+</s:exception>", answer), answer[:500]
        return status


def _is_of_aiohttp(answer: bytes) -> bool:
    """Tell whether the request never came to the door: it was no HTTP, or for an address of nobody."""
    return answer.startswith(b"HTTP/1.0 400 ") or answer.endswith(b"\r\n\r\n404: Not Found")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("world")
    outside = directory / "outside"
    outside.mkdir()
    (outside / "canary").write_bytes(CANARY)
    with Served(directory / "door") as served:
        (served.data / "shared").mkdir()
        share = served.share("shared", WRITE)
        world = World(served, outside, {"alice": basic("alice"), "bob": basic("bob"), "share": bearer(share.secret)})
        yield world


@pytest.fixture(autouse=True)
def the_door_is_still_there(world: World) -> Iterator[None]:
    world.restore()
    yield
    world.restore()
    assert world.served.alice("GET", "/home/file").body == b"content"


# ------------------------------------------------------------------------------------------------- what is sent


def lines(fields: dict[str, str | bytes]) -> bytes:
    return b"".join(
        b"\r\n" + name.encode() + b": " + (value if isinstance(value, bytes) else value.encode("utf-8", "replace"))
        for name, value in fields.items()
    )


def percent(name: bytes) -> bytes:
    return quote_from_bytes(name, safe="").encode()


NAMES = st.sampled_from(
    [b"file", b"folder", b"shared", b"link-in", b"link-out", b"tree-out", b"canary", b"new", b"received", b"home"]
)
TRICKS = st.sampled_from(
    [
        b"..", b".", b"", b"%2e%2e", b"%2E.", b"..%2f..", b"..%2f..%2foutside%2fcanary", b"%2f", b"%2fetc%2fpasswd",
        b"..%5c..", b"%5c", b"\\", b"..\\..", b"%00", b"file%00.txt", b"file%0a", b"%0d%0aX:y", b"%ff%fe", b"\xff\xfe",
        b"%c0%ae%c0%ae", b"%c0%af", b"%e2%80%ae", b"%ed%a0%80", b"%", b"%zz", b"%2", b"%252e%252e", b"%25ff", b";x=y",
        b"?q", b"#f", b"~", b"*", b"<x>", b"%7f", b"%01%02", b"a" * 255, b"a" * 256, b"%61" * 300, b"b/" * 2047,
        b".ocm-gateway-" + b"0" * 32, b".ocm-gateway-x", b"con", b"file.", b"file ".replace(b" ", b"%20"), b"e%cc%81",
    ]
)  # fmt: skip
RAW = st.binary(max_size=60).map(lambda name: bytes(byte for byte in name if byte not in b"\r\n "))
SEGMENTS = st.one_of(NAMES, TRICKS, st.binary(min_size=1, max_size=300).map(percent), RAW)
ROOTS = st.sampled_from(
    [
        b"/dav/files/alice/home/", b"/dav/files/alice/frozen/", b"/dav/files/alice/other/", b"/dav/files/alice/",
        b"/dav/files/bob/home/", b"/dav/files/", b"/dav/ocm/", b"/dav/", b"//dav//files/alice/home/",
        b"/dav/files/%61lice/home/", b"http://x/dav/files/alice/home/", b"*", b"",
    ]
)  # fmt: skip
BELOW = st.lists(SEGMENTS, max_size=6).map(b"/".join)
TARGETS = st.tuples(ROOTS, BELOW).map(b"".join)
SEEN = st.sampled_from(
    [b"file", b"folder", b"folder/file", b"folder/", b"link-in/file", b"link-out", b"tree-out", b"new"]
)

CREDENTIALS = st.sampled_from(["alice"] * 8 + ["bob", "share"])


def value_like(*examples: str) -> st.SearchStrategy[str | bytes]:
    """Values of a header: good ones, two of them joined, cut short, and any bytes at all that a header can hold."""
    good = st.sampled_from(examples)
    return st.one_of(
        good,
        st.tuples(good, st.sampled_from([",", ", ", " ", ";", ""]), good).map("".join),
        st.tuples(good, st.integers(0, 30)).map(lambda cut: cut[0][: cut[1]].strip()),
        st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=("Cs",)), max_size=40),
        st.binary(max_size=40).map(lambda data: bytes(byte for byte in data if byte not in b"\r\n\0")),
        st.sampled_from([",".join(examples * 300), "(" * 3000, "9" * 5000, "\xff"]),
    )


ETAGS = ('"x"', 'W/"x"', "*", '"x", "y"', '""', '"', "x", '"\u00e9"', 'w/"x"', "W/")
DATES = (
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "0",
    "Sun, 99 Nov 999999 99:99:99 GMT",
    "-1",
)
HEADERS: dict[str, st.SearchStrategy[str | bytes]] = {
    "Range": value_like(
        "bytes=0-0", "bytes=0-", "bytes=-1", "bytes=-0", "bytes=5-2", "bytes=0-1,3-4", "bytes=9999999999999999999999-",
        "bytes=-99999999999999999999999", "lines=1-2", "bytes=\u0661-", "bytes", "bytes=--1",
    ),
    "If-Range": value_like(*ETAGS, *DATES),
    "If": value_like(
        '(["x"])', "(<urn:uuid:1>)", '(Not ["x"])', "(Not <DAV:no-lock>)", '</dav/files/alice/home/file> (["x"])',
        '<http://x/dav/files/alice/home/../../..> (Not ["x"])', "<http://[> (<x>)", "()", "((", '(["x"] ["y"])(<z>)',
        "<%ff%00> (<x>)", "(Not Not <x>)",
    ),
    "If-Match": value_like(*ETAGS),
    "If-None-Match": value_like(*ETAGS),
    "If-Modified-Since": value_like(*DATES),
    "If-Unmodified-Since": value_like(*DATES),
    "Depth": value_like("0", "1", "infinity", "Infinity", "-1", "2", "1,noroot", "\u0661", "0x0"),
    "Overwrite": value_like("T", "F", "t", "true", "X", ""),
    "Timeout": value_like("Second-0", "Infinite", "Second-4100000000", "Second-" + "9" * 40, "Second--1", "Second-x"),
    "Lock-Token": value_like("<urn:uuid:1>", "<", "urn:uuid:1"),
    "Destination": st.one_of(
        value_like(
            "/dav/files/alice/home/new", "http://x/dav/files/alice/home/new", "/dav/files/alice/home/folder/new",
            "/dav/files/alice/home/../../../outside/canary", "/dav/files/alice/home/tree-out/canary", "http://[::1",
            "/dav/files/alice/home/tree-out/new", "/dav/files/bob/home/x", "/dav/ocm/x", "file:///etc/passwd", "//x/y",
            "/dav/files/alice/home/%2e%2e%2fcanary", "/dav/files/alice/home/file/below", "http://x:99999999/dav", "?",
            "/dav/files/alice/other/new", "/dav/files/alice/frozen/new", "/dav/files/alice/home/link-out", "/", "http://",
        ),
        TARGETS,
    ),
    "Content-Range": value_like(
        "bytes 0-3/4", "bytes 0-3/8", "bytes 4-7/8", "bytes */8", "bytes 0-3/*", "bytes 3-0/4", "bytes 0-3/3", "bytes",
        "bytes 0-99999999999999999999/99999999999999999999", "lines 0-3/4", "bytes 0-3/" + "9" * 18, "bytes \u0660-3/4",
    ),
    "Content-Digest": value_like("sha-256=:AAAA:", "sha-256=AAAA", "sha-512=:", "md5=:AA==:", "sha-256", '"x"=1'),
    "Repr-Digest": value_like("sha-256=:AAAA:", "sha-512=:AAAA:, sha-256=:BBBB:", "a=b;c", "sha-256=?1"),
    "Content-Encoding": value_like("identity", "gzip", "br, gzip"),
    "Content-Type": value_like("application/xml", "text/plain", "application/xml; charset=utf-7", "/", "x" * 300),
    "Expect": value_like("100-continue", "100-Continue", "200-ok"),
    "Host": value_like("x", "x:80", "[::1]:80", "", "x y", "@"),
    "Accept-Encoding": value_like("gzip", "*;q=0"),
    "Upgrade": value_like("websocket", "h2c"),
    "Translate": value_like("f"),
    "X-Forwarded-Host": value_like("evil.example"),
}  # fmt: skip

BOMB = (
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(8))
    + b']><d:propfind xmlns:d="DAV:"><d:prop><d:x>&i;</d:x></d:prop></d:propfind>'
)


def bodies(canary: Path) -> list[bytes]:
    """XML that has broken somebody once; the external entities name the canary."""
    uri = canary.as_uri().encode()
    prop = b'<d:propfind xmlns:d="DAV:"><d:prop>%s</d:prop></d:propfind>'
    update = b'<d:propertyupdate xmlns:d="DAV:"><d:set><d:prop>%s</d:prop></d:set></d:propertyupdate>'
    external = b'<!DOCTYPE x [<!ENTITY e SYSTEM "' + uri + b'">]>'
    return [
        b"", b"<", b"x", b"<x/>", b"\0", b"\xff\xfe<\0x\0/\0>\0", BOMB,
        external + prop % b"<d:x>&e;</d:x>", external + update % b"<d:displayname>&e;</d:displayname>",
        b'<!DOCTYPE x SYSTEM "' + uri + b'">' + prop % b"<d:x/>",
        b'<?xml version="1.0" encoding="utf-7"?>' + prop % b"<d:x/>", b'<?xml version="1.1"?>' + prop % b"<d:x/>",
        b'<?xml version="1.0" encoding="no-such"?><x/>', prop % b"", prop % b"<d:getetag/>", update % b"<d:getetag/>",
        prop % (b"<d:x/>" * 20_000), update % b"<d:getlastmodified>rubbish</d:getlastmodified>",
        update % (b"<d:lastmodified>" + b"9" * 400 + b"</d:lastmodified>"),
        b'<propfind xmlns="dav:"><allprop/></propfind>', b'<d:propfind xmlns:d="DAV"><d:allprop/></d:propfind>',
        b'<d:propfind xmlns:d="DAV:"><d:allprop/><d:propname/></d:propfind>', b'<d:propfind xmlns:d=""/>',
        b'<d:propfind xmlns:d="DAV:"><d:allprop/></d:propfind>',
        b'<d:propfind xmlns:d="DAV:"><d:propname/></d:propfind>',
        b'<d:propfind xmlns:d="DAV:" xmlns:e="&#1;"><d:prop><e:x/></d:prop></d:propfind>',
        prop % (b"<d:" + b"x" * 100_000 + b"/>"), prop % b'<x xmlns=""/>', prop % b"<x:y/>", prop % b"<d:x>]]></d:x>",
        b'<d:lockinfo xmlns:d="DAV:"><d:lockscope><d:exclusive/></d:lockscope></d:lockinfo>',
        update % b'<d:x xml:lang="&#0;"/>', update % (b"<d:x>" * 400 + b"</d:x>" * 400), b"<a>" * 100_000,
        b"<!--" + b"x" * 100_000, b" " * ((1 << 20) - 10) + b"<x/>", prop % b"<d:x/>" + b" " * (1 << 20),
    ]  # fmt: skip


# -------------------------------------------------------------------------------------------------- the properties


@PROFILE
@given(method=st.sampled_from(METHODS), target=TARGETS, who=CREDENTIALS, content=st.sampled_from([b"", b"abc"]))
def test_any_path(world: World, method: str, target: bytes, who: str, content: bytes) -> None:
    world.restore()
    fields = {"Host": "x", **world.credentials[who], "Content-Length": str(len(content))}
    fields |= {"Destination": "/dav/files/alice/home/new", "Depth": "0"} if method in ("COPY", "MOVE") else {}
    world.check(method.encode() + b" " + target + b" HTTP/1.1" + lines(fields), content)


@settings(PROFILE, max_examples=50)
@given(size=st.integers(3800, LINE_MAX + 200), name=st.sampled_from([b"a", b"a/", b"%2e", b"%ff", b"../"]))
def test_a_path_of_any_length(world: World, size: int, name: bytes) -> None:
    target = b"/dav/files/alice/home/" + (name * size)[:size]
    for method in (b"GET", b"PUT", b"MKCOL", b"PROPFIND"):
        fields = {"Host": "x", **world.credentials["alice"], "Content-Length": "0", "Depth": "0"}
        status = world.check(method + b" " + target + b" HTTP/1.1" + lines(fields))
        assert 400 <= status < 500


@PROFILE
@given(
    method=st.sampled_from(METHODS),
    below=SEEN,
    fields=st.fixed_dictionaries({}, optional=HEADERS),
    who=CREDENTIALS,
    content=st.sampled_from([b"", b"abcd", b"x" * 70_000]),
    chunked=st.booleans(),
)
def test_any_headers(
    world: World, method: str, below: bytes, fields: dict[str, str | bytes], who: str, content: bytes, chunked: bool
) -> None:
    world.restore()
    root = b"/dav/ocm/" if who == "share" else b"/dav/files/" + who.encode() + b"/home/"
    fields = {"Host": "x", **fields, **world.credentials[who]}
    if chunked:
        fields["Transfer-Encoding"] = "chunked"
        content = (b"%x\r\n" % len(content) + content + b"\r\n" if content else b"") + b"0\r\n\r\n"
    else:
        fields["Content-Length"] = str(len(content))
    world.check(method.encode() + b" " + root + below + b" HTTP/1.1" + lines(fields), content)


@settings(PROFILE, max_examples=100)
@given(
    length=st.sampled_from(["0", "3", "4", "5", "99999999999999999999", "-1", "x", "", "4, 4", "+4", "0x4", "\u0664"]),
    transfer=st.sampled_from([None, "chunked", "gzip, chunked", "identity", "chunked, chunked", "x"]),
    content=st.sampled_from(
        [b"", b"abcd", b"4\r\nabcd\r\n0\r\n\r\n", b"zz\r\n", b"4;x=y\r\nabcd\r\n0\r\nX: y\r\n\r\n"]
    ),
    method=st.sampled_from(["PUT", "PROPFIND", "GET", "PROPPATCH", "MKCOL"]),
)
def test_any_framing_of_the_body(world: World, length: str, transfer: str | None, content: bytes, method: str) -> None:
    """The last byte of the client has come, so nothing may wait for more."""
    world.restore()
    fields = {"Host": "x", **world.credentials["alice"], "Content-Length": length}
    fields |= {} if transfer is None else {"Transfer-Encoding": transfer}
    head = method.encode() + b" /dav/files/alice/home/framed HTTP/1.1" + lines(fields)
    if world.check(head, content, half_close=True) in (201, 204) and method == "PUT":
        assert (world.served.data / "framed").read_bytes() in (b"", content[: int(length)], b"abcd")


@pytest.mark.parametrize("method", ["PROPFIND", "PROPPATCH", "LOCK", "MKCOL", "REPORT"])
def test_any_xml(world: World, method: str) -> None:
    started = time.monotonic()
    for body in bodies(world.outside / "canary"):
        fields = {"Host": "x", **world.credentials["alice"], "Content-Length": str(len(body)), "Depth": "0"}
        status = world.check(method.encode() + b" /dav/files/alice/home/file HTTP/1.1" + lines(fields), body)
        if len(body) > 1 << 20 and method in ("PROPFIND", "PROPPATCH"):
            assert status in (0, 413)
    assert time.monotonic() - started < PATIENCE


@settings(PROFILE, max_examples=100)
@given(
    method=st.sampled_from(["PROPFIND", "PROPPATCH", "LOCK", "MKCOL"]),
    index=st.integers(0, 100),
    at=st.integers(0, 400),
    by=st.binary(max_size=20),
    drop=st.integers(0, 30),
)
def test_any_xml_with_something_else_in_its_middle(
    world: World, method: str, index: int, at: int, by: bytes, drop: int
) -> None:
    known = [body for body in bodies(world.outside / "canary") if 0 < len(body) < 2000]
    body = known[index % len(known)]
    body = body[:at] + by + body[at + drop :]
    fields = {"Host": "x", **world.credentials["alice"], "Content-Length": str(len(body)), "Depth": "1"}
    world.check(method.encode() + b" /dav/files/alice/home/folder HTTP/1.1" + lines(fields), body)


TOTAL = 24


@settings(PROFILE, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, TOTAL - 1), st.integers(1, TOTAL), st.sampled_from([b"a", b"b", b"c"])), max_size=12
    )
)
def test_parts_in_any_order_store_what_they_say(world: World, given_parts: list[tuple[int, int, bytes]]) -> None:
    """Compared with the simplest model: the bytes from 0 on that are there without a gap."""
    path = "/home/in-any-order"
    with contextlib.suppress(FileNotFoundError):
        (world.served.data / "in-any-order").unlink()
    world.served.alice("PUT", path, b"old")
    model = b""
    for first, length, letter in given_parts:
        end = min(first + length, TOTAL)
        part = letter * (end - first)
        reply = world.served.alice("PUT", path, part, Content_Range=f"bytes {first}-{end - 1}/{TOTAL}")
        if first > len(model):
            assert (reply.status, stored(reply)) == (416, len(model))
        elif end == TOTAL:
            assert reply.status == 204
            assert (world.served.data / "in-any-order").read_bytes() == model[:first] + part
            model = b""
        else:
            model = model[:first] + part
            assert (reply.status, stored(reply)) == (202, len(model))
        asked = world.served.alice("PUT", path, b"", Content_Range=f"bytes */{TOTAL}")
        assert stored(asked) == len(model)
    world.served.alice("PUT", path, b"")
    assert world.served.temporaries() == []


def test_a_link_that_is_swapped_in_leaks_nothing(world: World) -> None:
    """A folder that is now a folder and now a link out, while clients read, list, write, copy and remove in it."""
    data, over = world.served.data, threading.Event()
    real, trap, name = data / "real", data / "trap", data / "swung"
    real.mkdir()
    (real / "canary").write_bytes(b"harmless")
    trap.symlink_to(world.outside)
    real.rename(name)

    def swing() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                name.rename(real)
                trap.rename(name)
                name.rename(trap)
                real.rename(name)

    requests = [
        (b"GET", b"swung/canary", {}, b""),
        (b"PROPFIND", b"swung", {"Depth": "1"}, b""),
        (b"PUT", b"swung/canary", {}, b"harmless"),
        (b"PUT", b"swung/part", {"Content-Range": "bytes 0-3/8"}, b"part"),
        (b"COPY", b"swung", {"Destination": "/dav/files/alice/home/copied"}, b""),
        (b"COPY", b"file", {"Destination": "/dav/files/alice/home/swung/copied"}, b""),
        (b"MOVE", b"copied", {"Destination": "/dav/files/alice/home/swung/moved"}, b""),
        (b"DELETE", b"swung/moved", {}, b""),
        (b"MKCOL", b"swung/made", {}, b""),
    ]
    thread = threading.Thread(target=swing)
    thread.start()
    try:
        deadline, statuses = time.monotonic() + 3, set()
        while time.monotonic() < deadline:
            for method, below, extra, body in requests:
                fields = {"Host": "x", **world.credentials["alice"], **extra, "Content-Length": str(len(body))}
                head = method + b" /dav/files/alice/home/" + below + b" HTTP/1.1" + lines(fields)
                statuses.add(world.check(head, body))
    finally:
        over.set()
        thread.join()
    assert statuses & {200, 201, 204, 207}
    assert statuses & {404, 409}
