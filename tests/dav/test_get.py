"""GET and HEAD: ranges, validators, and bodies that are whole or visibly broken."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import http.client
import os
import socket
import ssl
import struct
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from backends.paths import StoragePath

from .served import READ, Served, basic, bearer

BIG = 3 * 1024 * 1024 + 17
CONTENT = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def files(served: Served) -> None:
    (served.data / "small.txt").write_bytes(CONTENT)
    (served.data / "empty").write_bytes(b"")
    (served.data / "big").write_bytes(os.urandom(BIG))
    (served.data / "page.html").write_bytes(b"<script>alert(1)</script>")
    (served.data / "folder").mkdir()


@pytest.fixture(params=["uvloop", "asyncio"], scope="module")
def either_loop(request, tmp_path_factory):
    with Served(tmp_path_factory.mktemp("door"), loop=request.param) as door:
        yield door


def test_a_file_comes_with_its_validators_and_harmless_headers(served, files):
    reply = served.alice("GET", "/home/page.html")
    assert reply.headers["content-type"] == "text/html"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-security-policy"] == "sandbox"
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["etag"] == f'"{served.local.stat(StoragePath.parse("page.html")).etag}"'
    assert reply.headers["last-modified"].endswith(" GMT")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.tar.gz", "application/gzip"),
        ("a.PDF", "application/pdf"),
        ("a.bz2", "application/x-bzip2"),
        ("noending", "application/octet-stream"),
        (".html", "application/octet-stream"),
        ("a.%FF", "application/octet-stream"),
        ("a.unheard-of", "application/octet-stream"),
        ("data:text%3Bx", "application/octet-stream"),
    ],
)
def test_the_media_type_is_that_of_the_name(served, name, expected):
    assert served.alice("PUT", f"/home/{name}", b"x").status == 201
    assert served.alice("GET", f"/home/{name}").headers["content-type"] == expected


def test_head_is_get_without_the_body(served, files):
    for name in ("small.txt", "empty", "big"):
        get, head = served.alice("GET", f"/home/{name}"), served.alice("HEAD", f"/home/{name}", Range="bytes=0-0")
        assert (head.status, head.body) == (200, b"")
        del get.headers["date"], head.headers["date"]
        assert head.headers == get.headers


@pytest.mark.parametrize("name", ["small.txt", "big"])
def test_a_part_is_sent_as_a_part(served, files, name):
    content = (served.data / name).read_bytes()
    size = len(content)
    for value, start, end in (("0-9", 0, 10), ("100-", 100, size), ("-100", size - 100, size), ("5-5", 5, 6)):
        reply = served.alice("GET", f"/home/{name}", Range=f"bytes={value}")
        assert (reply.status, reply.body) == (206, content[start:end])
        assert reply.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert reply.headers["content-length"] == str(end - start)


def test_a_part_beyond_the_end_is_416(served, files):
    reply = served.alice("GET", "/home/small.txt", Range="bytes=2000-")
    assert (reply.status, reply.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")


def test_an_empty_file_is_whole_whatever_is_asked(served, files):
    assert served.alice("GET", "/home/empty").body == b""
    assert served.alice("GET", "/home/empty", Range="bytes=-5").status == 200


def test_an_unchanged_file_is_304_with_its_validators(served, files):
    etag = served.alice("HEAD", "/home/small.txt").headers["etag"]
    reply = served.alice("GET", "/home/small.txt", If_None_Match=etag)
    assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", etag)
    assert served.alice("GET", "/home/small.txt", If_None_Match='"other"').body == CONTENT
    assert served.alice("GET", "/home/small.txt", If_Match='"other"').status == 412
    assert served.alice("GET", "/home/small.txt", If='(["other"])').status == 412
    assert served.alice("GET", "/home/small.txt", If=f"([{etag}])").status == 200
    assert served.alice("GET", "/home/small.txt", If="(rubbish").status == 400


def test_a_folder_has_no_content(served, files):
    for path in ("/home/folder", "/home/", "/", "/received/"):
        reply = served.alice("GET", path)
        assert reply.status == 405
        assert "PROPFIND" in reply.headers["allow"]
        assert "GET" not in reply.headers["allow"].split(", ")
        assert served.alice("HEAD", path).status == 405


def test_what_is_not_there_is_404(served, files):
    for path in ("/home/gone", "/home/small.txt/below", "/nomount/x", "/received/gone", "/personal/"):
        reply = served.alice("GET", path)
        assert (reply.status, reply.code) == (404, "NOT_FOUND"), path


def test_a_get_with_a_body_is_not_understood(served, files):
    assert served.alice("GET", "/home/small.txt", b"body").status == 415
    assert served.alice("GET", "/home/small.txt").body == CONTENT


def test_a_big_file_arrives_whole_and_the_connection_goes_on(either_loop):
    content = os.urandom(BIG)
    (either_loop.data / "big").write_bytes(content)
    connection = http.client.HTTPConnection("127.0.0.1", either_loop.port, timeout=20)
    for _ in range(3):
        connection.request("GET", "/dav/files/alice/home/big", headers=basic("alice"))
        assert connection.getresponse().read() == content
    with either_loop.memory.open_write(StoragePath.parse("big")) as writer:
        writer.write(content)
        writer.commit()
    # and where there is no descriptor
    connection.request("GET", "/dav/files/alice/other/big", headers=basic("alice"))
    assert connection.getresponse().read() == content
    connection.close()


def test_pipelined_requests_are_answered_in_their_order(either_loop):
    (either_loop.data / "big").write_bytes(b"B" * BIG)
    (either_loop.data / "small").write_bytes(b"S")
    (authorization,) = basic("alice").values()
    requests = b"".join(
        f"GET /dav/files/alice/home/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n{end}\r\n".encode()
        for name, end in (("big", ""), ("small", ""), ("big", "Connection: close\r\n"))
    )
    answer = either_loop.raw(requests)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.count(b"B" * BIG) == 2
    assert answer.index(b"\r\n\r\nS") > BIG


def slow_reader(served: Served, headers: dict[str, str], path: str) -> socket.socket:
    """Ask for a file, read a little, and stop."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", served.port))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n".encode())
    assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
    return connection


