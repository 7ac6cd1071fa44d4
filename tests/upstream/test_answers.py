"""What a client gets of the server's answers, also of odd and of broken ones."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from sites import Site, free_port

from gateway.upstream import wire

from .conftest import IDLE
from .talking import Head, Scripted, Talk, call

GET = b"GET /x HTTP/1.1\r\nHost: nas\r\n\r\n"
LAST = b"GET /x HTTP/1.1\r\nHost: nas\r\nConnection: close\r\n\r\n"
OLD = b"GET /x HTTP/1.0\r\n\r\n"


def says(answer: bytes, then: Callable[[Talk], None] = lambda talk: None) -> Callable[[Talk], None]:
    def script(talk: Talk) -> None:
        talk.head()
        talk.send(answer)
        then(talk)

    return script


def answered(site: Site, behind: Scripted, answer: bytes, request: bytes = LAST) -> tuple[Head, bytes]:
    """Return head and raw body of what comes for an answer after which the server closes."""
    behind.plays(says(answer))
    with call(site.port) as client:
        client.send(request)
        return client.head(), client.rest()


def test_fields_keep_their_order_their_case_and_their_bytes(site: Site, behind: Scripted) -> None:
    fields = [
        *[
            (b"Set-Cookie", b"a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT"),
            (b"X-Raw", b"\xe9\xff"),
            (b"set-cookie", b"b=2"),
        ],
        *[(b"WWW-Authenticate", b"Basic realm=x"), (b"WWW-Authenticate", b"Digest realm=y"), (b"X-Empty", b"")],
        *[
            (b"Content-Encoding", b"gzip"),
            (b"ETag", b'W/"1"'),
            (b"Server", b"old/1.0"),
            (b"DAV", b"1, 2"),
            (b"Via", b"1.1 a"),
        ],
    ]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
    head, body = answered(
        site, behind, b"HTTP/1.1 299 Odd \xe9 reason\r\n" + lines + b"Content-Length: 3\r\n\r\n\x1f\x8b\xff"
    )
    assert head.first == b"HTTP/1.1 299 Odd \xe9 reason"
    assert head.fields == [*fields, (b"Content-Length", b"3"), (b"Connection", b"close")]
    assert body == b"\x1f\x8b\xff"


def test_what_belongs_to_a_hop_ends_at_it(site: Site, behind: Scripted) -> None:
    lines = b"Connection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2,h2c\r\nX-Stays: 2\r\n"
    head, _ = answered(site, behind, b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 0\r\n\r\n", GET + LAST)
    assert head.fields == [(b"X-Stays", b"2"), (b"Content-Length", b"0")]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_for_the_client(site: Site, behind: Scripted, status: int) -> None:
    head, _ = answered(site, behind, b"HTTP/1.1 %d X\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n" % status)
    assert (head.status, head[b"Location"]) == (status, b"http://other/")


@pytest.mark.parametrize(
    ("request_line", "answer", "length"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"1000"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n", b"1000"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\n\r\n", None),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", None),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"0"),
    ],
)
def test_answers_without_a_body_end_with_their_head(
    site: Site, behind: Scripted, request_line: bytes, answer: bytes, length: bytes | None
) -> None:
    """A second request on the same connection would read what should not have come."""
    behind.plays(says(answer))
    with call(site.port) as client:
        for _ in range(2):
            client.send(request_line + b" /x HTTP/1.1\r\nHost: nas\r\n\r\n")
            head = client.head()
            assert head.all(b"Content-Length") == ([length] if length else [])
            assert b"Transfer-Encoding" not in head


def test_chunks_come_with_their_trailers(site: Site, behind: Scripted) -> None:
    head, body = answered(
        site,
        behind,
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;why=not\r\nabc\r\n0;x\r\nX-Sum: \xff\r\nX-Sum: 2\r\nContent-Length: 7\r\n\r\n",
    )
    assert (head[b"Trailer"], head[b"Transfer-Encoding"]) == (b"X-Sum", b"chunked")
    assert body == b"3\r\nabc\r\n0\r\nX-Sum: \xff\r\nX-Sum: 2\r\n\r\n"


def test_many_small_chunks_become_few(site: Site, behind: Scripted) -> None:
    many = b"1\r\na\r\n" * 5000
    _, body = answered(site, behind, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + many + b"0\r\n\r\n")
    assert b"".join(wire.body(wire.Framing.CHUNKED).feed(body)) == b"a" * 5000
    assert len(body) < 6000


def test_an_answer_until_the_end_of_the_connection_gets_an_end_of_its_own(site: Site, behind: Scripted) -> None:
    head, body = answered(site, behind, b"HTTP/1.0 200 OK\r\n\r\nabc")
    assert (head[b"Transfer-Encoding"], body) == (b"chunked", b"3\r\nabc\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\nX: y\r\n\r\n",
    ],
)
def test_an_old_client_gets_no_chunks(site: Site, behind: Scripted, answer: bytes) -> None:
    head, body = answered(site, behind, answer, OLD)
    assert b"Transfer-Encoding" not in head
    assert (head[b"Connection"], body) == (b"close", b"abc")


def test_an_old_client_that_stays_is_told_that_it_may(site: Site, behind: Scripted) -> None:
    behind.plays(says(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"))
    with call(site.port) as client:
        for _ in range(2):
            client.send(b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert client.head()[b"Connection"] == b"keep-alive"
            assert client.exactly(1) == b"a"


def test_a_folded_field_becomes_one_line(site: Site, behind: Scripted) -> None:
    head, _ = answered(site, behind, b"HTTP/1.1 200 OK\r\nX-Fold: a\r\n\t b\r\nContent-Length: 0\r\n\r\n")
    assert head[b"X-Fold"] == b"a b"


def test_lines_that_end_in_lf_alone_are_lines(site: Site, behind: Scripted) -> None:
    head, body = answered(site, behind, b"HTTP/1.1 200 OK\nX-A: 1\nContent-Length: 1\n\nz")
    assert (head[b"X-A"], body) == (b"1", b"z")


# --- what goes wrong ------------------------------------------------------------------------------------------------

MALFORMED = [
    b"SSH-2.0-OpenSSH\r\n\r\n",
    b"HTTP/2 200 OK\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1  200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX y: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: many\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
]


@pytest.mark.parametrize("answer", MALFORMED, ids=lambda answer: repr(answer[:50]))
def test_an_answer_that_is_none_is_502(site: Site, behind: Scripted, answer: bytes) -> None:
    head, body = answered(site, behind, answer)
    assert head.status == 502
    assert json.loads(body)["code"] == "UPSTREAM_MALFORMED"


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nX: 1\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"]
)
def test_a_server_that_hangs_up_is_502(site: Site, behind: Scripted, answer: bytes) -> None:
    behind.plays(says(answer))
    with call(site.port) as client:
        client.send(b"POST /x HTTP/1.1\r\nHost: nas\r\nConnection: close\r\nContent-Length: 1\r\n\r\na")
        everything = client.rest()
    head, _, body = everything.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    assert Head(head).status == 502
    assert json.loads(body)["code"] == "UPSTREAM_CLOSED"


def test_a_server_that_says_nothing_is_504_and_the_next_request_is_served(site: Site, behind: Scripted) -> None:
    behind.plays(says(b"", lambda talk: time.sleep(IDLE + 1)))
    with call(site.port) as client:
        client.send(GET)
        head = client.head()
        assert head.status == 504
        assert b'"UPSTREAM_SILENT"' in client.exactly(int(head[b"Content-Length"]))
        behind.plays(says(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"))
        client.send(GET)
        assert client.head().status == 200


def test_a_slow_answer_is_not_an_idle_one(site: Site, behind: Scripted) -> None:
    def dripping(talk: Talk) -> None:
        for byte in (b"a", b"b", b"c", b"d", b"e"):
            time.sleep(IDLE / 3)
            talk.send(byte)

    behind.plays(says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", dripping))
    with call(site.port) as client:
        client.send(LAST)
        client.head()
        assert client.rest() == b"abcde"


CUT = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n-1\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX Y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + b"1" * 9000,
]


@pytest.mark.parametrize("request_", [LAST, OLD], ids=["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("answer", CUT, ids=lambda answer: repr(answer[19:90]))
def test_an_answer_that_dies_in_the_middle_is_never_a_complete_one(
    site: Site, behind: Scripted, answer: bytes, request_: bytes
) -> None:
    """To an old client only the reset says so."""
    behind.plays(says(answer))
    with call(site.port) as client:
        client.send(request_)
        with pytest.raises(ConnectionResetError):
            client.rest()


def test_a_reset_in_an_answer_without_a_length_is_no_end(site: Site, behind: Scripted) -> None:
    def dying(talk: Talk) -> None:
        time.sleep(0.2)
        talk.reset()

    behind.plays(says(b"HTTP/1.1 200 OK\r\n\r\nabc", dying))
    with call(site.port) as client:
        client.send(OLD)
        with pytest.raises(ConnectionResetError):
            client.rest()


def test_a_server_that_is_not_there_is_502_with_a_sentence_and_own_paths_work(tmp_path_factory) -> None:
    upstream = {"url": f"http://127.0.0.1:{free_port()}"}
    with Site(tmp_path_factory.mktemp("alone"), upstream=upstream) as site:
        reply = site.http("GET", "/anything?secret=1", headers={"Authorization": "Bearer hush"})
        assert reply.status == 502
        told = json.loads(reply.body)
        assert told["code"] == "UPSTREAM_UNREACHABLE"
        assert "try again later" in told["message"]
        assert site.http("GET", "/.well-known/ocm").status == 200
        log = site.log.read_text()
    assert "Connection refused" in log or "refused" in log
    assert "door=upstream method=GET path=/anything " in log
    assert "hush" not in log
    assert "secret=1" not in log


def test_a_client_that_takes_little_at_a_time_is_not_idle_and_one_that_takes_nothing_is_cut(
    site: Site, behind: Scripted
) -> None:
    """What counts is whether anything moves, in a body that is larger than all buffers on the way, those of the
    kernel included."""
    size, share = 32 << 20, 4 << 20
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    for pauses in (True, False):
        behind.plays(says(answer, lambda talk: talk.send(b"x" * size)))
        with call(site.port) as client:
            client.send(LAST)
            client.head()
            if pauses:
                for _ in range(4):
                    time.sleep(IDLE / 2)
                    client.exactly(share)
                assert len(client.rest()) == size - 4 * share
            else:
                time.sleep(2 * IDLE + 2)
                with pytest.raises(ConnectionResetError):
                    client.rest()
