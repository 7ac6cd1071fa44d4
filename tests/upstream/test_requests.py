"""What the server behind gets: the client's request, unchanged but for what belongs to a hop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from sites import Site, eventually

from gateway.upstream import wire

from .conftest import IDLE
from .talking import Head, Scripted, Talk, call

FINE = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine"  # keeping is for test_kept.py
REFUSED = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"


def gets(behind: Scripted, body: Callable[[Talk], bytes] = lambda talk: b"") -> list[tuple[Head, bytes]]:
    """Let the server answer every request of a connection, and return the list of what it gets."""
    got: list[tuple[Head, bytes]] = []

    def script(talk: Talk) -> None:
        while first := talk.some():
            talk.give_back(first)
            head = talk.head()
            got.append((head, body(talk)))
            talk.send(FINE)

    behind.plays(script)
    return got


def asked(site: Site, request: bytes) -> bytes:
    """Send a request that ends in `Connection: close` and return everything that comes."""
    with call(site.port) as client:
        client.send(request)
        return client.rest()


def passed_on(site: Site, behind: Scripted, lines: bytes, first: bytes = b"GET /x HTTP/1.1") -> Head:
    got = gets(behind)
    assert asked(site, first + b"\r\nHost: nas\r\nConnection: close\r\n" + lines + b"\r\n").endswith(b"fine")
    ((head, _),) = got
    return head


TARGETS = [
    *(
        b"/",
        b"//",
        b"/a//b/",
        b"/a/./b/../c",
        b"/a%2Fb%2fc",
        b"/%FF%25FF",
        b"/a?b?c=%3F&d=[1]",
        b"/?",
        b"/a;b=c/d",
        b"/~a",
    ),
    *(b"/%zz", b"/a%", b'/x|y\\z{}^`"<>', b"/" + b"a" * 20_000, b"http://nas/abs?x", b"/a#b"),
    *(
        b"/dav",
        b"/dav/",
        b"/dav/other/x",
        b"/ocmx",
        b"/.well-known/",
        b"/.well-known/caldav",
        b"/status.php",
        b"/OCM/shares",
    ),
    *(b"/ocs-provider/", b"/index.php/ocm", b"/accept-invites"),
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: repr(target[:20]))
def test_the_target_arrives_byte_for_byte(site: Site, behind: Scripted, target: bytes) -> None:
    assert passed_on(site, behind, b"", b"GET " + target + b" HTTP/1.1").first == b"GET " + target + b" HTTP/1.1"


METHODS = [
    *("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE"),
    *("LOCK", "UNLOCK", "SEARCH", "REPORT", "MKCALENDAR", "ACL", "BIND", "REBIND", "UNBIND", "MKACTIVITY", "CHECKOUT"),
    *("MERGE", "M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "PURGE", "LINK", "UNLINK"),
]


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_all_kinds_arrive(site: Site, behind: Scripted, method: str) -> None:
    first = method.encode() + b" /x HTTP/1.1"
    assert passed_on(site, behind, b"", first).first == first


def test_a_question_about_the_server_as_a_whole_arrives(site: Site, behind: Scripted) -> None:
    assert passed_on(site, behind, b"", b"OPTIONS * HTTP/1.1").first == b"OPTIONS * HTTP/1.1"


def test_fields_keep_their_order_their_case_and_their_bytes(site: Site, behind: Scripted) -> None:
    fields = [
        *[(b"x-lower", b"1"), (b"X-UPPER", b"2"), (b"X-Twice", b"a"), (b"Cookie", b"c=\xe9\xff"), (b"X-Twice", b"b")],
        *[(b"X-Utf8", "\u00fc\u4e16".encode()), (b"X-Empty", b""), (b"Authorization", b"Basic abc:=")],
        *[(b"Range", b"bytes=1-2"), (b"If", b"(<opaquelocktoken:1>)"), (b"Accept-Encoding", b"br, gzip")],
        *[(b"Destination", b"http://nas/dav/b%20c"), (b"Referer", b"http://elsewhere/"), (b"X-Long", b"z" * 16_000)],
    ]
    head = passed_on(site, behind, b"".join(name + b": " + value + b"\r\n" for name, value in fields))
    assert head.fields[: len(fields) + 1] == [(b"Host", b"nas"), *fields]


def test_what_belongs_to_a_hop_ends_at_it(site: Site, behind: Scripted) -> None:
    lines = (
        b"Connection: X-Named, keep-alive,X-Other\r\nX-Named: 1\r\nx-other: 2\r\nX-Stays: 3\r\nKeep-Alive: 5\r\n"
        b"Proxy-Connection: x\r\nTE: gzip, deflate\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
    )
    head = passed_on(site, behind, lines)
    assert head[b"X-Stays"] == b"3"
    for name in (b"Connection", b"X-Named", b"X-Other", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Upgrade"):
        assert name not in head, name
    assert b"HTTP2-Settings" not in head


def test_connection_cannot_take_away_what_makes_the_request(site: Site, behind: Scripted) -> None:
    head = passed_on(
        site, behind, b"Connection: Host, Authorization, Cookie, X-Forwarded-For\r\nAuthorization: a\r\nCookie: b\r\n"
    )
    assert (head[b"Host"], head[b"Authorization"], head[b"Cookie"]) == (b"nas", b"a", b"b")
    assert head[b"X-Forwarded-For"] == b"127.0.0.1"


def test_trailers_are_asked_for_when_the_client_takes_them(site: Site, behind: Scripted) -> None:
    head = passed_on(site, behind, b"TE: gzip;q=0.5, Trailers\r\n")
    assert (head[b"TE"], head[b"Connection"]) == (b"trailers", b"TE")


def test_the_client_is_introduced_and_cannot_make_itself_another(site: Site, behind: Scripted) -> None:
    lies = (
        b"X-Forwarded-For: 192.0.2.1\r\nX-FORWARDED-PROTO: https\r\nX_Forwarded_Host: evil\r\n"
        b"X-Forwarded-Prefix: /a\r\nForwarded: for=192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n"
    )
    head = passed_on(site, behind, lies)
    said = {name: value for name, value in head.fields if b"forward" in name.lower() or b"real" in name.lower()}
    assert said == {b"X-Forwarded-For": b"127.0.0.1", b"X-Forwarded-Proto": b"http", b"X-Forwarded-Host": b"nas"}


def test_we_are_named_in_via_behind_others(site: Site, behind: Scripted) -> None:
    head = passed_on(site, behind, b"Via: 1.0 fred\r\n")
    first, ours = head.all(b"via")
    assert first == b"1.0 fred"
    assert ours.startswith(b"1.1 ocm-gateway-")


def test_what_comes_round_to_us_again_is_refused(site: Site, behind: Scripted) -> None:
    ours = passed_on(site, behind, b"")[b"Via"]
    behind.plays(lambda talk: None)
    for via in (ours, b"1.0 a, " + ours + b", 1.1 b"):
        answer = asked(site, b"GET / HTTP/1.1\r\nHost: nas\r\nConnection: close\r\nVia: " + via + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 508 ")
        assert b'"UPSTREAM_LOOP"' in answer
    assert behind.connections == 0


def test_old_clients_are_served_without_what_they_do_not_know(site: Site, behind: Scripted) -> None:
    got = gets(behind)
    answer = asked(site, b"GET /old HTTP/1.0\r\nExpect: 100-continue\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    ((head, _),) = got
    assert head.first == b"GET /old HTTP/1.1"
    assert head[b"Host"] == site.server.encode()
    assert head[b"Via"].startswith(b"1.0 ")
    assert b"Expect" not in head
    assert b"Upgrade" not in head
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine"


# --- bodies ---------------------------------------------------------------------------------------------------------


def test_a_body_of_known_length_arrives_as_one(site: Site, behind: Scripted) -> None:
    got = gets(behind, lambda talk: talk.exactly(5))
    answer = asked(
        site, b"PUT /a HTTP/1.1\r\nHost: nas\r\nConnection: close\r\nContent-Length: 005\r\n\r\n\x00\xff\r\n!"
    )
    ((head, body),) = got
    assert (head[b"Content-Length"], body) == (b"5", b"\x00\xff\r\n!")
    assert b"Transfer-Encoding" not in head
    assert answer.endswith(b"fine")


def test_an_empty_body_is_still_a_body(site: Site, behind: Scripted) -> None:
    assert passed_on(site, behind, b"Content-Length: 0\r\n", b"POST /a HTTP/1.1")[b"Content-Length"] == b"0"
    assert b"Content-Length" not in passed_on(site, behind, b"", b"POST /a HTTP/1.1")


def test_chunks_are_made_anew(site: Site, behind: Scripted) -> None:
    got = gets(behind, lambda talk: talk.until(b"0\r\n\r\n"))
    request = b"PUT /a HTTP/1.1\r\nHost: nas\r\nConnection: close\r\nTransfer-Encoding: Chunked\r\n\r\n"
    asked(site, request + b'0003;ext="GET / HTTP/1.1"\r\nabc\r\n2\r\nde\r\n000\r\n\r\n')
    ((head, body),) = got
    assert head.all(b"Transfer-Encoding") == [b"chunked"]
    assert b"ext" not in body
    assert b"".join(wire.body(wire.Framing.CHUNKED).feed(body)) == b"abcde"


def test_a_body_flows_while_the_answer_does(site: Site, behind: Scripted) -> None:
    """Neither side has to end before the other one begins."""

    def echo(talk: Talk) -> None:
        talk.head()
        talk.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(talk.until(b"\r\n"), 16):
            piece = talk.exactly(size + 2)
            talk.send(b"%x\r\n" % size + piece)
        talk.until(b"\r\n")
        talk.send(b"0\r\n\r\n")

    behind.plays(echo)
    with call(site.port) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: nas\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert client.head().status == 200
        for word in (b"one", b"three", b"fifteen"):
            client.send(b"%x\r\n%b\r\n" % (len(word), word))
            assert client.until(word + b"\r\n") == b"%x\r\n%b\r\n" % (len(word), word)
        client.send(b"0\r\n\r\n")
        assert client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


def test_the_body_waits_until_the_server_invites_it(site: Site, behind: Scripted) -> None:
    def inviting(talk: Talk) -> None:
        assert talk.head()[b"Expect"] == b"100-continue"
        talk.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        assert talk.exactly(3) == b"abc"
        talk.send(FINE)

    behind.plays(inviting)
    with call(site.port) as client:
        client.send(b"PUT /a HTTP/1.1\r\nHost: nas\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.head().raw == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        assert client.head().raw == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        assert client.head().status == 200


def test_a_body_that_is_refused_is_not_invited(site: Site, behind: Scripted) -> None:
    def refusing(talk: Talk) -> None:
        talk.head()
        talk.send(REFUSED)
        assert talk.rest() == b""

    behind.plays(refusing)
    with call(site.port) as client:
        client.send(b"PUT /a HTTP/1.1\r\nHost: nas\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        head = client.head()
        assert (head.status, head[b"Connection"]) == (413, b"close")
        assert client.exactly(2) == b"no"


def test_an_answer_that_comes_before_the_body_is_complete_gets_through(site: Site, behind: Scripted) -> None:
    def refusing(talk: Talk) -> None:
        talk.head()
        talk.exactly(1)
        talk.send(REFUSED)

    behind.plays(refusing)
    with call(site.port) as client:
        client.send(b"PUT /a HTTP/1.1\r\nHost: nas\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000)
        assert client.head().status == 413
        assert client.exactly(2) == b"no"


SMUGGLING = [
    b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"Content-Length: +3\r\n\r\nabc",
    b"Content-Length: 3, 3\r\n\r\nabc",
    b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n",
    b"X: a\rTransfer-Encoding: chunked\r\n\r\n",
    b"X: a\x00b\r\n\r\n",
    b"X y: a\r\n\r\n",
    b"Host: other\r\n\r\n",
]


@pytest.mark.parametrize("lines", SMUGGLING, ids=repr)
def test_what_two_servers_could_read_differently_is_passed_to_neither(
    site: Site, behind: Scripted, lines: bytes
) -> None:
    behind.plays(lambda talk: None)
    answer = asked(site, b"POST /a HTTP/1.1\r\nHost: nas\r\nConnection: close\r\n" + lines)
    assert answer[9:12] in (b"400", b"501"), answer
    assert behind.connections == 0


BROKEN_CHUNKS = [
    b"3\nabc\r\n",
    b"0x3\r\nabc\r\n",
    b"3 \nabc",
    b"3\r\nabcd\r\n",
    b"-1\r\n",
    b"\r\n",
    b"3;a\nb\r\nabc\r\n",
    b"g\r\n",
]


@pytest.mark.parametrize("chunks", BROKEN_CHUNKS, ids=repr)
def test_broken_chunks_never_make_a_complete_body(site: Site, behind: Scripted, chunks: bytes) -> None:
    seen: list[bytes] = []

    def listening(talk: Talk) -> None:
        talk.head()
        try:
            while piece := talk.some():
                seen.append(piece)
        except OSError:
            """Cut, as it should be."""

    behind.plays(listening)
    answer = asked(site, b"PUT /a HTTP/1.1\r\nHost: nas\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert answer[9:12] == b"400", answer
    behind.finish()
    assert b"0\r\n\r\n" not in b"".join(seen)


def test_requests_in_a_row_are_answered_in_their_order(site: Site, behind: Scripted) -> None:
    got = gets(behind)
    with call(site.port) as client:
        requests = [b"GET /%d HTTP/1.1\r\nHost: nas\r\n\r\n" % number for number in range(20)]
        requests[10] = b"GET /.well-known/ocm HTTP/1.1\r\nHost: nas\r\n\r\n"
        client.send(b"".join(requests))
        for number in range(20):
            head = client.head()
            body = client.exactly(int(head[b"Content-Length"]))
            assert (body == b"fine") == (number != 10)
    assert [head.first.split()[1] for head, _ in got] == [b"/%d" % number for number in range(20) if number != 10]


# --- what aiohttp's server keeps to itself --------------------------------------------------------------------------


@pytest.mark.parametrize("method", [b"VERSION-CONTROL", b"BASELINE-CONTROL", b"FOO", b"get"])
def test_a_method_that_the_parser_does_not_know_is_refused_and_not_passed_on(
    site: Site, behind: Scripted, method: bytes
) -> None:
    behind.plays(lambda talk: None)
    answer = asked(site, method + b" /x HTTP/1.1\r\nHost: nas\r\nConnection: close\r\n\r\n")
    assert answer[9:12] == b"400"
    assert behind.connections == 0


def test_trailers_of_a_request_are_dropped_and_the_body_is_whole(site: Site, behind: Scripted) -> None:
    got = gets(behind, lambda talk: talk.until(b"0\r\n\r\n"))
    request = (
        b"PUT /a HTTP/1.1\r\nHost: nas\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    )
    assert asked(site, request + b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n").endswith(b"fine")
    ((_, body),) = got
    assert body == b"3\r\nabc\r\n0\r\n\r\n"


def test_a_target_that_is_not_ascii_is_refused_and_not_passed_on(site: Site, behind: Scripted) -> None:
    behind.plays(lambda talk: None)
    assert asked(site, b"GET /\xc3\xa9 HTTP/1.1\r\nHost: nas\r\nConnection: close\r\n\r\n")[9:12] == b"400"
    assert behind.connections == 0


# --- ends -----------------------------------------------------------------------------------------------------------


def ended(behind: Scripted, begin: bytes) -> threading.Event:
    """Let the server send `begin` as an answer and tell when the gateway has hung up."""
    gone = threading.Event()

    def script(talk: Talk) -> None:
        talk.head()
        talk.send(begin)
        try:
            talk.rest()
        except OSError:
            """Also an end."""
        gone.set()

    behind.plays(script)
    return gone


@pytest.mark.parametrize(
    "begin", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"], ids=repr
)
def test_a_client_that_goes_away_ends_the_request(site: Site, behind: Scripted, begin: bytes) -> None:
    gone = ended(behind, begin)
    begun = time.monotonic()
    with call(site.port) as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: nas\r\n\r\n")
        time.sleep(0.2)
    assert gone.wait(IDLE)
    assert time.monotonic() - begun < IDLE


def test_a_client_that_stops_in_the_middle_of_its_body_cuts_the_request(site: Site, behind: Scripted) -> None:
    gone = ended(behind, b"")
    with call(site.port) as client:
        client.send(b"PUT /a HTTP/1.1\r\nHost: nas\r\nContent-Length: 10\r\n\r\nabc")
        time.sleep(0.2)
    assert gone.wait(IDLE)


def test_a_client_that_is_silent_for_too_long_is_told_so(site: Site, behind: Scripted) -> None:
    gone = ended(behind, b"")
    with call(site.port) as client:
        client.send(b"PUT /a HTTP/1.1\r\nHost: nas\r\nContent-Length: 10\r\n\r\nabc")
        assert client.head().status == 400
        assert b'"MALFORMED_BODY"' in client.until(b"}")
    assert gone.wait(IDLE)


def test_a_long_upload_is_not_an_idle_one(site: Site, behind: Scripted) -> None:
    got = gets(behind, lambda talk: talk.exactly(8))
    with call(site.port) as client:
        client.send(b"PUT /a HTTP/1.1\r\nHost: nas\r\nContent-Length: 8\r\n\r\n")
        for _ in range(8):
            time.sleep(IDLE / 5)
            client.send(b"x")
        assert client.head().status == 200
    eventually(lambda: [body for _, body in got], [b"x" * 8])