def drain(connection: socket.socket) -> tuple[int, bool]:
    """Read to the end; return how much came, and whether the end was a reset."""
    count = 0
    try:
        while piece := connection.recv(1 << 20):
            count += len(piece)
    except ConnectionResetError:
        return count, True
    finally:
        connection.close()
    return count, False


def test_a_file_that_becomes_shorter_breaks_the_connection(either_loop):
    size = 64 * 1024 * 1024
    path = either_loop.data / "shrinking"
    with path.open("wb") as file:
        file.truncate(size)
    connection = slow_reader(either_loop, basic("alice"), "/dav/files/alice/home/shrinking")
    os.truncate(path, 1024)
    count, was_reset = drain(connection)
    assert count < size
    assert was_reset
    assert either_loop.alice("GET", "/home/shrinking").body == bytes(1024)


def test_a_file_that_is_replaced_while_it_is_read_stays_the_one_that_was_opened(either_loop):
    size = 16 * 1024 * 1024
    (either_loop.data / "file").write_bytes(b"1" * size)
    connection = slow_reader(either_loop, basic("alice"), "/dav/files/alice/home/file")
    assert either_loop.alice("PUT", "/home/file", b"2").status == 204
    content = bytearray()
    while len(content) < size - 1000:
        content += connection.recv(1 << 20)
    connection.close()
    assert set(content) == {ord("1")}


def test_a_client_that_stalls_gets_everything_later(either_loop):
    content = hashlib.sha256(b"seed").digest() * (384 * 1024)
    (either_loop.data / "file").write_bytes(content)
    connection = slow_reader(either_loop, basic("alice"), "/dav/files/alice/home/file")
    time.sleep(1.5)  # longer than a piece is kept for it
    received = bytearray()
    while len(received) < len(content) - 1000:
        piece = connection.recv(1 << 20)
        assert piece
        received += piece
    connection.close()
    assert content.endswith(received[-100_000:])


