"""Connections to the server are used again, and never so that a request is lost or another client's log-in is used."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from sites import Site

from gateway.upstream.connection import KEEP_TIME

from .talking import Scripted, Talk, call

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"


def numbering(behind: Scripted, extra: bytes = b"") -> None:
    """Let the server answer with the number of the connection, request after request."""

    def script(talk: Talk) -> None:
        number = behind.connections
        while first := talk.some():
            talk.give_back(first)
            head = talk.head()
            if b"Content-Length" in head:
                talk.exactly(int(head[b"Content-Length"]))
            talk.send(ANSWER[:-2] + extra + b"\r\n%d" % number)

    behind.plays(script)


def asks(client: Talk, method: bytes = b"GET", lines: bytes = b"", body: bytes = b"") -> bytes:
    client.send(method + b" /x HTTP/1.1\r\nHost: nas\r\n" + lines + b"\r\n" + body)
    assert client.head().status == 200
    return client.exactly(1)


@pytest.fixture(autouse=True)
def _nothing_is_kept(behind: Scripted) -> Iterator[None]:
    """End what a test has left open; the gateway finds out by itself."""
    yield
    behind.hang_up()


def test_requests_of_different_clients_share_connections(site: Site, behind: Scripted) -> None:
    numbering(behind)
    answers = []
    for _ in range(5):
        with call(site.port) as client:
            answers += [asks(client), asks(client, b"PROPFIND")]
    assert answers == [b"1"] * 10


def test_what_may_not_be_sent_twice_never_goes_where_it_could_be_lost(site: Site, behind: Scripted) -> None:
    numbering(behind)
    with call(site.port) as client:
        assert asks(client) == b"1"
        assert asks(client, b"POST", b"Content-Length: 1\r\n", b"a") == b"2"
        assert asks(client, b"DELETE") == b"3"
        assert asks(client, b"PUT", b"Content-Length: 1\r\n", b"a") == b"4"
        assert asks(client, b"PROPFIND", b"Content-Length: 1\r\n", b"a") == b"5"


def test_a_connection_that_the_server_has_closed_meanwhile_is_not_noticed_by_the_client(
    site: Site, behind: Scripted
) -> None:

    def once(talk: Talk) -> None:
        talk.head()
        talk.send(ANSWER + b"a")
        talk.some()  # and hang up on the second request, as a server whose time is over

    behind.plays(once)
    with call(site.port) as client:
        for _ in range(3):
            assert asks(client) == b"a"
    assert behind.connections == 3


def test_bytes_behind_an_answer_belong_to_no_other_request(site: Site, behind: Scripted) -> None:
    answers = iter([ANSWER + b"aHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nEVIL"])

    def script(talk: Talk) -> None:
        talk.head()
        talk.send(next(answers, ANSWER + b"b"))

    behind.plays(script)
    with call(site.port) as client:
        assert [asks(client), asks(client)] == [b"a", b"b"]


def test_a_connection_that_a_client_has_authenticated_is_its_own(site: Site, behind: Scripted) -> None:
    numbering(behind)
    negotiating = b"Authorization: Negotiate YIIabc\r\n"
    with call(site.port) as alice, call(site.port) as bob:
        assert asks(alice, lines=negotiating) == b"1"
        assert asks(bob) == b"2"
        assert asks(bob, lines=negotiating) == b"3"
        assert asks(alice, b"POST", negotiating + b"Content-Length: 1\r\n", b"a") == b"1"
        assert asks(alice, lines=b"Authorization: NTLM TlRM\r\n") == b"1"
        assert asks(alice, b"POST", b"Content-Length: 1\r\n", b"a") == b"1"
        assert asks(bob) == b"3"
        assert asks(bob, lines=negotiating) == b"3"


def test_a_connection_on_which_the_server_begins_such_a_log_in_is_not_shared(site: Site, behind: Scripted) -> None:
    numbering(behind, b"WWW-Authenticate: Basic realm=x, NTLM\r\n")
    with call(site.port) as alice, call(site.port) as bob:
        assert [asks(alice), asks(bob), asks(bob)] == [b"1", b"2", b"2"]
        assert asks(bob, lines=b"Authorization: NTLM TlRM\r\n") == b"2"


def test_a_connection_is_kept_for_a_moment_only(site: Site, behind: Scripted) -> None:
    """Apache closes after 5 s; what is closed by us before that is never found closed."""
    begun = time.monotonic()

    def script(talk: Talk) -> None:
        talk.head()
        talk.send(ANSWER + b"a")
        assert talk.rest() == b""
        assert KEEP_TIME <= time.monotonic() - begun < 2 * KEEP_TIME + 1

    behind.plays(script)
    with call(site.port) as client:
        assert asks(client) == b"a"
        behind.finish()
