"""In front of Debian's nginx: the same bytes as without us, whoever asks."""

from __future__ import annotations

import gzip
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from certificates import self_signed
from sites import Site

from gateway.upstream import wire

from .servers import nginx, somewhere
from .talking import Head, call

SIZE = 256 << 20  # bytes
PIECE = 1 << 20
GROWTH = 48 << 20  # bytes of resident memory that a transfer may cost


@dataclass
class Front:
    """A gateway, the nginx behind it, and what that serves."""

    site: Site
    port: int
    data: Path


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with somewhere() as place, nginx(place) as port:
        upstream = {"url": f"http://127.0.0.1:{port}"}
        with Site(tmp_path_factory.mktemp("front"), upstream=upstream) as site:
            (place / "data" / "index.html").write_text("<title>the NAS</title>")
            (place / "data" / "text.txt").write_text("0123456789" * 1000)
            (place / "data" / "a b\u00e9").write_text("odd")
            yield Front(site, port, place / "data")
        assert "Traceback" not in site.log.read_text()


def both(front: Front, lines: bytes, target: bytes = b"/text.txt", method: bytes = b"GET") -> list[tuple[Head, bytes]]:
    """Return what comes directly and what comes through the gateway."""
    answers = []
    for port in (front.port, front.site.port):
        with call(port) as client:
            client.send(
                method + b" " + target + b" HTTP/1.1\r\nHost: nas.example\r\nConnection: close\r\n" + lines + b"\r\n"
            )
            answers.append((client.head(), client.rest()))
    return answers


REQUESTS = [
    (b"GET", b"/", b""),
    (b"GET", b"/text.txt", b""),
    (b"HEAD", b"/text.txt", b""),
    (b"GET", b"/text.txt", b"Range: bytes=5-14\r\n"),
    (b"GET", b"/text.txt", b"Range: bytes=0-1,50-51\r\n"),
    (b"GET", b"/text.txt", b"Range: bytes=-3\r\n"),
    (b"GET", b"/text.txt", b"Range: bytes=99999-\r\n"),
    (b"GET", b"/text.txt", b"If-Modified-Since: Sat, 01 Jan 2050 00:00:00 GMT\r\n"),
    (b"GET", b"/text.txt", b'If-Match: "x"\r\n'),
    (b"GET", b"/a%20b%C3%A9", b""),
    (b"GET", b"/missing", b""),
    (b"GET", b"/upload", b""),
    (b"POST", b"/text.txt", b"Content-Length: 0\r\n"),
    (b"GET", b"/%zz", b""),
]


@pytest.mark.parametrize(("method", "target", "lines"), REQUESTS)
def test_the_answer_is_the_one_without_us(front: Front, method: bytes, target: bytes, lines: bytes) -> None:
    (direct, plain), (through, body) = both(front, lines, target, method)
    assert through.first == direct.first
    changing = (b"date", b"connection", b"content-type") if b"Range: bytes=0-1," in lines else (b"date", b"connection")
    fields = [[field for field in head.fields if field[0].lower() not in changing] for head in (direct, through)]
    assert sorted(fields[1]) == sorted(fields[0])
    if b"bytes=0-1," not in lines:  # nginx makes up a boundary each time
        assert body == plain


def test_what_is_compressed_stays_so(front: Front) -> None:
    (direct, _), (through, body) = both(front, b"Accept-Encoding: gzip\r\n")
    assert through[b"Content-Encoding"] == direct[b"Content-Encoding"] == b"gzip"
    assert through[b"Transfer-Encoding"] == b"chunked"
    content = b"".join(wire.body(wire.Framing.CHUNKED).feed(body))
    assert gzip.decompress(content) == b"0123456789" * 1000


def test_the_server_hears_the_host_the_client_and_the_credential(front: Front) -> None:
    _, (through, body) = both(front, b"Authorization: Basic Y2Fyb2w6eA==\r\n", b"/about?x=%2f")
    assert body == b"about\n"
    assert through[b"X-About"] == b"GET /about?x=%2f nas.example 127.0.0.1 Basic Y2Fyb2w6eA=="
    assert "Y2Fyb2w6eA" not in front.site.log.read_text()


def resident(site: Site) -> int:
    """Return how much memory the gateway has needed at most, in bytes."""
    assert site.process is not None
    status = Path(f"/proc/{site.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_large_body_goes_up_and_comes_down_in_little_memory(front: Front, is_chunked: bool) -> None:
    before = resident(front.site)
    piece = os.urandom(PIECE)
    with call(front.site.port) as client:
        framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % SIZE
        client.send(b"PUT /upload/large HTTP/1.1\r\nHost: nas\r\n" + framing + b"\r\n\r\n")
        for _ in range(SIZE // PIECE):
            client.send(b"%x\r\n%b\r\n" % (PIECE, piece) if is_chunked else piece)
        client.send(b"0\r\n\r\n" if is_chunked else b"")
        assert client.head().status in (201, 204)
    expected = hashlib.sha256()
    for _ in range(SIZE // PIECE):
        expected.update(piece)
    with (front.data / "upload" / "large").open("rb") as stored:
        assert hashlib.file_digest(stored, "sha256").digest() == expected.digest()
    with call(front.site.port) as client:
        client.send(b"GET /upload/large HTTP/1.1\r\nHost: nas\r\nConnection: close\r\n\r\n")
        assert client.head()[b"Content-Length"] == b"%d" % SIZE
        received = hashlib.sha256()
        while piece := client.some():
            received.update(piece)
    assert received.digest() == expected.digest()
    assert resident(front.site) - before < GROWTH


def test_a_client_that_takes_nothing_costs_little_memory(front: Front) -> None:
    (front.data / "sparse").touch()
    os.truncate(front.data / "sparse", SIZE)
    before = resident(front.site)
    clients = [call(front.site.port) for _ in range(8)]
    for client in clients:
        client.send(b"GET /sparse HTTP/1.1\r\nHost: nas\r\n\r\n")
        client.head()
    time.sleep(1)
    assert resident(front.site) - before < GROWTH
    for client in clients:
        client.socket.close()


def test_over_tls_on_both_sides(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with somewhere() as place:
        pair = place / "tls.pem", place / "tls.key"
        for source, target in zip(certificate, pair, strict=True):
            target.write_bytes(source.read_bytes())
        with nginx(place, pair) as port:
            content = os.urandom(5_000_000)
            (place / "data" / "file").write_bytes(content)
            upstream = {"url": f"https://localhost:{port}", "ca": str(certificate[0])}
            with Site(tmp_path / "trusting", certificate=certificate, upstream=upstream) as site:
                assert site.http("GET", "/file").body == content
                assert site.http("PUT", "/upload/b", content).status == 201
                assert (place / "data" / "upload" / "b").read_bytes() == content
            with Site(tmp_path / "doubting", upstream={"url": f"https://localhost:{port}"}) as site:
                reply = site.http("GET", "/file")
                assert (reply.status, b"UPSTREAM_UNREACHABLE" in reply.body) == (502, True)
                assert "self-signed certificate" in site.log.read_text()