def test_a_client_that_goes_away_takes_nothing_down(either_loop):
    with (either_loop.data / "file").open("wb") as file:
        file.truncate(256 * 1024 * 1024)
    for _ in range(5):
        connection = slow_reader(either_loop, basic("alice"), "/dav/files/alice/home/file")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert either_loop.alice("GET", "/home/file", Range="bytes=0-9").body == bytes(10)
    time.sleep(0.2)
    open_files = [
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if fd.isdigit()
        if os.path.lexists(f"/proc/self/fd/{fd}")
    ]
    assert not [path for path in open_files if path.endswith("/data/file")]


def test_a_shared_file_is_itself_the_root(served, files):
    share = served.share("small.txt", READ)
    for path in ("/dav/ocm", "/dav/ocm/", f"/dav/ocm/{share.id}", f"/dav/ocm/{share.id}/", f"/dav/ocm//{share.id}"):
        assert served.request("GET", path, headers=bearer(share.secret)).body == CONTENT, path
        assert served.request("HEAD", path, headers=basic(share.secret)).headers["content-length"] == str(len(CONTENT))
    assert served.request("GET", "/dav/ocm/small.txt", headers=bearer(share.secret)).status == 404
    body = served.request("PROPFIND", f"/dav/ocm/{share.id}", headers=bearer(share.secret)).body.decode()
    assert f"<d:href>/dav/ocm/{share.id}</d:href>" in body
    assert "collection" not in body
    body = served.request("PROPFIND", "/dav/ocm/", headers=basic(share.secret)).body.decode()
    assert "<d:href>/dav/ocm/</d:href>" in body
    assert "collection" not in body


def test_a_folder_in_the_place_of_the_shared_one_is_never_served(served):
    (served.data / "project").mkdir()
    (served.data / "project" / "file").write_bytes(b"mine")
    share = served.share("project")
    assert served.request("GET", "/dav/ocm/file", headers=bearer(share.secret)).body == b"mine"
    (served.data / "project").rename(served.data / "project-old")
    (served.data / "project").mkdir()
    (served.data / "project" / "file").write_bytes(b"not shared")
    for method in ("GET", "HEAD", "PROPFIND", "OPTIONS"):
        reply = served.request(method, "/dav/ocm/file", headers=bearer(share.secret))
        assert reply.status == 503, method
        assert b"not shared" not in reply.body
    (served.data / "project" / "file").unlink()
    (served.data / "project").rmdir()
    assert served.request("PROPFIND", "/dav/ocm/", headers=bearer(share.secret)).status == 503
    (served.data / "project-old").rename(served.data / "project")
    assert served.request("GET", "/dav/ocm/file", headers=bearer(share.secret)).body == b"mine"


def certified(directory: Path) -> ssl.SSLContext:
    """Return the context of a server with a certificate of its own making."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = x509.CertificateBuilder(
        name, name, key.public_key(), 1, start, start + datetime.timedelta(days=40_000)
    ).sign(key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "pem").write_bytes(pem + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "pem")
    return context


@pytest.fixture(scope="module")
def behind_tls(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    with Served(directory / "door", tls=certified(directory)) as door:
        yield door


def test_over_tls_everything_arrives_and_a_revocation_cuts(behind_tls):
    content = os.urandom(BIG)
    (behind_tls.data / "folder").mkdir()
    (behind_tls.data / "folder" / "file").write_bytes(content)
    with (behind_tls.data / "folder" / "big").open("wb") as file:
        file.truncate(1 << 28)
    share = behind_tls.share("folder")
    trusting = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", behind_tls.port, timeout=20, context=trusting)
    connection.request("GET", "/dav/ocm/file", headers=bearer(share.secret))
    assert connection.getresponse().read() == content
    connection.request("GET", "/dav/ocm/big", headers=bearer(share.secret))
    answer = connection.getresponse()
    answer.read(1000)
    behind_tls.revoke(share)
    started = time.monotonic()
    broken = pytest.raises((OSError, http.client.IncompleteRead))
    with contextlib.closing(connection), contextlib.closing(answer), broken:
        read_slowly(answer)
    assert time.monotonic() - started < 5


def read_slowly(answer: http.client.HTTPResponse) -> None:
    """Read to the announced end, however long that takes."""
    while answer.read(4096):
        time.sleep(0.005)
    raise http.client.IncompleteRead(b"") if answer.length else AssertionError("everything came")
